"""The monitor at work: asks hastd, listens to keys and signals, and draws whenever something is new (trio)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import trio

from hastfs.cli.monitor import keys, view
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.monitor.terminal import Terminal
from hastfs.cli.table import Look
from hastfs.errors import HastError

Ask: TypeAlias = Callable[[int], Awaitable[Sequence[Look]]]
"""Looks at the resources, each with so many cells of its map of dirty extents. Raises HastError."""
Listen: TypeAlias = Callable[[], AsyncIterator[Happening]]
"""What happens from now on, until hastd ends. Raises HastError."""

PERIOD: Final = 1.0
"""Seconds from look to look."""

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL: Final = 128


class Monitor:
    """Until `run` returns, the terminal is the monitor's."""

    def __init__(self, terminal: Terminal, scene: Scene, ask: Ask, listen: Listen) -> None:
        self._terminal = terminal
        self._scene = scene
        self._ask = ask
        self._listen = listen
        self._exit_code = os.EX_OK
        self._over = trio.CancelScope()

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
            nursery.start_soon(self._read_keys)
            nursery.start_soon(self._keep_looking)
            nursery.start_soon(self._keep_listening)
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

    async def _read_keys(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(0)
            try:
                data = os.read(0, 1024)
            except OSError:
                data = b""
            if not data:  # hung up
                return self._end(_BY_SIGNAL + signal.SIGHUP)
            for key in keys.read(data):
                if not self._scene.press(key):
                    return self._end(os.EX_OK)
            self._draw()

    async def _keep_looking(self) -> None:
        while True:
            await trio.sleep(PERIOD)
            try:
                await self._look()
            except HastError as error:
                self._scene.lost(str(error))
            self._draw()

    async def _look(self) -> None:
        looks = await self._ask(view.cells(*self._terminal.size))
        self._scene.looked(looks, now=time.time(), at=trio.current_time())

    async def _keep_listening(self) -> None:
        while True:
            try:
                async for event in self._listen():
                    self._scene.happened(event)
                    self._draw()
            except HastError:
                pass  # the next look says it
            await trio.sleep(PERIOD)

    def _draw(self) -> None:
        width, height = self._terminal.size
        lines = view.render(self._scene, width=width, height=height, ascii_only=self._terminal.ascii_only)
        self._terminal.draw(lines)
