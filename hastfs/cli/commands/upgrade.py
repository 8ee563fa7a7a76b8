"""hastctl upgrade: has hastd go on as the program that is installed now."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.commands.role import answer_within
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ControlCommand, Request

_CHANGES_WITHIN = 80.0
"""Seconds until the program has changed: others' requests, the check and hooks have bounds of their own."""

_ROLE_CHANGES = 3
"""What it takes at the longest until new workers serve everything, and until a role change under way is over."""


def run(options: Options, config: Config) -> int:
    """Returns when all that was in service is served by the new program; otherwise with the first error."""
    with Client(config.control, _CHANGES_WITHIN + _ROLE_CHANGES * answer_within(config)) as client:
        reply = client.ask(Request(ControlCommand.UPGRADE))
    output.say(f"hastd was version {reply.before or 'unknown'}, and is version {reply.version or 'unknown'} now.")
    for resource in reply.resources:
        if resource.error:
            output.error(resource.errmsg or f"Error {resource.error} received from hastd.", resource.resource)
        else:
            output.debug(1, options.debug, f"Served by the new version ({resource.role}).", resource.resource)
    return next((resource.error for resource in reply.resources if resource.error), 0)
