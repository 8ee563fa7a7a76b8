"""The primary's engine: a disk (`hastfs.volume.Volume`) that is kept on two nodes.

The tasks: the map's writer (metastore), the recorder of being alone (alone), the connector with its link and the
synchronizer, the cleaner, and one that ends what was held too long (replica). Requests are no tasks: writes.py,
reads.py and flushes.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.errors import DataError
from hastfs.facts import about
from hastfs.model import SECTOR_SIZE, Consistency, Generations, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.alone import random_id
from hastfs.resource.component import LOOK_INTERVAL
from hastfs.resource.connecting import dialer
from hastfs.resource.connector import Connector, Standing
from hastfs.resource.detaching import Detacher
from hastfs.resource.events import Notify
from hastfs.resource.fencing import Fencing
from hastfs.resource.flushes import Flush, flush_now
from hastfs.resource.provision import Opened
from hastfs.resource.reads import Read
from hastfs.resource.remotecache import Risk
from hastfs.resource.replica import Replica
from hastfs.resource.status import Status
from hastfs.resource.telemetry import Sample
from hastfs.resource.view import look
from hastfs.resource.waiting import finished, plain_errors
from hastfs.resource.writes import Write, discard
from hastfs.volume import Buffer, Done, ReadDone

log = logging.getLogger(__name__)

CLEAN_INTERVAL = 5.0
"""Seconds between two looks at whether there is something to clean."""

CLEAN_BATCH = 64
"""Extents beyond keepdirty that are tolerated before they are cleaned."""


class Primary(Replica):
    """The replica as applications use it. Made by `run`, or by `serve` over any component and network."""

    _connector: Connector | None = None

    # -- Volume ----------------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        self.statistics.stat_read += 1
        self.telemetry.read_bytes += length
        if self.read_sample is None:
            done = self._timed(done)
        Read(self, offset, length, done).issue()

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self.statistics.stat_write += 1
        length = len(data)
        self.telemetry.write_bytes += length
        if self.write_sample is None:
            self.write_sample = Sample(self.clock)
            Write(self, offset, length, data, done).begin_timed(self.write_sample)
        else:
            Write(self, offset, length, data, done).begin()

    def flush(self, done: Done) -> None:
        self.statistics.stat_flush += 1
        Flush(self, done).start()

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        self.statistics.stat_delete += 1
        self.telemetry.delete_bytes += length
        discard(self, offset, length, done, allocated=allocated)

    def _timed(self, done: ReadDone) -> ReadDone:
        """For one read of those that come together."""
        sample, latency = Sample(self.clock), self.telemetry.read
        self.read_sample = sample

        def answered(error: int, data: Buffer) -> None:
            sample.ended(latency)
            done(error, data)

        return answered

    # -- life ------------------------------------------------------------------------------------------------------

    def status(self, cells: int = 0) -> Status:
        """For `hastctl status` and `list`; `cells`: of `Details.dirty_map`."""
        link = self.link
        queues = {
            "idle_queue_size": 0,
            "local_queue_size": self.active,
            "send_queue_size": 0 if link is None else link.backlog // SECTOR_SIZE,
            "recv_queue_size": 0 if link is None else link.waiting,
            "done_queue_size": 0,
        }
        standing = Standing("connecting") if self._connector is None else self._connector.standing
        return Status(
            self._state(),
            self.map.pending() * self.extentsize,
            self.extentsize,
            self.metastore.metadata.keepdirty,
            self.statistics.as_dict() | queues,
            look(self, standing, cells),
        )

    def _state(self) -> str:
        if self.detached:
            return "detached"
        if self.link is not None:
            return "complete"
        return "held" if self.fencing.held else "degraded"

    def apply(self, config: ResourceConfig) -> None:
        """Does as `config` says, which may differ in anything but name, component, image and device."""
        before = self.config
        super().apply(config)
        if self._connector is not None:
            self._connector.apply(before)

    async def stop(self) -> None:
        """No requests will come any more: finishes what is under way, flushes, leaves a tidy map; `run` returns."""
        self.give_up_held()
        while self.active:
            self.idle = trio.Event()
            await self.idle.wait()
        try:
            if not await finished(partial(flush_now, self)):
                self.map.clean_kept()
                await self.metastore.write_cleaned()
        finally:
            self.stopping.set()

    async def serve(
        self,
        connector: Connector,
        *,
        force: bool,
        taking_over: bool = False,
        detached: Callable[[Metadata], None] = lambda metadata: None,
        at_risk: Callable[[Risk], None] = lambda risk: None,
        task_status: trio.TaskStatus[Primary] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs the engine until `stop`. Raises BusyError (the other node is primary, or not fenced), DataError
        (inconsistent), ComponentError.

        `taking_over` from a worker that died, it does as that one would have done: what needs the other node waits.
        `detached` is called when it has to go on without its component, with the metadata a successor needs for that;
        `at_risk` with what a successor has to know of what only the other node's cache may have, when that changes.
        """
        self._connector = connector
        self.remote_cache.tell = at_risk
        detacher = Detacher(self, detached)
        self.rescue = detacher.ask
        with plain_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.metastore.run)
                nursery.start_soon(self.alone.run)
                nursery.start_soon(self.end_held)
                nursery.start_soon(self._clean)
                nursery.start_soon(self._look_after_component)
                nursery.start_soon(detacher.run)
                await self._take_role(force=force)
                await nursery.start(connector.run)
                if self.stale and self.link is None and not taking_over:
                    raise DataError(
                        f"The component {self.component.path} is in the middle of a resync: its data is inconsistent. "
                        "Use the other node, or force it with `hastctl role -f primary` if the other node is lost."
                    )
                if not taking_over:
                    await self.fencing.start()
                nursery.start_soon(self.fencing.run)
                task_status.started(self)
                await self.stopping.wait()
                nursery.cancel_scope.cancel()
        if self.failure is not None:
            raise self.failure

    async def _take_role(self, *, force: bool) -> None:
        metadata = self.metastore.metadata
        if self.stale and force:
            log.warning("Forced to be primary with inconsistent data.", extra=about("forced"))
            self.stale = False
            # What is only half a copy is nobody's data: the line begins here, whatever it was to become a copy of. With
            # that as its base, it would be taken for a successor of the good copy, which may have the same generation.
            generations = Generations(random_id())
            await self.metastore.update(
                consistency=Consistency.CONSISTENT,
                generations=generations,
                localcnt=metadata.localcnt + 1,
                prevrole=Role.PRIMARY,
            )
        elif metadata.prevrole is not Role.PRIMARY:
            await self.metastore.update(prevrole=Role.PRIMARY)

    async def _clean(self) -> None:
        """Lazy cleaning: with too many extents dirty on disk without need, flush both nodes and clear their bits."""
        while True:
            await trio.sleep(CLEAN_INTERVAL)
            surplus = self.map.unflushed - self.metastore.metadata.keepdirty
            if self.link is not None and surplus > CLEAN_BATCH:
                await finished(partial(flush_now, self))
            if self.map.cleanable > CLEAN_BATCH:
                self.map.clean()
                self.metastore.tidy()
            self.map.age()

    async def _look_after_component(self) -> None:
        """A file that was deleted or cut short gives no error until it is too late."""
        known = ""
        while True:
            damage = "" if self.detached else self.component.damage()
            if damage:
                self.rescue(f"{self.component.path} {damage}.", lambda again: None)
            if damage and not self.detached and damage != known:
                log.critical(
                    "%s %s. As long as this worker runs, its descriptors in /proc/%d/fd lead to what is left: save it.",
                    self.component.path,
                    damage,
                    os.getpid(),
                )
            known = damage
            await trio.sleep(LOOK_INTERVAL)


