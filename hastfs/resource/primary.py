"""The primary's engine: a disk (`hastfs.volume.Volume`) that is kept on two nodes.

The tasks: the map's writer (metastore), the recorder of being alone (alone), the connector with its link and the
synchronizer, the cleaner, and one that ends what was held too long. Requests are no tasks (requests.py). All of them
run on one trio thread and share the attributes of `Primary`; between two awaits nobody interferes.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from typing import Protocol

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.errors import ComponentError, DataError
from hastfs.model import SECTOR_SIZE, Consistency, Role
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.alone import Alone, random_id
from hastfs.resource.component import Component
from hastfs.resource.connecting import Dial, dialer
from hastfs.resource.connector import Connector
from hastfs.resource.events import Notify
from hastfs.resource.link import Link
from hastfs.resource.metastore import Metastore
from hastfs.resource.provision import open_component
from hastfs.resource.rangelock import RangeLock
from hastfs.resource.requests import Flush, Write
from hastfs.resource.status import Statistics, Status
from hastfs.resource.waiting import Wakeup, finished, plain_errors
from hastfs.volume import Buffer, Done, ReadDone

log = logging.getLogger(__name__)

CLEAN_INTERVAL = 5.0
"""Seconds between two looks at whether there is something to clean."""

CLEAN_BATCH = 64
"""Extents beyond keepdirty that are tolerated before they are cleaned."""


class Holdable(Protocol):
    """A request that can wait for the only good copy of the data."""

    def issue(self) -> None: ...

    def held_too_long(self) -> None: ...


class Primary:
    """One resource on the node that serves it. Made by `run`, or by `serve` over any component and network."""

    def __init__(self, config: ResourceConfig, component: Component, metadata: Metadata, ondisk_map: bytes) -> None:
        self.config = config
        self.replication = config.replication
        self.component = component
        self.extentsize = metadata.extentsize
        self.size = component.layout.provider_size
        self.statistics = Statistics()
        self.map = Activemap(component.layout.nextents, metadata.keepdirty, ondisk_map)
        self.metastore = Metastore(component, metadata, self.map, self.statistics, metaflush=config.metaflush)
        self.alone = Alone(self.metastore)
        self.ranges = RangeLock()
        self.link: Link | None = None
        self.stale = metadata.consistency is Consistency.INCONSISTENT
        """The local copy is being, or is to be, brought up to date from the other node."""
        self.active = 0
        """Writes, discards and flushes that are not over."""
        self.writing_alone = 0
        """Writes and discards that were issued without a link and are not acknowledged."""
        self.sync_wanted = Wakeup()
        self._held: deque[tuple[float, Holdable]] = deque()  # with the time until which each may wait
        self._holding = Wakeup()
        self._idle = trio.Event()
        self._stopping = trio.Event()
        self._failure: ComponentError | None = None

    # -- Volume ----------------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        self.statistics.stat_read += 1
        self._read(offset, length, done)

    def _read(self, offset: int, length: int, done: ReadDone) -> None:
        if not length:
            done(0, b"")
        elif self.stale and self._good_copy_is_remote(offset, length):
            _Read(self, offset, length, done).issue()
        else:
            self.read_locally(offset, length, done)

    def read_locally(self, offset: int, length: int, done: ReadDone) -> None:
        """From the local disk or, if that fails, from the other node."""

        def local_done(error: int, data: Buffer) -> None:
            if not error:
                done(0, data)
            else:
                self._read_failed(error, offset, length, done)

        self.component.read(offset, length, local_done)

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self.statistics.stat_write += 1
        if not len(data):
            done(0)
            return
        Write(self, offset, len(data), bytes(data), done).start()

    def flush(self, done: Done) -> None:
        self.statistics.stat_flush += 1
        Flush(self, done).start()

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        self.statistics.stat_delete += 1
        if not length:
            done(0)
        elif offset % SECTOR_SIZE or length % SECTOR_SIZE:
            self._discard_unaligned(offset, length, done, allocated=allocated)
        else:
            Write(self, offset, length, None, done, allocated=allocated).start()

    def submit(self) -> None:
        if self.link is not None:
            self.link.submit()

    def _discard_unaligned(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        """The whole sectors are discarded, the ends overwritten with zeros."""
        end = offset + length
        start = min(end, -(-offset // SECTOR_SIZE) * SECTOR_SIZE)
        stop = max(start, end // SECTOR_SIZE * SECTOR_SIZE)
        parts = [
            (at, size, whole)
            for at, size, whole in (
                (offset, start - offset, False),
                (start, stop - start, True),
                (stop, end - stop, False),
            )
            if size
        ]
        errors: list[int] = []

        def part_done(error: int) -> None:
            errors.append(error)
            if len(errors) == len(parts):
                done(next((error for error in errors if error), 0))

        for at, size, whole in parts:
            Write(self, at, size, None if whole else bytes(size), part_done, allocated=allocated).start()

    # -- reads that are not simply local ---------------------------------------------------------------------------

    def _good_copy_is_remote(self, offset: int, length: int) -> bool:
        if self.link is None:
            return True
        return self.map.is_out_of_sync(offset // self.extentsize, (offset + length - 1) // self.extentsize)

    def _read_failed(self, error: int, offset: int, length: int, done: ReadDone) -> None:
        """The local disk cannot read it: the other node can, where it has the same (promise 8)."""
        self.statistics.stat_read_error += 1
        first, last = offset // self.extentsize, (offset + length - 1) // self.extentsize
        if self.link is None or self.map.is_out_of_sync(first, last):
            log.error("Unable to read %d bytes at %d from %s: errno %d.", length, offset, self.component.path, error)
            done(errno.EIO, b"")
        else:
            self.read_remotely(offset, length, lambda error, data: done(errno.EIO if error else 0, data))

    def read_sectors(self, start: int, length: int, done: ReadDone) -> None:
        """A read for our own use (completing a write to whole sectors): not counted."""
        self._read(start, length, done)

    def read_remotely(self, offset: int, length: int, done: ReadDone) -> None:
        """From the other node; `done(ENOTCONN)` if the link is lost meanwhile."""
        link = self.link
        if link is None:
            done(errno.ENOTCONN, b"")
            return
        start = offset - offset % SECTOR_SIZE
        end = -(-(offset + length) // SECTOR_SIZE) * SECTOR_SIZE
        whole = bytearray(end - start)
        left = len(range(start, end, link.max_request))
        failure = 0

        def part_of(at: int, size: int) -> ReadDone:
            def part_done(error: int, data: Buffer) -> None:
                nonlocal left, failure
                left -= 1
                failure = failure or error
                if not error:
                    whole[at - start : at - start + size] = data
                if not left:
                    done(failure, b"" if failure else memoryview(whole)[offset - start : offset - start + length])

            return part_done

        for at in range(start, end, link.max_request):
            size = min(link.max_request, end - at)
            link.read(at, size, part_of(at, size))
        self.submit()

    # -- for requests ----------------------------------------------------------------------------------------------

    def hold(self, request: Holdable) -> bool:
        """Whether the request has to wait, because the only good copy of the data is on the node that is away."""
        if not self.stale or self.link is not None:
            return False
        self._held.append((trio.current_time() + self.config.timeout, request))
        self._holding.set()
        return True

    def request_ended(self) -> None:
        """A write, discard or flush is over."""
        self.active -= 1
        if not self.active:
            self._idle.set()

    def out_of_sync(self) -> None:
        """An extent fell out of sync with the link up."""
        self.sync_wanted.set()

    def count_write_error(self, *, discard: bool) -> None:
        """The local disk refused a write or a discard."""
        if discard:
            self.statistics.stat_delete_error += 1
        else:
            self.statistics.stat_write_error += 1

    def disk_failed(self, error: int) -> None:
        """The local disk cannot flush: what it acknowledged may be lost, it is not to be trusted any longer."""
        self.statistics.stat_flush_error += 1
        self._failure = ComponentError(
            f"Unable to flush {self.component.path}: errno {error}. It no longer has what was written to it; "
            f"check the disk, then re-create the component."
        )
        self._stopping.set()

    # -- for the connector -----------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """From now on, writes go to the other node too."""
        self.link = link
        self._reissue_held()
        link.submit()

    def link_down(self) -> None:
        """The other node is gone; what it may not have is remembered."""
        link, self.link = self.link, None
        if link is None:
            return
        if not self.stale and self.map.unproven:
            self.alone.want()
        self.map.link_lost()

    def caught_up(self) -> None:
        """The local copy is as good as the other one, and on record as such."""
        self.stale = False
        if self.link is None:  # the other node went meanwhile, perhaps with some of what only its cache had
            self.alone.want()
            self._reissue_held()

    def _reissue_held(self) -> None:
        held, self._held = self._held, deque()
        for _, request in held:
            request.issue()

    # -- life ------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """For `hastctl status` and `list`."""
        link = self.link
        queues = {
            "idle_queue_size": 0,
            "local_queue_size": self.active,
            "send_queue_size": 0 if link is None else link.backlog // SECTOR_SIZE,
            "recv_queue_size": 0 if link is None else link.waiting,
            "done_queue_size": 0,
        }
        return Status(
            "degraded" if link is None else "complete",
            self.map.pending() * self.extentsize,
            self.extentsize,
            self.metastore.metadata.keepdirty,
            self.statistics.as_dict() | queues,
        )

    async def stop(self) -> None:
        """No requests will come any more: finishes what is under way, flushes, leaves a tidy map; `run` returns."""
        while self.active:
            self._idle = trio.Event()
            await self._idle.wait()
        link = self.link
        try:
            error = await finished(self.flush_now)
            if not error and link is not None and link is self.link:
                self.map.clean_kept()
                await self.metastore.write_cleaned()
        finally:
            self._stopping.set()

    def flush_now(self, done: Done) -> None:
        """A flush of our own, sent at once. It is not held: whoever makes links may be waiting for it."""
        Flush(self, done, patient=False).start()
        self.submit()

    async def serve(
        self, connector: Connector, *, force: bool, task_status: trio.TaskStatus[Primary] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Runs the engine until `stop`. Raises BusyError, DataError (inconsistent), ComponentError."""
        with plain_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.metastore.run)
                nursery.start_soon(self.alone.run)
                nursery.start_soon(self._end_held)
                nursery.start_soon(self._clean)
                await self._take_role(force=force)
                await nursery.start(connector.run)
                if self.stale and self.link is None:
                    raise DataError(
                        f"The component {self.component.path} is in the middle of a resync: its data is inconsistent. "
                        "Use the other node, or force it with `hastctl role -f primary` if the other node is lost."
                    )
                task_status.started(self)
                await self._stopping.wait()
                nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _take_role(self, *, force: bool) -> None:
        metadata = self.metastore.metadata
        if self.stale and force:
            log.warning("Forced to be primary with inconsistent data.")
            self.stale = False
            generations = metadata.generations.diverge(random_id())
            await self.metastore.update(
                consistency=Consistency.CONSISTENT,
                generations=generations,
                localcnt=metadata.localcnt + 1,
                prevrole=Role.PRIMARY,
            )
        elif metadata.prevrole is not Role.PRIMARY:
            await self.metastore.update(prevrole=Role.PRIMARY)

    async def _end_held(self) -> None:
        """Requests that wait for the only good copy get an error after `timeout`: for ever would be a hang."""
        while True:
            await self._holding.wait()
            while self._held:
                await trio.sleep_until(self._held[0][0])
                while self._held and self._held[0][0] <= trio.current_time():
                    self._held.popleft()[1].held_too_long()

    async def _clean(self) -> None:
        """Lazy cleaning: with too many extents dirty on disk without need, flush both nodes and clear their bits."""
        while True:
            await trio.sleep(CLEAN_INTERVAL)
            surplus = self.map.cleanable + self.map.unflushed - self.metastore.metadata.keepdirty
            if self.link is not None and surplus > CLEAN_BATCH:
                await finished(self.flush_now)
            if self.map.cleanable > CLEAN_BATCH:
                self.map.clean()
                self.metastore.tidy()


