"""The worker process: one resource's engine, and on a primary the lane that serves its image.

It opens its component as root, gives up every privilege, and only then starts to serve.

It ends by itself when its supervisor is gone, when the image is unmounted, and when a secondary's link ends; what a
crash at any moment leaves is for the next start's map and counters to mend.
"""

from __future__ import annotations

import codecs
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio
from setproctitle import setproctitle

from hastfs.config.schema import ResourceConfig
from hastfs.daemon import logs, privileges
from hastfs.daemon.jobs import Job, PrimaryJob, SecondaryJob
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
    Log,
    Ready,
    StatusAnswer,
    Stop,
    WantFenced,
)
from hastfs.details import MAX_CELLS
from hastfs.errors import HastError
from hastfs.frontend import session
from hastfs.ondisk.metadata import Metadata, decode_copy, encode
from hastfs.resource import primary, secondary
from hastfs.resource.events import Event
from hastfs.resource.fencing import Fencing
from hastfs.resource.provision import Opened, attach_component, open_component, without_component
from hastfs.resource.remotecache import Risk
from hastfs.resource.status import Status
from hastfs.resource.waiting import plain_errors

log = logging.getLogger(__name__)

_PR_SET_IO_FLUSHER = 57  # linux/prctl.h, since Linux 5.6

# The first name look-up would load this codec from disk: too late, where Python is in a place that only root may see.
codecs.lookup("idna")

_TEMPORARY = (os.EX_OSERR, os.EX_TEMPFAIL)


class _SupervisorGone(HastError):
    """Nobody is left to report to."""


def main(job: Job) -> None:
    """Runs the job; exits with the failure's code."""
    # hastd ends its workers in order; a signal to all of its processes must not come before that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    setproctitle(f"hastd: {job.config.name} ({job.role.word})")
    logs.setup(job.logs, resource=job.config.name, role=job.role.word)
    link = LinkEnd(job.link)
    try:
        # Privileges belong to threads: none may be started before they are dropped. What needs them comes first.
        opened = _open(job)
        _be_io_flusher()
        privileges.drop()
        trio.run(_work, job, opened, link)
    except Exception as error:
        failed = _failure(error)
        link.send(failed)
        sys.exit(failed.exit_code)


def _open(job: Job) -> Opened:
    """Raises ComponentError, MetadataError, BusyError."""
    if not isinstance(job, PrimaryJob) or job.detached is None:
        return open_component(job.config)
    left = decode_copy(job.detached)
    return attach_component(job.config, left) if job.attaching else without_component(job.config, left)


def _be_io_flusher() -> None:
    """A disk's server must not wait for memory that can only be had by writing to that very disk (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0:
        log.debug("Unable to become an I/O flusher: %s.", os.strerror(ctypes.get_errno()))


def _failure(error: Exception) -> Failed:
    """What to tell the supervisor, which logs it; an error of the program is logged here, with its traceback."""
    if isinstance(error, HastError):
        return Failed(str(error), error.exit_code, error.exit_code in _TEMPORARY)
    log.critical("Worker failed.", exc_info=error)
    return Failed(f"Worker failed: {error!r}.", os.EX_SOFTWARE, True)


class _Engine:
    """What the orders of the supervisor work on."""

    def __init__(self) -> None:
        self.stopping = trio.Event()
        self.leaving = trio.Event()
        """The image is to be left to another worker."""
        self.status: Callable[[int], Status] = lambda cells: Status("", 0, 0, 0)
        """With so many cells of the map of what is dirty."""
        self.fencing = Fencing()
        self._at_work: primary.Primary | secondary.Secondary | None = None
        self._config: ResourceConfig | None = None  # a newer one than it was started with

    def works(self, at_work: primary.Primary | secondary.Secondary) -> None:
        """From now on there is something that orders can be carried out by."""
        self._at_work = at_work
        self.status = at_work.status
        if self._config is not None:
            at_work.apply(self._config)

    def configure(self, config: ResourceConfig) -> None:
        """At once, or as soon as there is something to configure."""
        self._config = config
        if self._at_work is not None:
            self._at_work.apply(config)


async def _work(job: Job, opened: Opened, link: LinkEnd) -> None:
    engine = _Engine()
    with plain_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, link, engine, job.logs)
            nursery.start_soon(link.deliver)
            nursery.start_soon(logs.keep_telling_repeats)
            if isinstance(job, PrimaryJob):
                await _be_primary(job, opened, engine, link)
            else:
                await _be_secondary(job, opened, engine, link)
            nursery.cancel_scope.cancel()


async def _obey(link: LinkEnd, engine: _Engine, settings: LogSettings) -> None:
    while (order := await link.receive()) is not None:
        match order:
            case AskStatus():
                link.send(StatusAnswer(order.number, engine.status(_cells(order)).as_dict()))
            case Configure():
                engine.configure(order.as_config)
                link.send(Configured(order.number))
            case Log():
                form, level = order.as_words
                logs.change(replace(settings, form=form, chosen=level))
            case Fenced():
                engine.fencing.answer(order.go_on, order.reason)
            case HandOver():
                engine.leaving.set()
            case Stop():
                engine.stopping.set()
    raise _SupervisorGone("The supervisor is gone.")


def _cells(order: AskStatus) -> int:
    return max(0, min(order.cells, MAX_CELLS))


def _notify(link: LinkEnd, event: Event) -> None:
    link.send(Happened(event.value))


def _detached(link: LinkEnd, metadata: Metadata) -> None:
    link.send(Detached(encode(metadata).hex()))


def _at_risk(link: LinkEnd, risk: Risk) -> None:
    link.send(AtRisk(risk.boot, risk.lost))


async def _be_primary(job: PrimaryJob, opened: Opened, engine: _Engine, link: LinkEnd) -> None:
    notify = partial(_notify, link)
    # It is asked for before there is anything else that could take an order.
    engine.fencing = Fencing(lambda wanted: link.send(WantFenced(wanted)), granted=job.force or job.fenced)
    async with trio.open_nursery() as nursery:
        run = partial(primary.run, job.config, opened, force=job.force, taking_over=job.taking_over, alone=job.alone)
        reporting = partial(run, notify=notify, detached=partial(_detached, link), at_risk=partial(_at_risk, link))
        volume = await nursery.start(partial(reporting, risk=job.risk, fencing=engine.fencing))
        engine.works(volume)
        async with trio.open_nursery() as lane:
            await lane.start(partial(_serve, job, volume, engine, link))
            link.send(Ready())
            await engine.stopping.wait()
            lane.cancel_scope.cancel()
        await volume.stop()


async def _serve(
    job: PrimaryJob, volume: primary.Primary, engine: _Engine, link: LinkEnd, *, task_status: trio.TaskStatus[None]
) -> None:
    """The lane. An image that is unmounted, or another's, needs no engine any more."""
    serve = partial(session.serve, job.fuse.fd, volume, taking_over=job.taking_over, in_order=job.in_order)
    if await serve(leave=engine.leaving, task_status=task_status):
        link.send(HandedOver())
    engine.stopping.set()


async def _be_secondary(job: SecondaryJob, opened: Opened, engine: _Engine, link: LinkEnd) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, engine.stopping, nursery.cancel_scope)

        async def serve(*, task_status: trio.TaskStatus[secondary.Secondary]) -> None:
            notify = partial(_notify, link)
            sockets = job.first, job.second
            run = partial(secondary.run, job.config, opened, *sockets, joining=job.joining, version=job.version)
            await run(notify=notify, task_status=task_status)
            nursery.cancel_scope.cancel()

        engine.works(await nursery.start(serve))
        link.send(Ready())


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