async def run(
    config: ResourceConfig,
    opened: Opened,
    *,
    force: bool,
    taking_over: bool,
    alone: bool,
    notify: Notify,
    detached: Callable[[Metadata], None],
    risk: Risk | None,
    at_risk: Callable[[Risk], None],
    fencing: Fencing,
    task_status: trio.TaskStatus[Primary] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the resource as primary until `Primary.stop`; closes the component.

    `alone`: taking over, from one that had no link: applications are not to wait for an answer that may not come.
    `risk`: taking over, what that one said last to its `at_risk`.

    Raises ComponentError (it cannot be used any more), BusyError (the other node is still primary, or away and not
    fenced), DataError (its data is inconsistent, the other node away, and neither `force` nor `taking_over` is given).
    """
    component = opened.component()
    try:
        primary = Primary(
            config,
            component,
            opened.metadata,
            opened.ondisk_map,
            detached=opened.detached,
            risk=risk,
            fencing=fencing,
        )
        # Taking over, this node is primary already: applications must not wait for another primary to step down.
        connector = Connector(primary, dialer, notify, force=force or taking_over, patient=not alone)
        await primary.serve(
            connector,
            force=force,
            taking_over=taking_over,
            detached=detached,
            at_risk=at_risk,
            task_status=task_status,
        )
    finally:
        component.close()
