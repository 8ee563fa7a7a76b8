"""hastctl role: makes a resource primary or secondary, or takes it out of service (init)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.options import Options
from hastfs.config.schema import FENCE_WITHIN, Config
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus

_MARGIN = 10.0
"""Seconds beyond the longest `timeout` of all resources: leaving and taking a role may each wait for the peer, and for
a fence program.
"""


def run(options: Options, config: Config) -> int:
    """Returns when the new role is had; with `--wait` see `_wait`. The first error is the exit code."""
    request = Request(ControlCommand.SETROLE, options.role, options.force, options.names)
    with Client(config.control, answer_within(config)) as client:
        resources = client.ask(request).resources
    errors = [_report(resource, options) for resource in resources]
    if options.wait:
        errors += _wait([resource.resource for resource in resources if not resource.error], options, config)
    return next((error for error in errors if error), 0)


def _wait(names: list[str], options: Options, config: Config) -> Iterator[int]:
    """Until a primary can be used by applications, and a secondary has met its primary. Errors as exit codes."""
    from hastfs.cli.ready import wait_until_ready  # noqa: PLC0415  # only who waits needs it

    assert options.role is not None
    for name, error in wait_until_ready(options.role, names, config, options.timeout):
        output.error(str(error), name)
        yield error.exit_code


def answer_within(config: Config) -> float:
    """Seconds until hastd must have answered an order that changes roles."""
    waits = (resource.timeout + (FENCE_WITHIN if resource.fence else 0) for resource in config.resources.values())
    return max(waits, default=0) + _MARGIN


def _report(resource: ResourceStatus, options: Options) -> int:
    name = resource.resource
    if resource.error >= os.EX_USAGE and resource.errmsg:
        output.error(resource.errmsg, name)
    elif resource.error:
        output.warning(f"Received error {resource.error} from hastd.", name)
    elif options.role is not None and resource.role == options.role.word:
        output.debug(2, options.debug, f"Role unchanged ({resource.role}).", name)
    elif options.role is not None:
        output.debug(1, options.debug, f"Role changed from {resource.role} to {options.role.word}.", name)
    return resource.error
