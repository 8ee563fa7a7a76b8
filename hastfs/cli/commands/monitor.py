"""hastctl monitor: a live view on the whole terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from hastfs import client
from hastfs.cli.monitor.app import Monitor
from hastfs.cli.monitor.scene import Scene
from hastfs.cli.monitor.source import Source
from hastfs.cli.monitor.terminal import Terminal
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ALL


def run(options: Options, config: Config) -> int:
    """Until somebody quits it. DataError for a resource that hast.conf does not have."""
    for name in options.names:
        if name != ALL:
            config.resource(name)
    terminal = Terminal(no_color=options.no_color)
    return trio.run(_monitor, terminal, options.names, config.control)


async def _monitor(terminal: Terminal, names: Sequence[str], control: str) -> int:
    async with client.connect(control=control) as hastd:
        return await Monitor(terminal, Scene(os.uname().nodename), Source(hastd, names)).run()
