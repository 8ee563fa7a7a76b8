"""This node's part of a resource while it is primary: its component, map, metadata and link, and what ties them.

Requests (writes, flushes, reads), the connector and the synchronizer all work on it. They run on one trio thread:
between two awaits nobody interferes.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.errors import ComponentError
from hastfs.model import Consistency
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.ahead import Ahead
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.alone import Alone
from hastfs.resource.component import Absent, Component
from hastfs.resource.fencing import Fencing
from hastfs.resource.link import STATE_SINCE, Link
from hastfs.resource.metastore import Metastore
from hastfs.resource.rangelock import RangeLock
from hastfs.resource.remotecache import RemoteCache, Risk
from hastfs.resource.status import Statistics
from hastfs.resource.telemetry import Sample, Telemetry
from hastfs.resource.waiting import Wakeup

log = logging.getLogger(__name__)


COMPLAIN_EVERY = 10.0
"""Seconds between two complaints about local writes that fail: a full disk refuses thousands a second."""


Again: TypeAlias = Callable[[bool], None]
"""Told whether what failed is to be tried again: without the component, or when the other node is back."""


class Holdable(Protocol):
    """A request that can wait for the only good copy of the data."""

    held_until: float
    """When it has waited long enough (trio's clock); 0.0 if it never had to wait."""

    def issue(self) -> None: ...

    def held_too_long(self) -> None: ...


class Unwritten(Protocol):
    """A write that waits for the end of its batch."""

    def write_locally(self) -> None: ...


class Replica:
    """The state that all who serve the resource share.

    `link` is set and taken away by the connector (`link_up`, `link_down`), `stale` by the connector and the
    synchronizer; the counts belong to the requests.
    """

    def __init__(
        self,
        config: ResourceConfig,
        component: Component,
        metadata: Metadata,
        ondisk_map: bytes,
        *,
        detached: bool = False,
        risk: Risk | None = None,
        fencing: Fencing | None = None,
    ) -> None:
        """`detached`: as a successor of one that had parted with its component; `metadata` is what that one left.

        `risk`: as a successor for the same applications.
        """
        self.config = config
        self.replication = config.replication
        self.component = component
        self.extentsize = metadata.extentsize
        self.size = component.layout.provider_size
        self.statistics = Statistics()
        self.telemetry = Telemetry()
        self.map = Activemap(
            component.layout.nextents, metadata.keepdirty, ondisk_map, ahead=Ahead(component.layout.nextents)
        )
        self.metastore = Metastore(component, metadata, self.map, self.statistics, metaflush=config.metaflush)
        if detached:
            self.metastore.detach()
        self.rescue: Callable[[str, Again], None] = lambda failure, again: again(False)
        """What can be done about a component that failed (a sentence says how)."""
        self.alone = Alone(self.metastore)
        self.ranges = RangeLock()
        self.link: Link | None = None
        self.stale = metadata.consistency is Consistency.INCONSISTENT
        """The local copy is being, or is to be, brought up to date from the other node."""
        self.deciding = trio.Lock()
        """Held by whoever agrees with the other node on what it has: the same as this one, or the only copy."""
        self.detaching = False
        """The other node is being told that its copy is the only one."""
        self.detached = detached
        """There is no local copy: it failed. Then the replica is `stale`, too."""
        self.remote_cache = RemoteCache(risk)
        self.fencing = fencing or Fencing()
        """Whether this node may go on without the other one."""
        self.active = 0
        """Writes, discards and flushes that are not over."""
        self.writing_alone = 0
        """Writes and discards that were issued without a link and are not acknowledged."""
        self.sync_wanted = Wakeup()
        self.clock = time.perf_counter  # faster than asking trio
        self.write_sample: Sample | None = None
        self.read_sample: Sample | None = None
        """Of the requests that came since the last `submit`; None: there are none."""
        self.unwritten: list[Unwritten] = []
        """Writes of the present batch that are queued for the other node, and not yet begun here."""
        self._held, self._frozen = list[Holdable](), list[Holdable]()  # the frozen: until the other node is fenced
        self._holding = Wakeup()
        self._leaving = False
        self.fencing.released = self._thaw
        if not self.fencing.granted:
            self._freeze()
        self._complain_again = 0.0
        self.idle = trio.Event()
        self.stopping = trio.Event()
        self.failure: ComponentError | None = None

    @property
    def in_sync(self) -> bool:
        """Whether both nodes have the same data, but for what is under way."""
        return self.link is not None and not self.stale and self.map.in_sync

    @property
    def behind(self) -> int:
        """Bytes of the extents that the other node lacks."""
        return 0 if self.stale else min(self.size, self.map.out_of_sync * self.extentsize)

    @property
    def held(self) -> int:
        """How many requests wait for the only good copy, or until the other node is fenced."""
        return len(self._held) + len(self._frozen)

    def submit(self) -> None:
        """What was queued for the other node is sent now, and only then written here: meanwhile it is written there."""
        if self.link is not None:
            self.link.submit()
        if self.unwritten:
            unwritten, self.unwritten = self.unwritten, []
            began = self.clock()
            for write in unwritten:
                write.write_locally()
            self.telemetry.local.enter((self.clock() - began) / len(unwritten), len(unwritten))
        if self.write_sample is not None:
            self.write_sample.batch_over(self.statistics.stat_write - self.telemetry.writes_seen)
            self.telemetry.writes_seen = self.statistics.stat_write
            self.write_sample = None
        if self.read_sample is not None:
            self.read_sample.batch_over(self.statistics.stat_read - self.telemetry.reads_seen)
            self.telemetry.reads_seen = self.statistics.stat_read
            self.read_sample = None

    def write_late(self, write: Unwritten) -> None:
        """Its batch was written before."""
        began = self.clock()
        write.write_locally()
        self.telemetry.local.enter(self.clock() - began, 1)

    def extents(self, offset: int, length: int) -> tuple[int, int]:
        """The first and the last extent of a range of bytes."""
        return offset // self.extentsize, (offset + length - 1) // self.extentsize

    def apply(self, config: ResourceConfig) -> None:
        """Does as `config` says from the next request on. The connector sees to the link."""
        self.config = config
        self.replication = config.replication
        self.metastore.metaflush = config.metaflush
        if not self._is_fenced():
            self.fencing.release()

    # -- for requests ----------------------------------------------------------------------------------------------

    def hold(self, request: Holdable) -> bool:
        """Whether the request has to wait, because the only good copy of the data is on the node that is away.

        `timeout` seconds, counted from the first time: that node may come and go. Or because it is not fenced yet:
        then for as long as it takes.
        """
        if self.fencing.held:
            if self._leaving:
                self._end_soon([request])
            else:
                self._frozen.append(request)
            return True
        if not self.stale or self.link is not None:
            return False
        request.held_until = request.held_until or trio.current_time() + self.config.timeout
        self._held.append(request)
        self._holding.set()
        return True

    def request_ended(self) -> None:
        """A write, discard or flush is over."""
        self.active -= 1
        if not self.active and not self.idle.is_set():
            self.idle.set()

    def out_of_sync(self) -> None:
        """An extent fell out of sync with the link up.

        The other node hears of it before any flush: without this one, it must not be taken for whole (promise 6).
        """
        link = self.link
        if self.telemetry.sync is None:
            self.telemetry.was_in_sync = time.time()
        if link is not None and not (self.stale or self.detaching) and link.told is not None:
            consistency, generations = link.told
            if consistency is Consistency.CONSISTENT:
                link.tell_of_gap(generations)
                link.submit_soon()
        self.sync_wanted.set()

    def unable(self, to: str, error: int) -> str:
        """What the component would not do, as a sentence."""
        return f"Unable to {to} {self.component.path}: {os.strerror(error)}."

    def complain(self, failure: str) -> None:
        """The local disk refused a write or a discard, and nobody can help: logged now and then."""
        if trio.current_time() >= self._complain_again:
            self._complain_again = trio.current_time() + COMPLAIN_EVERY
            log.error("%s The application gets the error.", failure)

    def flush_failed(self, error: int) -> None:
        """Nobody can help: what the component acknowledged may be lost, it is not to be trusted any longer."""
        if self.stopping.is_set():
            return
        self.failure = ComponentError(
            f"Unable to flush {self.component.path}: {os.strerror(error)}. It no longer has what was written to it; "
            f"check the disk, then re-create the component."
        )
        self.stopping.set()

    def detach(self) -> Callable[[], None]:
        """There is no local copy any more. Returns what closes the component, which may wait for the disk."""
        close = self.component.let_go()
        self.component = Absent(self.component.path, self.component.layout)
        self.detached = self.stale = True
        self.alone.forget()
        self.map.link_lost()  # what the component had is not proven to be on it
        return close

    # -- for the connector and the synchronizer ------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """From now on, writes go to the other node too."""
        self.link = link
        self.telemetry.link_up()
        self.fencing.release()
        if self.remote_cache.link_up(link.boot, stale=self.stale):
            log.error(
                "The other node has the only good copy, and was started anew: what was not flushed may be lost. "
                "Applications hear of it when they flush next."
            )
        if self.stale and link.version >= STATE_SINCE:
            self._flush_remote_cache(link)
        self._reissue_held()
        link.submit()

    def _flush_remote_cache(self, link: Link) -> None:
        """When that is done, what was written before the link was made is there to stay."""
        cache = self.remote_cache
        acknowledged = cache.acknowledged

        def flushed(error: int) -> None:
            if not error:
                cache.flush_done(acknowledged)
            elif error != errno.ENOTCONN:
                cache.flush_failed()

        link.flush(flushed)

    def link_down(self) -> None:
        """The other node is gone; what it may not have is remembered."""
        if self.in_sync:
            self.telemetry.was_in_sync = time.time()
        link, self.link = self.link, None
        if link is None:
            return
        self.telemetry.link_over(link.sent, link.received)
        self._freeze()
        self.remote_cache.link_down(link.boot, stale=self.stale)
        if not self.stale and self.map.unproven:
            self.alone.want()
        self.map.link_lost()

    def link_dropped(self) -> None:
        """The link is about to be lost: nothing may be acknowledged any more that the other node does not have."""
        self._freeze()

    def caught_up(self) -> None:
        """The local copy is as good as the other one, and on record as such."""
        self.stale = False
        if self.link is None:
            self._freeze()
            # The other node went meanwhile, perhaps with some of what only its cache had.
            self.alone.want()
            self._reissue_held()

    def _is_fenced(self) -> bool:
        """Whether there is a node to be fenced, and a program to do it."""
        return self.config.fence is not None and self.config.remote is not None

    def _freeze(self) -> None:
        """Without the other node nothing goes on before it is fenced. One that is `stale` cannot go on anyway."""
        if self._is_fenced() and not self.stale:
            self.alone.allowed = False
            self.fencing.hold()
            if self._leaving:
                self.alone.refuse()

    def _thaw(self) -> None:
        self.alone.allow()
        frozen, self._frozen = self._frozen, []
        for request in frozen:
            request.issue()
        self.submit()

    def give_up_held(self) -> None:
        """The role is being left: the other node is not fenced for that. Whoever waits for it gets an error, also if
        the link is lost from now on.
        """
        self._leaving = True
        self.fencing.ask_no_more()
        if self.fencing.held:
            self.alone.refuse()
            frozen, self._frozen = self._frozen, []
            self._end_soon(frozen)

    def _reissue_held(self) -> None:
        held, self._held = self._held, []
        for request in held:
            request.issue()

    def _end_soon(self, requests: list[Holdable]) -> None:
        for request in requests:
            request.held_until = trio.current_time()
        self._held += requests
        self._holding.set()

    async def end_held(self) -> None:
        """Requests that wait for the only good copy get an error after `timeout`: for ever would be a hang."""
        while True:
            first = min((request.held_until for request in self._held), default=math.inf)
            with trio.move_on_at(first):
                await self._holding.wait()
            now = trio.current_time()
            over = [request for request in self._held if request.held_until <= now]
            self._held = [request for request in self._held if request.held_until > now]
            for request in over:
                request.held_too_long()
