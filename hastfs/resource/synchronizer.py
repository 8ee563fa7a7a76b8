"""The resync: copies every extent that is out of sync to the node that lacks it, while applications go on.

Several extents are under way at a time, each piece under its range's lock; `pacing` says when one has to wait for
applications. A hole is one piece, over as many extents as it covers. When all are copied, both nodes flush, and
both write down that they are the same: first the one whose data was brought up to date, then the other. A crash
between the two leaves a node that knows more than it needs, never one that knows too little.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from hastfs.errors import ComponentError
from hastfs.facts import about
from hastfs.model import Consistency, Generations
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.handshake import Terms
from hastfs.protocol.payload import is_zero
from hastfs.resource.events import Event, Notify
from hastfs.resource.flushes import flush_now
from hastfs.resource.link import STATE_SINCE, Link
from hastfs.resource.pacing import Pacing
from hastfs.resource.rangelock import Range
from hastfs.resource.replica import Replica
from hastfs.resource.telemetry import Progress
from hastfs.resource.waiting import answer, data_of, finished
from hastfs.volume import Done, ReadDone

log = logging.getLogger(__name__)

WINDOW = 8
"""Extents under way at a time, while applications are not at work."""

MAX_UNPROVEN = 1 << 13
"""Extents that are copied and not known to be flushed, with which the resync goes on: each costs memory."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before a pass is repeated that could not copy everything; doubled each time."""


