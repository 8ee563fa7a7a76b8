"""Where the monitor's knowledge comes from: hastd, by way of `hastfs.client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from hastfs.cli import table
from hastfs.cli.monitor import chronicle
from hastfs.cli.monitor.scene import Happening
from hastfs.cli.table import Look
from hastfs.client import Client


class Source:
    """Of the resources `names`. Raises HastError if hastd does not answer."""

    def __init__(self, hastd: Client, names: Sequence[str]) -> None:
        self._hastd = hastd
        self._names = names

    async def looks(self) -> list[Look]:
        """One at each."""
        return [table.look(one.status, one.status.details) for one in await self._hastd.status(*self._names)]

    async def dirty_map(self, name: str, cells: int) -> tuple[int, ...]:
        """Of one resource: that of all would be too much to ask every second."""
        return next((one.details.dirty_map for one in await self._hastd.status(name, cells=cells)), ())

    async def listen(self) -> AsyncGenerator[Happening, None]:
        """What happens from now on, until hastd ends."""
        async with aclosing(self._hastd.events(*self._names)) as events:
            async for news in events:
                if (event := chronicle.happening(news)) is not None:
                    yield event
