"""One running worker as the supervisor sees it: its process, its link, and how it ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.daemon import workerlink
from hastfs.daemon.adopted import AdoptedProcess
from hastfs.daemon.inheritance import InheritedWorker
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.workerlink import (
    AskStatus,
    AtRisk,
    Configure,
    Configured,
    Detached,
    Failed,
    Fenced,
    HandedOver,
    HandOver,
    Happened,
    LinkEnd,
    LinkError,
    Log,
    Ready,
    StatusAnswer,
    Stop,
    WantFenced,
)
from hastfs.errors import HastError, SystemFailure
from hastfs.resource.events import Event, Notify
from hastfs.resource.remotecache import Risk
from hastfs.resource.status import Status
from hastfs.resource.waiting import plain_errors

log = logging.getLogger(__name__)

STATUS_WITHIN = 2.0
"""Seconds a worker has to say its status; one that does not must not make `hastctl status` wait for long."""

CONFIGURED_WITHIN = 5.0
"""Seconds a worker has to take a new configuration; one that does not is not kept."""

_LAST_WORDS_WITHIN = 1.0  # Seconds; usually the link's end has been read by then.
_LONGEST_COMPLAINT = 200  # Characters of what is said about nonsense.
_EXITS_WITHIN = 5.0  # Seconds, after the worker closed its link or was killed.

_Answer = TypeVar("_Answer", Status, Configured)


class Process(Protocol):
    """What is needed of a `process.WorkerProcess`."""

    pid: int

    @property
    def pidfd(self) -> int | None:
        """None if it has ended."""

    async def wait(self) -> int | None:
        """The exit code, or minus the signal; None if nobody knows."""

    def kill(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended."""

    message: str
    exit_code: int
    temporary: bool
    """A signal, an error of the program or a passing failure: a new worker may do better."""
    handed_over: bool = False
    """A primary's worker left no request unanswered, and the image to its successor."""

    @property
    def in_order(self) -> bool:
        return self.exit_code == 0