class Synchronizer:
    """The resync over one link. `terms` are what the secondary said of itself."""

    def __init__(self, replica: Replica, link: Link, terms: Terms, notify: Notify) -> None:
        self._replica = replica
        self._link = link
        self._terms = terms
        self._notify = notify
        self._cursor = 0
        self._failed = False
        self._pacing = Pacing(trio.current_time(), replica.statistics.requests, replica.statistics.stat_flush)
        self._turn = trio.Lock()  # Held by the one piece that may be under way while applications are at work.
        self._proving = trio.Lock()
        self.agreed = False
        """Whether all is copied, and both nodes have written down that they are the same."""
        self._running = False
        self._began = 0.0  # by trio's clock

    async def run(self) -> None:
        """Keeps the nodes in sync as long as the link lasts."""
        delay = FIRST_DELAY
        while not self._replica.detached:
            if not self._replica.map.in_sync:
                await self._pass()
            if self._failed:
                await trio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
                continue
            if self._replica.map.in_sync and not await self._agree():
                await trio.sleep(FIRST_DELAY / 10)
                continue
            delay = FIRST_DELAY
            await self._replica.sync_wanted.wait()
        self.interrupted()
        await trio.sleep_forever()

    def interrupted(self) -> None:
        """The link is lost."""
        if self._running:
            self._running = False
            self._replica.telemetry.sync = None
            self._notify(Event.SYNCINTR)
            left = self._left()
            log.info("Synchronization interrupted. %d bytes to go.", left, extra=about("syncintr", bytes=left))

    def _left(self) -> int:
        """Bytes that are to be made equal."""
        return self._replica.map.pending() * self._replica.extentsize

    # -- copying ---------------------------------------------------------------------------------------------------

    async def _pass(self) -> None:
        """Copies all that is out of sync, ascending."""
        if not self._running:
            self._running = True
            self.agreed = False
            self._progress = Progress("from-peer" if self._replica.stale else "to-peer", time.time())
            self._replica.telemetry.sync = self._progress
            self._notify(Event.SYNCSTART)
            self._began = trio.current_time()
            left = self._left()
            log.info("Synchronization started. %d bytes to go.", left, extra=about("syncstart", bytes=left))
        self._cursor = 0
        self._failed = False
        async with trio.open_nursery() as nursery:
            for _ in range(WINDOW):
                nursery.start_soon(self._copy_extents)

    async def _copy_extents(self) -> None:
        activemap = self._replica.map
        while not self._failed and (first := activemap.next_out_of_sync(self._cursor)) is not None:
            last = self._end_of_hole(first)
            self._cursor = last + 1
            for extent in range(first, last + 1):
                activemap.copy_begun(extent)
            if last > first and await self._copy_hole(first, last):
                self._copied(first, last)
                await self._prove()
                continue
            for extent in range(first, last + 1):
                if not await self._copy_extent(extent):
                    self._failed = True
                    return
                self._copied(extent, extent)

    def _copied(self, first: int, last: int) -> None:
        for extent in range(first, last + 1):
            self._replica.map.copied(extent)
        self._progress.copied((last + 1 - first) * self._replica.extentsize)

    def _moved(self, length: int) -> None:
        self._replica.telemetry.sync_bytes += length
        self._progress.moved(length)

    async def _prove(self) -> None:
        """Holes go by the thousand extents: with too many of them not known to be flushed, both nodes flush."""
        activemap = self._replica.map
        if activemap.unflushed <= MAX_UNPROVEN:
            return
        async with self._proving:
            if activemap.unflushed > MAX_UNPROVEN and not await finished(partial(flush_now, self._replica)):
                activemap.clean()
                self._replica.metastore.tidy()

    def _end_of_hole(self, first: int) -> int:
        """The last of the extents from `first` on that are out of sync and in one and the same hole here.

        `first` itself if there is no such hole, or none that the other node can be told of in one message.
        """
        replica = self._replica
        if replica.stale or self._link.version < STATE_SINCE:
            return first
        size, activemap = replica.extentsize, replica.map
        hole = min(replica.component.next_data(first * size), first * size + self._pacing.longest_run)
        limit = activemap.nextents - 1 if hole >= replica.size else hole // size - 1
        last = first
        while last < limit and activemap.next_out_of_sync(last + 1) == last + 1:
            last += 1
        return last

    async def _copy_hole(self, first: int, last: int) -> bool:
        """All of it as one message. False: it is none any more, or that did not work: then piece by piece."""
        replica = self._replica
        start, end = first * replica.extentsize, min((last + 1) * replica.extentsize, replica.size)
        async with self._paced(), self._locked(start, end):
            if replica.stale or replica.component.next_data(start) < end:
                return False
            began = trio.current_time()
            error = await self._asked(lambda done: self._link.delete(start, end - start, done))
            self._look()
            now = trio.current_time()
            self._pacing.hole_copied(now, now - began, end - start)
            if not error:
                self._moved(end - start)
        return not error

    async def _copy_extent(self, extent: int) -> bool:
        at = extent * self._replica.extentsize
        end = min(at + self._replica.extentsize, self._replica.size)
        while at < end:
            async with self._paced() as step:
                async with self._locked(at, min(at + step, end)) as (first, last):
                    began = trio.current_time()
                    # Once caught up, this node is the one that knows better, whatever the link began with.
                    copy = self._pull if self._replica.stale else self._push
                    error = await copy(first, last - first)
                if not error and self._pacing.to_be_flushed(trio.current_time()):
                    await finished(partial(flush_now, self._replica))  # what a failure means, it sees to itself
                self._look()
                now = trio.current_time()
                self._pacing.copied(now, now - began, last - first)
                if not error:
                    self._moved(last - first)
            if error:
                if self._replica.link is self._link:  # otherwise it is not the extent's fault
                    log.warning("Unable to synchronize %d bytes at %d: %s.", last - first, first, os.strerror(error))
                return False
            at = last
        return True

    @asynccontextmanager
    async def _paced(self) -> AsyncIterator[int]:
        """Around a piece: begins when applications let it, gives the bytes that it may have at the most."""
        largest = self._link.max_request
        if not self._look():
            yield largest
            return
        async with self._turn:
            await trio.sleep(self._pacing.rest(trio.current_time()))
            if self._look():
                yield self._pacing.piece(largest)
                return
        yield largest

    def _look(self) -> bool:
        """Whether applications are at work."""
        replica = self._replica
        requests, flushes = replica.statistics.requests, replica.statistics.stat_flush
        return self._pacing.look(trio.current_time(), requests, flushes, active=replica.active > 0)

    @asynccontextmanager
    async def _locked(self, start: int, end: int) -> AsyncIterator[tuple[int, int]]:
        ranges = self._replica.ranges
        wanted: Range | None = None

        def acquire(granted: Callable[[Range], None]) -> None:
            nonlocal wanted
            wanted = ranges.acquire(start, end, granted)

        def withdraw() -> None:
            assert wanted is not None
            ranges.withdraw(wanted)

        # Its holder may be waiting for the next link, which waits for the end of this one, and so of this task.
        held = await answer(acquire, withdraw=withdraw)
        try:
            yield start, end
        finally:
            ranges.release(held)

    async def _push(self, offset: int, length: int) -> int:
        """From here to the secondary; holes are not read, and zeros not sent."""
        component, link = self._replica.component, self._link
        if component.next_data(offset) >= offset + length:
            return await self._asked(lambda done: link.write_zeros(offset, length, done))
        error, data = await data_of(lambda done: component.read(offset, length, done))
        if error:
            self._replica.statistics.stat_read_error += 1
            return error
        return await self._asked(lambda done: link.write(offset, bytes(data), done))

    async def _pull(self, offset: int, length: int) -> int:
        """From the secondary to here."""
        component, link = self._replica.component, self._link

        def read(done: ReadDone) -> None:
            link.read(offset, length, done)
            link.submit()

        error, data = await data_of(read)
        if error:
            return error
        if is_zero(data):
            return await finished(lambda done: component.zero(offset, length, done, allocated=True))
        return await finished(lambda done: component.write(offset, data, done))

    # -- agreeing --------------------------------------------------------------------------------------------------

    async def _agree(self) -> bool:
        """All is copied: make it durable on both nodes and write down that they are the same. False: not yet."""
        replica = self._replica
        if self.agreed:
            return True
        if replica.writing_alone:
            return False
        # Without a resync and without a write that is not proven flushed, there is nothing a flush could prove.
        if (self._running or replica.map.unproven) and await finished(partial(flush_now, replica)):
            return False
        async with replica.deciding:
            if not self._is_equal() or not replica.alone.new_stint():
                return False
            try:
                agreed = await (self._agree_as_target() if replica.stale else self._agree_as_source())
            except ComponentError as error:
                replica.rescue(str(error), lambda again: None)
                return False
        if agreed:
            self.agreed = True
            if self._running:
                self._running = False
                self._replica.telemetry.sync = None
                self._notify(Event.SYNCDONE)
                seconds = round(trio.current_time() - self._began, 3)
                log.info("Nodes are in sync, after %.1f s.", seconds, extra=about("syncdone", seconds=seconds))
            else:
                log.info("Nodes are in sync.", extra=about("insync"))
        return agreed

    def _is_equal(self) -> bool:
        return self._replica.map.in_sync and self._replica.link is self._link and not self._replica.detaching

    async def _agree_as_source(self) -> bool:
        replica = self._replica
        before = replica.metastore.metadata.generations
        target = before.rejoined()
        told_before = (target, Consistency.CONSISTENT) == (self._terms.generations, self._terms.consistency)
        if (self._running or not told_before) and await self._tell(target):
            return False
        if replica.alone.wanted or not self._is_equal():
            return False  # a write failed on the secondary meanwhile
        return await self._record(before, target)

    async def _agree_as_target(self) -> bool:
        before = self._replica.metastore.metadata.generations
        target = (self._terms.generations or before).rejoined()
        if not await self._record(before, target):
            return False
        self._replica.caught_up()
        return not await self._tell(target)

    async def _tell(self, target: Generations) -> int:
        return await self._asked(lambda done: self._link.state(Consistency.CONSISTENT, target, done))

    async def _asked(self, start: Callable[[Done], None]) -> int:
        """Asks the secondary something now; the errno of its answer."""

        def ask(done: Done) -> None:
            start(done)
            self._link.submit()

        return await finished(ask)

    async def _record(self, before: Generations, target: Generations) -> bool:
        """hast(8): localcnt becomes the secondary's remotecnt, remotecnt its localcnt.

        False, and nothing changes, if this node has written alone since its generations were `before`.
        """
        metastore, terms = self._replica.metastore, self._terms

        def agreed(metadata: Metadata) -> Metadata:
            if metadata.generations != before:
                return metadata
            return dataclasses.replace(
                metadata,
                localcnt=terms.remotecnt,
                remotecnt=terms.localcnt,
                generations=target,
                consistency=Consistency.CONSISTENT,
            )

        if metastore.unsure or agreed(metastore.metadata) != metastore.metadata:
            await metastore.revise(agreed)
        return metastore.metadata.generations == target
