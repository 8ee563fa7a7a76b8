"""Looking after several descriptors on one thread, and once more before sleeping: waking up costs more than our work.

Each descriptor has a task that sleeps until it is readable. The one that wakes up looks after *all* of them by plain
calls, round after round, until nothing came for `SPIN_SECONDS`: a request that goes out on one descriptor and is
answered on another costs no trip through the scheduler and no sleep. trio's other tasks get a turn when somebody says
that one of them waits (`attend`), and every `TURN_SECONDS` in any case.

Spinning is worth it only where the next piece of work comes soon. Where it did not some times in a row (an application
that thinks between its requests), we sleep at once and only now and then try again. Between two looks in vain the
processor is offered to others (without that, the scheduler lets us spin on while an application waits for its turn); if
somebody took it, we sleep. An idle process never spins.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TypeAlias

import trio

SPIN_SECONDS = 100e-6
"""How long to look again after the last piece of work. A round trip to an application or over the network takes 20 to
80 us, so what comes next usually comes within it."""

TURN_SECONDS = 500e-6
"""The longest that other tasks wait for their turn while there is work."""

_OTHERS_TURN = 20e-6  # seconds that offering the processor may take; longer: somebody had work for it
_VAIN = 8
_TRY_AGAIN = 32  # sleeps after which it is tried again

Look: TypeAlias = Callable[[], "int | bool | None"]
"""Takes what is there without waiting. True (or a count) if there was something; None: enough, `poll` returns."""


class _Source:
    __slots__ = ("error", "look", "over", "scope")

    def __init__(self, look: Look) -> None:
        self.look = look
        self.scope = trio.CancelScope()
        self.over = False
        self.error: BaseException | None = None


class _Poller:
    """All that is looked after in one run of trio."""

    def __init__(self) -> None:
        self._sources: tuple[_Source, ...] = ()
        self._awake = False
        self._vain = 0
        self._slept = 0
        self.attention = False

    def add(self, source: _Source) -> None:
        self._sources = (*self._sources, source)

    def remove(self, source: _Source) -> None:
        self._sources = tuple(other for other in self._sources if other is not source)

    async def work(self) -> None:
        """Looks after all sources until there is nothing to do. Only one task does at a time."""
        if self._awake:
            return
        self._awake = True
        try:
            await self._work()
        finally:
            self._awake = False

    async def _work(self) -> None:
        clock = time.perf_counter
        patience = self._patience()
        now = clock()
        turn = now + TURN_SECONDS
        until = now + patience
        found = 0  # rounds with work, after one without
        while True:
            if self._look_at_all():
                now = clock()
                if until - now < patience:
                    found += 1
                until = now + patience
            else:
                now = clock()
                if now >= until:
                    break
                os.sched_yield()
                if clock() - now > _OTHERS_TURN:
                    until = now  # no more, unless they had something for us
            if self.attention or now >= turn:
                self.attention = False
                await trio.lowlevel.checkpoint()
                turn = clock() + TURN_SECONDS
        if patience:
            self._vain = 0 if found > 1 else self._vain + 1

    def _patience(self) -> float:
        if self._vain < _VAIN:
            return SPIN_SECONDS
        self._slept += 1
        return 0.0 if self._slept % _TRY_AGAIN else SPIN_SECONDS

    def _look_at_all(self) -> bool:
        worked = False
        for source in self._sources:
            try:
                taken = source.look()
            except Exception as error:
                source.error = error
                taken = None
            if taken:
                worked = True
            elif taken is None:
                source.over = True
                self.remove(source)
                source.scope.cancel()  # wakes its task
        return worked


_poller: trio.lowlevel.RunVar[_Poller] = trio.lowlevel.RunVar("hastfs.poller")


def _current() -> _Poller:
    try:
        return _poller.get()
    except LookupError:
        poller = _Poller()
        _poller.set(poller)
        return poller


async def poll(fd: int | socket.socket, look: Look) -> None:
    """Calls `look` whenever `fd` may be readable, until it returns None; raises what it raises.

    `look` runs in whichever task is awake: it must neither wait nor rely on the current task.
    """
    poller = _current()
    source = _Source(look)
    poller.add(source)
    try:
        with source.scope:
            await poller.work()
            while not source.over:
                await trio.lowlevel.wait_readable(fd)
                await poller.work()
    finally:
        poller.remove(source)
    if source.error is not None:
        raise source.error


def attend() -> None:
    """A task was woken that should not have to wait: whoever polls lets it run after this round."""
    _current().attention = True
