"""Looking again for a moment before sleeping: waking up costs more than most of our work."""

from __future__ import annotations

import socket
import time

import trio

SPIN_SECONDS = 100e-6
"""How long to look again after the last piece of work. One round trip to an application or over the network takes 20
to 80 us, so its next request usually comes within it; an idle process does not spin at all."""


class Spin:
    """For a task that polls a descriptor or socket: call `worked` after work, `pause` before every next look."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = 0.0

    def worked(self) -> None:
        """There was something to do: stay awake for `SPIN_SECONDS`."""
        self._until = time.perf_counter() + SPIN_SECONDS

    async def pause(self, source: int | socket.socket) -> None:
        """Lets other tasks run; sleeps until `source` is readable if there was no work lately."""
        if time.perf_counter() < self._until:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(source)
