"""The monitor at work: asks hastd, listens to keys and signals, and draws whenever something is new (trio)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Final, Protocol

import trio
from rich.text import Text

from hastfs.cli.monitor import keys, view
from hastfs.cli.monitor.scene import Scene
from hastfs.cli.monitor.source import Source
from hastfs.errors import HastError


class Canvas(Protocol):
    """What is drawn on: a `Terminal`, or something that remembers."""

    ascii_only: bool

    @property
    def size(self) -> tuple[int, int]: ...

    def taken(self) -> AbstractContextManager[None]: ...

    def draw(self, lines: Sequence[Text]) -> None: ...

    async def typed(self) -> bytes: ...


PERIOD: Final = 1.0
"""Seconds from look to look."""

_FRAME: Final = 0.05
"""Seconds between two drawings at least: events may come by the hundred."""

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL: Final = 128


class Monitor:
    """Until `run` returns, the terminal is the monitor's."""

    def __init__(self, terminal: Canvas, scene: Scene, source: Source) -> None:
        self._terminal = terminal
        self._scene = scene
        self._source = source
        self._exit_code = os.EX_OK
        self._over = trio.CancelScope()
        self._changed = trio.Event()

    async def run(self) -> int:
        """Returns the exit code: 0, or 128 and the number of the signal that ended it.

        Raises HastError if hastd does not answer at all. If it ends later on, it is waited for.
        """
        await self._look()
        while True:
            with self._terminal.taken(), trio.CancelScope() as self._over:
                await self._work()
            if not self._suspended():
                return self._exit_code

    def _suspended(self) -> bool:
        """Was it ^Z? Then returns when the shell has it go on."""
        if self._exit_code != _BY_SIGNAL + signal.SIGTSTP:
            return False
        self._exit_code = os.EX_OK
        os.kill(os.getpid(), signal.SIGSTOP)
        return True

    async def _work(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._obey)
            nursery.start_soon(self._read_keys, nursery)
            nursery.start_soon(self._keep_looking)
            nursery.start_soon(self._keep_listening)
            nursery.start_soon(self._keep_drawing)
            self._draw()

    async def _obey(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*_ENDS, signal.SIGTSTP, signal.SIGWINCH) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGWINCH:
                    self._draw()
                else:
                    self._end(_BY_SIGNAL + number)

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._over.cancel()

    async def _read_keys(self, nursery: trio.Nursery) -> None:
        while True:
            if not (data := await self._terminal.typed()):
                return self._end(_BY_SIGNAL + signal.SIGHUP)
            before = self._scene.name
            for key in keys.read(data):
                if not self._scene.press(key):
                    return self._end(os.EX_OK)
            self._draw()
            if self._scene.name != before:
                nursery.start_soon(self._refresh, self._look_at_map)

    async def _keep_looking(self) -> None:
        while True:
            await trio.sleep(PERIOD)
            await self._refresh(self._look)

    async def _refresh(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except HastError as error:
            self._scene.lost(str(error))
        self._draw()

    async def _look(self) -> None:
        looks = await self._source.looks()
        self._scene.looked(looks, now=time.time(), at=trio.current_time())
        await self._look_at_map()

    async def _look_at_map(self) -> None:
        if (name := self._scene.name) is not None:
            cells = view.cells(*self._terminal.size)
            self._scene.mapped(name, await self._source.dirty_map(name, cells))

    async def _keep_listening(self) -> None:
        while True:
            try:
                async with aclosing(self._source.listen()) as events:
                    async for event in events:
                        self._scene.happened(event)
                        self._draw()
            except HastError:
                pass  # the next look says it
            await trio.sleep(PERIOD)

    def _draw(self) -> None:
        """Soon."""
        self._changed.set()

    async def _keep_drawing(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            width, height = self._terminal.size
            lines = view.render(self._scene, width=width, height=height, ascii_only=self._terminal.ascii_only)
            self._terminal.draw(lines)
            await trio.sleep(_FRAME)
