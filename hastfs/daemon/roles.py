"""What a resource does in each role, as long as it has it: which workers run, and what applications see.

A primary's image outlives its workers: the supervisor holds the /dev/fuse descriptor, and a worker that died, or that
is to make way for a fresh one, is replaced on it while requests wait in the kernel. A secondary's worker lives as long
as its primary's link.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.export import Export
from hastfs.daemon.fencing import Fencer
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.inheritance import InheritedImage, InheritedResource, InheritedWorker
from hastfs.daemon.jobs import PassedFd, PrimaryJob, SecondaryJob
from hastfs.daemon.launcher import Launcher
from hastfs.daemon.listener import IncomingLink
from hastfs.daemon.logs import LogSettings, ResourceLog
from hastfs.daemon.workers import Ended, Worker, WorkerFailed, first
from hastfs.errors import BusyError, ComponentError, HastError, SystemFailure
from hastfs.facts import about
from hastfs.ondisk.metadata import decode_copy
from hastfs.resource.events import Event, Notify
from hastfs.resource.provision import check_same_disk, read_metadata
from hastfs.resource.remotecache import Risk

MAX_DEATHS = 5
"""Workers of a primary that may die in a row, none having served for SERVED_WELL, before the role is given up."""

SERVED_WELL = 1.0
"""Seconds; a worker that served longer was killed by something from outside: its successor will do as well."""

_MOMENT = 0.5  # Seconds; who uses a disk for less than that is in nobody's way: udev and losetup(8) only look at it.
_LOOK_EVERY = 0.05
_SLOWEST_RESTART = 2.0  # Seconds; the first one comes at once, since applications wait for it.
_LOOK_AT_WORKER = 30.0  # Seconds; one that does not answer twice in a row hangs. A look costs some 3 ms of both.
_STOP_MARGIN = 5.0  # Seconds beyond the resource's timeout for a primary's worker to end in order.
_SECONDARY_STOPS_WITHIN = 5.0  # Seconds.


@dataclass(slots=True)
class Surroundings:
    """What a role works with."""

    config: ResourceConfig
    """What the next worker gets: a new one when hast.conf was read again."""
    launcher: Launcher
    logs: LogSettings
    notify: Notify
    log: ResourceLog
    hooks: Hooks
    restarts: int = 0
    """Workers that died in the middle of their work, whatever the role."""


class PrimaryRole:
    """One time of being primary, from `run`'s start to its end."""

    def __init__(self, around: Surroundings, export: Export) -> None:
        self.worker: Worker | None = None
        self.usable = False
        """Applications can use the image, and the device if there is one."""
        self.finished = trio.Event()
        self._around = around
        self._export = export
        self._leaving = trio.Lock()  # Held while it is open whether the role is left.
        self._left = False
        self._deaths = 0  # in a row
        self._in_order = False  # The worker that served last left no request unanswered.
        self._started = trio.Event()  # the next worker; for each a new event
        self._detached: bytes | None = None  # what a worker left that had to part with its component
        self._risk: Risk | None = None  # what a worker left that said something of it
        self._attaching = False  # The next worker is to use the component again.
        self._not_attached = ""  # why that could not be
        self._fencer = Fencer(lambda: around.config, around.hooks, around.log)
        self._fencer.tell = self._tell_fenced
        self._watching = trio.CancelScope()

    def inherit(self, left: InheritedResource) -> None:
        """This process has the role already, under another program; `run` goes on with what that left."""
        assert left.image is not None
        self._export.inherit(left.image)
        self._in_order = left.in_order
        self._risk = left.risk
        self._detached = None if left.detached is None else bytes.fromhex(left.detached)
        self.worker = None if left.worker is None else Worker.inherit(left.worker, self._happened)
        self._fencer.granted, self._fencer.starting = left.fenced, False
        if self.worker is not None:
            self.worker.wants_fence = self._fencer.want
        self.usable = True

    @property
    def trouble(self) -> tuple[str, str]:
        """Why applications wait for the other node to be fenced, and the command that helps; empty if they do not."""
        return self._fencer.trouble

    @property
    def fenced(self) -> bool:
        """It was allowed to be without the other node."""
        return self._fencer.granted

    def go_on(self) -> None:
        """Also without the other node, whatever the fence program says. Nothing is done while there is a link."""
        if self._around.config.fence is not None and self.worker is not None and not self.worker.connected:
            self._fencer.allow()

    def _tell_fenced(self, go_on: bool, reason: str) -> None:
        if self.worker is not None:
            self.worker.fenced(go_on=go_on, reason=reason)

    def _happened(self, event: Event) -> None:
        if event is Event.CONNECT:
            self._fencer.linked()
        self._around.notify(event)

    def bequeath(self) -> tuple[InheritedImage, InheritedWorker | None, bool, str | None, Risk]:
        """The image, the worker, whether nobody waits for the answer of one before, what a worker left that has no
        component, and what a worker said of the other node's cache (`InheritedResource`).
        """
        worker = self.worker
        in_order = self._in_order or (worker is not None and worker.ended.is_set() and worker.outcome.handed_over)
        left = self._left_behind()
        inherited = None if worker is None else worker.bequeath()
        return self._export.bequeath(), inherited, in_order, None if left is None else left.hex(), self._risk_left()

    def _left_behind(self) -> bytes | None:
        """By a worker that had to part with its component, if there is none now."""
        return self._detached if self.worker is None else self.worker.detached or self._detached

    def _risk_left(self) -> Risk:
        """What a worker said last of what only the other node's cache may have."""
        said = None if self.worker is None else self.worker.risk
        return said or self._risk or Risk()

    @asynccontextmanager
    async def unchanging(self) -> AsyncIterator[None]:
        """Meanwhile no worker is started, and the role is not left."""
        async with self._leaving:
            yield

    async def run(self, *, force: bool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """started() when the image and the device can be used; returns when the role was left.

        Raises the HastError for which it cannot be had, or be kept. Nothing is left behind in any case.
        """
        failure: HastError | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(self._aside)
                    if not self.usable:
                        await self._begin(nursery, force)
                    elif self.worker is not None:
                        nursery.start_soon(self.worker.run)
                    task_status.started()
                    await self._keep(nursery)
                    self._watching.cancel()
                except HastError as error:
                    failure = error
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._export.abandon()
            self.finished.set()
        if failure is not None:
            raise failure

    async def _aside(self, *, task_status: trio.TaskStatus[None]) -> None:
        """What goes on beside the workers, as long as they come and go."""
        with self._watching:
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fencer.run)
                nursery.start_soon(self._look_after_worker)

    async def _look_after_worker(self) -> None:
        """One that hangs is told of, and left alone: nobody knows whether it would have answered in the end."""
        silent: Worker | None = None  # that has not answered, and whether that was said
        said = False
        while True:
            await trio.sleep(_LOOK_AT_WORKER)
            worker = self.worker
            try:
                if worker is not None and self.usable:
                    await worker.status()
            except SystemFailure as error:
                if worker is not silent or worker is None or worker.ended.is_set():
                    silent, said = worker, False
                elif not said:
                    self._around.log.error("%s It hangs, and applications with it: `kill -9 %d`?", error, worker.pid)
                    said = True
            else:
                if said and worker is silent:
                    self._around.log.info("The worker answers again.")
                silent, said = None, False

    async def _begin(self, nursery: trio.Nursery, force: bool) -> None:
        await self._export.mount()
        self._fencer.granted = force  # for all of its workers
        self.worker = worker = await self._start_worker(nursery, force=force, taking_over=False)
        await worker.wait_ready()
        self._fencer.starting = False
        # Attaching reads the image: without a worker it would wait for ever.
        await first(self._export.attach, worker.ended.wait)
        if worker.ended.is_set():
            raise WorkerFailed(worker.outcome)
        self.usable = True

    async def _start_worker(self, nursery: trio.Nursery, *, force: bool, taking_over: bool) -> Worker:
        around, fuse = self._around, PassedFd(self._export.fuse_fd)

        def job(link: socket.socket) -> PrimaryJob:
            return PrimaryJob(
                around.config,
                around.logs,
                link,
                fuse,
                force,
                taking_over,
                self._in_order,
                taking_over and self.worker is not None and not self.worker.connected,
                self._detached,
                self._attaching,
                self._risk_left() if taking_over else None,
                self._fencer.granted,
            )

        worker = await around.launcher.launch(job, self._happened)
        worker.wants_fence = self._fencer.want
        nursery.start_soon(worker.run)
        return worker

    async def _keep(self, nursery: trio.Nursery) -> None:
        """Replaces workers that die or hand over, until the role is left or cannot be kept."""
        while True:
            ended = await self._worker_end()
            async with self._leaving:
                if self._left:
                    return
                delay = self._judge(ended)
            await trio.sleep(delay)
            if not await self._replace_worker(nursery):
                return

    async def _worker_end(self) -> Ended:
        if self.worker is None:
            return Ended("Unable to start a worker.", os.EX_OSERR, True)
        await self.worker.ended.wait()
        return self.worker.outcome

    def _judge(self, ended: Ended) -> float:
        """Seconds until the next worker; raises if there is to be none."""
        served = 0.0 if self.worker is None else self.worker.served
        self._risk = self._risk_left()
        if not self._attaching and self.worker is not None and self.worker.detached is not None:
            self._detached = self.worker.detached
        if served or ended.handed_over:
            self._in_order = ended.handed_over
        if ended.in_order and ended.handed_over:
            self._deaths = 0
            return 0.0
        if ended.in_order:
            raise SystemFailure("The image was unmounted by somebody else.")
        if self._attaching and not served:
            self._attaching = False
            self._not_attached = ended.message
            return 0.0
        if not ended.temporary:
            raise WorkerFailed(ended)
        self._deaths = 1 if served >= SERVED_WELL else self._deaths + 1
        if self._deaths >= MAX_DEATHS:
            raise SystemFailure(f"{self._deaths} workers died one after the other: {ended.message}")
        self._around.restarts += 1
        self._around.log.error("%s Starting another.", ended.message, extra=about("worker-restart"))
        return min(0.1 * 2 ** (self._deaths - 1), _SLOWEST_RESTART) if self._deaths > 1 else 0.0

    async def _replace_worker(self, nursery: trio.Nursery) -> bool:
        """False: the role was left meanwhile."""
        async with self._leaving:
            if self._left:
                return False
            try:
                # Not forced, even if the role was: that would declare data consistent which a resync was mending.
                self.worker = await self._start_worker(nursery, force=False, taking_over=True)
            except SystemFailure as error:
                self.worker = None
                self._around.log.error("%s", error)
            else:
                self._started.set()
                self._started = trio.Event()
            return True

    async def renew_worker(self, *, only_inherited: bool = False) -> None:
        """Puts a fresh worker in the place of the present one: returns when it serves. Applications see a pause.
        `only_inherited`: one that this program started is fresh already.

        One that does not make way in time is killed, and replaced as one that died. SystemFailure if the role was lost.
        """
        asked_at = trio.current_time()
        async with self._leaving:
            before = self.worker
            if only_inherited and before is not None and not before.inherited:
                before = None
            if before is not None:
                await before.hand_over(self._around.config.timeout + _STOP_MARGIN)
        while not self.finished.is_set():
            if self.worker is None or self.worker is before:
                await first(self._started.wait, self.finished.wait)
                continue
            before = self.worker
            try:
                await before.wait_ready()
            except WorkerFailed:  # `_keep` says so, and whether there is to be another.
                continue
            waited = trio.current_time() - asked_at
            self._around.log.info(
                "Another worker serves; requests have waited for %.2f s at the most.",
                waited,
                extra=about("worker-renewed", seconds=round(waited, 3)),
            )
            return
        raise SystemFailure(f"Resource {self._around.config.name} is not primary any more; the log says why.")

    async def attach(self) -> None:
        """Uses the component again that a worker had to part with. Raises HastError, with nothing changed, if that
        cannot be. Nothing is done if the component is in use.
        """
        left = self._left_behind()
        if left is None:
            return
        await trio.to_thread.run_sync(check_attachable, self._around.config, left)
        self._detached, self._attaching = left, True
        await self.renew_worker()
        if not self._attaching:
            raise ComponentError(f"Unable to attach the component. {self._not_attached}")
        self._detached, self._attaching = None, False
        self._around.notify(Event.ATTACH)

    async def holders(self) -> list[str]:
        """Who uses the image or the device, besides ourselves, and not just for a moment."""
        patience = trio.current_time() + _MOMENT
        while True:
            found = await self._holders()
            if not found or trio.current_time() >= patience:
                return found
            await trio.sleep(_LOOK_EVERY)

    async def _holders(self) -> list[str]:
        return await self._export.holders({self.worker.pid} if self.worker else set())

    async def apply(self) -> None:
        """The configuration has changed: the worker hears of it."""
        async with self._leaving:  # no worker is being started, with the configuration of before
            if self.worker is not None:
                await _configure(self.worker, self._around)

    async def leave(self, *, force: bool) -> None:
        """Returns when the role is given up. BusyError if somebody uses the image or the device: unless `force`."""
        async with self._leaving:
            if not self.finished.is_set():
                await self._take_away(force)
                self._left = True
                if self.worker is not None:
                    await self.worker.stop(self._around.config.timeout + _STOP_MARGIN)
        await self.finished.wait()

    async def _take_away(self, force: bool) -> None:
        holders = await (self._holders() if force else self.holders())
        if holders and not force:
            raise BusyError(busy(self._around.config.name, holders))
        if holders:
            self._around.log.warning("Taken away while in use: %s.", "; ".join(holders))
        patience = trio.current_time() + _MOMENT
        while True:
            try:
                await self._export.take_away(force=force)
            except BusyError:  # somebody came after we looked
                if trio.current_time() >= patience:
                    raise
            else:
                return
            await trio.sleep(_LOOK_EVERY)


