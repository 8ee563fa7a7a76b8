"""What hastd's answers mean to whoever asked: its refusals as errors."""

from __future__ import annotations

import os

from hastfs.errors import HastError
from hastfs.protocol.control import Reply


class DaemonError(HastError):
    """hastd cannot carry the request out. Its number is the exit code where that is a sysexits one."""


def refusal(reply: Reply) -> DaemonError:
    """Of a request that failed as a whole."""
    ours = reply.error >= os.EX_USAGE and reply.errmsg
    error = DaemonError(reply.errmsg if ours else f"Error {reply.error} received from hastd.")
    error.exit_code = reply.error if ours else os.EX_SOFTWARE
    return error
