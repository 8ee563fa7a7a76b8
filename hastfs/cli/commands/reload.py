"""hastctl reload: has hastd read its hast.conf again."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.commands.role import answer_within
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ControlCommand, Request

_ROLE_CHANGES = 3
"""That hastd may have to wait for, one after the other: one that is under way, and leaving and taking a role again."""


def run(options: Options, config: Config) -> int:
    """Returns when the new configuration is in force. hastd reads the file that it was started with."""
    with Client(config.control, _ROLE_CHANGES * answer_within(config)) as client:
        client.ask(Request(ControlCommand.RELOAD, force=options.force))
    output.debug(1, options.debug, "Configuration reloaded.")
    return 0
