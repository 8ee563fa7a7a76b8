"""hastctl monitor: a live view on the whole terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import trio

from hastfs import client
from hastfs.cli import table
from hastfs.cli.monitor import chronicle
from hastfs.cli.monitor.app import Monitor
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.monitor.terminal import Terminal
from hastfs.cli.options import Options
from hastfs.cli.table import Look
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

        async def ask(cells: int) -> list[Look]:
            return [table.look(one.status, one.details) for one in await hastd.status(*names, cells=cells)]

        async def listen() -> AsyncGenerator[Happening, None]:
            async with aclosing(hastd.events(*names)) as events:
                async for news in events:
                    if (event := chronicle.happening(news)) is not None:
                        yield event

        return await Monitor(terminal, Scene(os.uname().nodename), ask, listen).run()