class _Read:
    """A read whose good copy is on the other node."""

    def __init__(self, primary: Primary, offset: int, length: int, done: ReadDone) -> None:
        self._primary = primary
        self._offset = offset
        self._length = length
        self._done = done

    def issue(self) -> None:
        primary = self._primary
        if not primary.stale:  # any longer
            primary.read_locally(self._offset, self._length, self._done)
        elif not primary.hold(self):
            primary.read_remotely(self._offset, self._length, self._answered)

    def _answered(self, error: int, data: Buffer) -> None:
        if error == errno.ENOTCONN:
            self.issue()
        else:
            self._done(errno.EIO if error else 0, data)

    def held_too_long(self) -> None:
        self._done(errno.EIO, b"")


async def run(
    config: ResourceConfig,
    *,
    force: bool,
    notify: Notify,
    task_status: trio.TaskStatus[Primary] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the resource as primary until `Primary.stop`.

    Raises ComponentError or MetadataError (the component cannot be used), BusyError (it is locked, or the other node
    is still primary), DataError (its data is inconsistent and `force` is not given).
    """
    opened = open_component(config)
    try:
        primary = Primary(config, opened.component, opened.metadata, opened.ondisk_map)
        dial: Dial | None = None
        if config.remote is not None:
            dial = dialer(config.remote, config.source, config.timeout)
        connector = Connector(primary, dial, notify, force=force)
        await primary.serve(connector, force=force, task_status=task_status)
    finally:
        opened.component.close()
