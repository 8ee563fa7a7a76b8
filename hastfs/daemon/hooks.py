"""The `exec` program of hast.conf(5): run as `PATH EVENT RESOURCE [ARGS]`, never waited for by anyone.

What happens to one resource is told in the order in which it happened: each program waits for the one before it, but
not for long, because news that are late are of no use. Resources do not wait for one another. A program that fails is
logged as an error; one that takes long is reported every minute and left alone: only whoever wrote it knows whether it
may be killed.

Programs that are asked something (`fence`) are waited for, by whoever asks, and killed with all that they started if
they take too long.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

log = logging.getLogger(__name__)

REPORT_INTERVAL = 60.0
"""Seconds after which, and every so often again, a running program is reported (hastd(8))."""

PATIENCE = 5.0
"""Seconds a program has until the next event of its resource is told all the same."""

MAX_RUNNING = 16
"""Programs of one resource at a time: then even the patient ones wait."""

MAX_WAITING = 100
"""Events of one resource that are not yet told; further ones are dropped with an error in the log."""


@dataclass(frozen=True, slots=True)
class _Call:
    path: str
    words: tuple[str, ...]  # EVENT RESOURCE [ARGS]

    def __str__(self) -> str:
        return " ".join((self.path, *self.words))


class _Queue:
    """What is to be told of one resource."""

    def __init__(self) -> None:
        self.calls: deque[_Call] = deque()
        self.running = 0
        self.changed = trio.Event()

    def wake(self) -> None:
        """There is one more call, or one program less."""
        self.changed.set()
        self.changed = trio.Event()


class Hooks:
    """Runs hooks while `run` is running."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._asked: list[str] = []  # the resources whose programs are asked something now
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    def fire(self, path: str | None, event: str, resource: str, *arguments: str) -> None:
        """Tell the program at `path`, if there is one. Returns at once."""
        if path is None:
            return
        queue = self._queues.setdefault(resource, _Queue())
        if len(queue.calls) >= MAX_WAITING:
            waiting = len(queue.calls)
            log.error("Hook dropped, %d are waiting already (cmd=[%s %s %s]).", waiting, path, event, resource)
            return
        queue.calls.append(_Call(path, (event, resource, *arguments)))
        queue.wake()
        if self._idle.is_set():
            self._idle = trio.Event()
        self._wake.set()

    async def ask(
        self, path: str, words: Sequence[str], environment: Mapping[str, str], *, within: float
    ) -> int | None:
        """The exit code of the program at `path`, called with `words` (EVENT RESOURCE [ARGS]) and `environment` beside
        our own. None, and the log says why, if it has none within so many seconds; it does not run any more then.
        """
        self._asked.append(words[1])
        if self._idle.is_set():
            self._idle = trio.Event()
        try:
            return await _ask(_Call(path, tuple(words)), environment, within)
        finally:
            self._asked.remove(words[1])
            self._settle()

    async def run(self) -> None:
        """Runs until cancelled; programs that are running then are ended."""
        busy: set[str] = set()
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                for resource in self._queues.keys() - busy:
                    busy.add(resource)
                    nursery.start_soon(self._drain, resource, busy)

    @property
    def busy(self) -> list[str]:
        """The resources whose programs are running, or about to."""
        return sorted({*self._queues, *self._asked})

    async def finished(self) -> None:
        """Waits until everything that was fired has run."""
        while not self._idle.is_set():
            await self._idle.wait()

    async def _drain(self, resource: str, busy: set[str]) -> None:
        queue = self._queues[resource]
        while queue.calls:
            async with trio.open_nursery() as nursery:
                await self._tell(queue, nursery)
        del self._queues[resource]
        busy.discard(resource)
        self._settle()

    def _settle(self) -> None:
        if not self.busy:
            self._idle.set()

    async def _tell(self, queue: _Queue, nursery: trio.Nursery) -> None:
        while queue.calls or queue.running:
            if not queue.calls or queue.running >= MAX_RUNNING:
                await queue.changed.wait()
                continue
            with trio.move_on_after(PATIENCE):
                await (await nursery.start(self._run, queue, queue.calls.popleft())).wait()

    async def _run(
        self, queue: _Queue, call: _Call, *, task_status: trio.TaskStatus[trio.Event] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hands out an event that is set when the program has ended."""
        ended = trio.Event()
        queue.running += 1
        task_status.started(ended)
        try:
            await _run(call)
        finally:
            queue.running -= 1
            ended.set()
            queue.wake()


async def _run(call: _Call) -> None:
    try:
        process = await trio.lowlevel.open_process(
            [call.path, *call.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the terminal is meant for hastd
        )
    except OSError as error:
        log.error("Hook cannot be run (cmd=[%s]): %s.", call, error.strerror)
        return
    try:
        await _wait(process, call)
    finally:
        if process.returncode is None:
            process.kill()
    _report_end(process, call)


async def _ask(call: _Call, environment: Mapping[str, str], within: float) -> int | None:
    try:
        process = await trio.lowlevel.open_process(
            [call.path, *call.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    except OSError as error:
        log.error("Hook cannot be run (cmd=[%s]): %s.", call, error.strerror)
        return None
    try:
        with trio.move_on_after(within):
            await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # a group of its own: it and all that it started
            with trio.CancelScope(shield=True):
                await process.wait()
            log.error("Hook killed: it took longer than %g s, or is not needed any more (cmd=[%s]).", within, call)
    code = process.returncode
    return code if code is not None and code >= 0 else None


async def _wait(process: trio.Process, call: _Call) -> None:
    started = trio.current_time()
    while process.returncode is None:
        with trio.move_on_after(REPORT_INTERVAL):
            await process.wait()
            return
        seconds = trio.current_time() - started
        log.warning("Hook is running for %.0f seconds (pid=%d, cmd=[%s]).", seconds, process.pid, call)


def _report_end(process: trio.Process, call: _Call) -> None:
    code = process.returncode
    if code is not None and code < 0:
        log.error("Hook killed (pid=%d, signal=%d, cmd=[%s]).", process.pid, -code, call)
    elif code:
        log.error("Hook exited ungracefully (pid=%d, exitcode=%d, cmd=[%s]).", process.pid, code, call)
    else:
        log.debug("Hook exited gracefully (pid=%d, cmd=[%s]).", process.pid, call)