def check_attachable(config: ResourceConfig, left: bytes) -> None:
    """ComponentError if the resource cannot go on with its component. Blocks."""
    check_same_disk(read_metadata(config), decode_copy(left), config)


def busy(name: str, holders: list[str]) -> str:
    """The refusal to take the disk of resource `name` away from those who use it."""
    return f"Resource {name} is in use (-f to force): {'; '.join(holders)}."


async def _configure(worker: Worker, around: Surroundings) -> None:
    """One that does not do as it is told is not kept; the next one is started with the new configuration."""
    try:
        await worker.configure(around.config)
    except SystemFailure as error:
        if not worker.ended.is_set():
            around.log.error("%s It is killed: it would go on with the old configuration.", error)
            worker.kill()


class SecondaryRole:
    """One time of being secondary. Its workers run in `nursery`, which outlives them."""

    def __init__(self, around: Surroundings, nursery: trio.Nursery) -> None:
        self.worker: Worker | None = None
        self._around = around
        self._nursery = nursery
        self._ended: Ended | None = None

    @property
    def refusal(self) -> str:
        """Why the primary that came last was sent away, in a sentence; empty if it was not."""
        ended = self._ended
        return "" if ended is None or ended.in_order or ended.temporary else ended.message

    def _happened(self, event: Event) -> None:
        if event is Event.CONNECT:
            self._ended = None
        self._around.notify(event)

    def inherit(self, left: InheritedWorker) -> None:
        """A worker that this process started under another program."""
        self.worker = Worker.inherit(left, self._happened)
        self._nursery.start_soon(self._watch, self.worker)

    def bequeath(self) -> InheritedWorker | None:
        """For `inherit`, if there is one."""
        return None if self.worker is None else self.worker.bequeath()

    async def renew(self) -> None:
        """Returns when there is no inherited worker any more."""
        if self.worker is not None and self.worker.inherited:
            await self.drop()

    async def accept(self, link: IncomingLink) -> None:
        """A worker for a new link, in place of the one before. Raises SystemFailure if there cannot be one."""
        await self.drop()
        around = self._around

        def job(ours: socket.socket) -> SecondaryJob:
            sockets = link.first, link.second
            return SecondaryJob(around.config, around.logs, ours, *sockets, link.joining, link.version)

        self.worker = await around.launcher.launch(job, self._happened)
        self._nursery.start_soon(self._watch, self.worker)

    async def apply(self, before: ResourceConfig) -> None:
        """The configuration has changed: the worker hears of it. Whoever is not the other node any more has to go."""
        if before.remote != self._around.config.remote:
            await self.drop()
        elif self.worker is not None:
            await _configure(self.worker, self._around)

    async def drop(self) -> None:
        """Returns when no worker has the component any more. Goes on to that end when it is cancelled, as it is for a
        primary that does not wait so long and comes anew: a worker that hangs would keep the component for ever.
        """
        worker, self.worker = self.worker, None
        if worker is not None:
            with trio.CancelScope(shield=True):
                await worker.stop(_SECONDARY_STOPS_WITHIN)

    async def _watch(self, worker: Worker) -> None:
        await worker.run()
        if self.worker is worker:
            self.worker = None
        before, self._ended = self._ended, worker.outcome
        # A primary that is refused comes again and again: once per reason is enough.
        quiet = self._ended.in_order or self._ended == before
        self._around.restarts += self._ended.temporary and not self._ended.in_order
        (self._around.log.debug if quiet else self._around.log.error)("%s", self._ended.message)
