"""hastctl log-level: shows, or changes, what a running hastd logs."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.commands.status import ANSWER_WITHIN, report_errors
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.model import LogLevel
from hastfs.protocol.control import ControlCommand, Request


def run(options: Options, config: Config) -> int:
    """A line per resource, and one for the rest; nothing if levels are changed."""
    with Client(config.control, ANSWER_WITHIN) as client:
        reply = client.ask(Request(ControlCommand.LOGLEVEL, resources=options.names, level=options.level))
    if options.level is None:
        common = [f"hastd\t{reply.loglevel}"] if reply.loglevel else []
        lines = [f"{each.resource}\t{each.loglevel}" for each in reply.resources if not each.error]
        if common or lines:
            output.say("\n".join(common + lines))
    for each in reply.resources:
        if each.error and not each.errmsg:  # the original's way to say that there is no such resource
            each.errmsg = f"Unknown resource, and no level ({', '.join(level.value for level in LogLevel)})."
    return report_errors(reply.resources)
