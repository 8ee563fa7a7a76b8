"""What hastd's answers mean to whoever asked: its refusals as errors."""

from __future__ import annotations

import os

from hastfs.errors import HastError
from hastfs.protocol.control import ERROR_NO_RESOURCE, Reply, ResourceStatus


class DaemonError(HastError):
    """hastd cannot carry the request out. Its number is the exit code where that is a sysexits one."""


def refusal(reply: Reply) -> DaemonError:
    """Of a request that failed as a whole."""
    ours = reply.error >= os.EX_USAGE and reply.errmsg
    error = DaemonError(reply.errmsg if ours else f"Error {reply.error} received from hastd.")
    error.exit_code = reply.error if ours else os.EX_SOFTWARE
    return error


class ResourcesRefused(DaemonError):
    """Some resources could not do as they were told; the others did. Has the exit code of the first."""

    def __init__(self, reasons: dict[str, str]) -> None:
        """`reasons`: by resource."""
        super().__init__(" ".join(f"[{name}] {reason}" for name, reason in reasons.items()))
        self.reasons = reasons


def check_each(reply: Reply) -> None:
    """Raises ResourcesRefused if a resource has an error."""
    failed = [resource for resource in reply.resources if resource.error]
    if failed:
        error = ResourcesRefused({resource.resource: reason(resource) for resource in failed})
        error.exit_code = failed[0].error
        raise error


def reason(resource: ResourceStatus) -> str:
    """Why a resource has an error, as far as hastd says it."""
    if resource.error == ERROR_NO_RESOURCE:
        return resource.errmsg or f"Unknown resource {resource.resource}."
    return resource.errmsg or f"Error {resource.error} received from hastd."
