"""hastctl stop: ends hastd in order, and waits until it is gone."""

from __future__ import annotations

from hastfs.cli.client import Client, wait_for_end
from hastfs.cli.commands.role import answer_within
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.errors import SystemFailure
from hastfs.protocol.control import ControlCommand, Request

ENDS_WITHIN = 30.0
"""Seconds from hastd's answer, by when nothing is in service any more, to its end: hooks may still be running."""


def run(options: Options, config: Config) -> int:
    with Client(config.control, answer_within(config)) as client:
        pid = client.daemon_pid
        client.ask(Request(ControlCommand.STOP, force=options.force))
    if not wait_for_end(pid, ENDS_WITHIN):
        raise SystemFailure(f"hastd (pid {pid}) is out of service, but does not end within {ENDS_WITHIN:g} s.")
    return 0
