"""hastctl monitor: a live view on the whole terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

import trio

from hastfs import client
from hastfs.cli import table
from hastfs.cli.monitor.app import Monitor
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.monitor.terminal import Terminal
from hastfs.cli.options import Options
from hastfs.cli.table import Look
from hastfs.config.schema import Config


def run(options: Options, config: Config) -> int:
    """Until somebody quits it."""
    terminal = Terminal(no_color=options.no_color)
    return trio.run(_monitor, terminal, options.names, config.control)


async def _monitor(terminal: Terminal, names: Sequence[str], control: str) -> int:
    async with client.connect(control=control) as hastd:

        async def ask(cells: int) -> list[Look]:
            return [table.look(one.status, one.details) for one in await hastd.status(*names, cells=cells)]

        async def listen() -> AsyncIterator[Happening]:
            nothing: tuple[Happening, ...] = ()
            for news in nothing:
                yield news

        return await Monitor(terminal, Scene(os.uname().nodename), ask, listen).run()