class WorkerFailed(HastError):
    """A worker ended before it was ready; carries the worker's own message and exit code."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.message)
        self.exit_code = ended.exit_code if ended.exit_code > 0 else os.EX_SOFTWARE


class Worker:
    """Runs while `run` is running."""

    def __init__(self, process: Process, link: LinkEnd, notify: Notify) -> None:
        self.pid = process.pid
        self.inherited = False
        """It was started by the program before this one."""
        self.ended = trio.Event()
        self.outcome = Ended("", 0, False)
        """Valid once `ended` is set."""
        self.served = 0.0
        """Seconds from being ready to the end; 0 until `ended` is set."""
        self._ready_at: float | None = None
        self._process = process
        self._link = link
        self._notify = notify
        self._ready = trio.Event()
        self.connected = self._syncing = False  # by what the worker told of events, last
        self._failed: Failed | None = None
        self._handed_over = False
        self.detached: bytes | None = None
        """The metadata it left when it parted with its component."""
        self.risk: Risk | None = None
        """What it said last of what only the other node's cache may have."""
        self.wants_fence: Callable[[bool], None] = lambda wanted: None
        """Hears that a primary must not go on before the other node is fenced, or that it does not matter any more."""
        self._told_to_end = False
        self._abandoned = trio.Event()
        self._asked = 0
        self._answers: dict[int, trio.MemorySendChannel[Status | Configured]] = {}

    @classmethod
    def inherit(cls, left: InheritedWorker, notify: Notify) -> Worker:
        """One that goes on under another program than it was started by."""
        worker = cls(AdoptedProcess(left.pid, left.pidfd), LinkEnd(socket.socket(fileno=left.link)), notify)
        worker.inherited = True
        worker.connected, worker._syncing, worker._asked = left.connected, left.syncing, left.asked
        if left.ready:
            worker._ready_at = trio.current_time()
            worker._ready.set()
        return worker

    def bequeath(self) -> InheritedWorker | None:
        """For `inherit`; None if it has ended."""
        pidfd, link = self._process.pidfd, self._link.fileno()
        if self.ended.is_set() or pidfd is None or link < 0:
            return None
        return InheritedWorker(self.pid, pidfd, link, self._ready.is_set(), self.connected, self._syncing, self._asked)

    async def run(self) -> None:
        """Returns when the process has ended. If cancelled, kills it."""
        code: int | None = -int(signal.SIGKILL)
        try:
            await first(self._listen, self._link.deliver, self._gone, self._abandoned.wait)
            if self._abandoned.is_set():
                return
            with trio.move_on_after(_EXITS_WITHIN):
                code = await self._process.wait()
                return
            log.error("Worker process %d does not end; killed.", self.pid)
        finally:
            self._process.kill()
            self._link.close()
            with trio.move_on_after(0 if self._abandoned.is_set() else _EXITS_WITHIN, shield=True):
                code = await self._process.wait()
            self._process.close()
            self._end_what_was_begun()
            if code is None and self._told_to_end:
                code = 0
            self.outcome = replace(_outcome(code, self._failed), handed_over=self._handed_over)
            if self._ready_at is not None:
                self.served = trio.current_time() - self._ready_at
            self.ended.set()

    async def _gone(self) -> None:
        """The process has ended, and its last words had time to be read: they are in the link's buffer."""
        await self._process.wait()
        await trio.sleep(_LAST_WORDS_WITHIN)

    async def _listen(self) -> None:
        """Takes the worker's reports until it closes the link."""
        try:
            while (report := await self._link.receive()) is not None:
                self._take(report)
        except (LinkError, ValueError, TypeError) as error:  # a word or a field that is none of ours
            log.error("Worker process %d is killed: %s.", self.pid, str(error)[:_LONGEST_COMPLAINT])
            self._process.kill()

    def _take(self, report: workerlink.Order | workerlink.Report) -> None:
        match report:
            case Ready():
                self._ready_at = trio.current_time()
                self._ready.set()
            case Happened():
                self._happened(report.as_event)
            case StatusAnswer():
                self._answer(report.number, report.as_status)
            case Configured():
                self._answer(report.number, report)
            case HandedOver():
                self._handed_over = True
            case Detached():
                self.detached = report.as_metadata
                self._notify(Event.DETACH)
            case WantFenced():
                self.wants_fence(report.wanted)
            case AtRisk():
                self.risk = report.as_risk
            case Failed():
                self._failed = report
            case _:
                raise LinkError(f"a worker does not say {type(report).__name__}")

    def _happened(self, event: Event) -> None:
        match event:
            case Event.CONNECT | Event.DISCONNECT:
                self.connected = event is Event.CONNECT
            case Event.SYNCSTART | Event.SYNCDONE | Event.SYNCINTR:
                self._syncing = event is Event.SYNCSTART
        self._notify(event)

    def _end_what_was_begun(self) -> None:
        """A worker that is killed cannot say itself that its link is gone."""
        if self._syncing:
            self._notify(Event.SYNCINTR)
        if self.connected:
            self._notify(Event.DISCONNECT)

    def _answer(self, number: int, answer: Status | Configured) -> None:
        asker = self._answers.pop(number, None)
        if asker is not None:  # otherwise it comes too late, or once too often
            asker.send_nowait(answer)

    async def wait_ready(self) -> None:
        """Returns when the worker serves; WorkerFailed if it ended instead."""
        await first(self._ready.wait, self.ended.wait)
        if self.ended.is_set():
            raise WorkerFailed(self.outcome)

    async def status(self, cells: int = 0) -> Status:
        """SystemFailure if the worker does not answer in time or ends instead. `cells`: of `Details.dirty_map`."""
        return await self._ask(AskStatus(self._next(), 0 if self.inherited else cells), Status, STATUS_WITHIN)

    async def configure(self, config: ResourceConfig) -> None:
        """Returns when the worker does as `config` says. SystemFailure if it does not in time, or ends instead."""
        await self._ask(Configure(self._next(), config.as_plain()), Configured, CONFIGURED_WITHIN)

    def log_as(self, settings: LogSettings) -> None:
        """Has it log in that form and from that level on."""
        if not self.inherited:  # its program may not know the order, and it makes way soon
            self._link.send(Log(settings.form.value, settings.level.value))

    def _next(self) -> int:
        self._asked += 1
        return self._asked

    async def _ask(self, order: AskStatus | Configure, kind: type[_Answer], within: float) -> _Answer:
        send, receive = trio.open_memory_channel[Status | Configured](1)
        self._answers[order.number] = send
        self._link.send(order)
        answer: Status | Configured | None = None

        async def take_answer() -> None:
            nonlocal answer
            answer = await receive.receive()

        with trio.move_on_after(within):
            await first(take_answer, self.ended.wait)
        self._answers.pop(order.number, None)
        if not isinstance(answer, kind):
            raise SystemFailure(f"Worker process {self.pid} does not answer.")
        return answer

    def fenced(self, *, go_on: bool, reason: str = "") -> None:
        """A primary's hears what came of fencing the other node: whether it may go on, or why not."""
        self._link.send(Fenced(go_on, reason))

    def kill(self) -> None:
        """It ends like one that died by itself."""
        self._told_to_end = False
        self._process.kill()

    async def stop(self, within: float) -> Ended:
        """Ends the worker in order, or kills it after `within` seconds."""
        return await self._end(Stop(), within)

    async def hand_over(self, within: float) -> Ended:
        """Has a primary's worker leave its image to a successor, or kills it after `within` seconds."""
        return await self._end(HandOver(), within)

    async def _end(self, order: Stop | HandOver, within: float) -> Ended:
        self._told_to_end = True
        self._link.send(order)
        with trio.move_on_after(within):
            await self.ended.wait()
        if not self.ended.is_set():
            log.error("Worker process %d does not stop within %g s; killed.", self.pid, within)
            self._told_to_end = False
            self._process.kill()
            await self._end_of_killed()
        return self.outcome

    async def _end_of_killed(self) -> None:
        """A process that waits for a disk which does not answer cannot even be killed: nobody is to wait for it."""
        with trio.move_on_after(_EXITS_WITHIN):
            await self.ended.wait()
        if not self.ended.is_set():
            log.error("Worker process %d cannot be killed: its disk does not answer. It keeps its component.", self.pid)
            self._abandoned.set()
            await self.ended.wait()


async def first(*waits: Callable[[], Awaitable[object]]) -> None:
    """Returns when one of the waits has returned; the others are cancelled. Raises the HastError of one as it is."""
    with plain_errors():
        async with trio.open_nursery() as nursery:

            async def one(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            for wait in waits:
                nursery.start_soon(one, wait)


def _outcome(code: int | None, failed: Failed | None) -> Ended:
    if failed is not None:
        return Ended(failed.message, failed.exit_code, failed.temporary)
    if code is None:
        return Ended("Worker process ended, without a word.", os.EX_SOFTWARE, True)
    if code < 0:
        return Ended(f"Worker process killed (signal={-code}).", code, True)
    if code > 0:
        return Ended(f"Worker process exited ungracefully (exitcode={code}).", code, True)
    return Ended("Worker process exited gracefully.", 0, False)
