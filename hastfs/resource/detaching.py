"""How a primary parts with a component that failed: the resource goes on with the other node's copy alone (promise 8).

That copy gets a new data generation, durably, before anything is acknowledged that only it has: a component that is
attached again, or comes back after a crash, is then known to be the older one. From that moment on the secondary keeps
the map of what changes. A primary without a component is one that waits for a resync from the secondary (`stale`) which
cannot begin: reads, writes and flushes go to the other node alone, and wait for it when it is away.

It takes a secondary that has all the data, linked, of protocol version 3. Without one, the component is the only good
copy, and stays.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import trio

from hastfs.errors import ComponentError
from hastfs.facts import about
from hastfs.model import Consistency, Generations
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.alone import random_id
from hastfs.resource.link import STATE_SINCE, Link
from hastfs.resource.replica import Again, Replica
from hastfs.resource.waiting import Wakeup, finished
from hastfs.volume import Done

log = logging.getLogger(__name__)


class Detacher:
    """Of one replica. `detached` is called with the metadata that a successor in this state needs."""

    def __init__(self, replica: Replica, detached: Callable[[Metadata], None]) -> None:
        self._replica = replica
        self._detached = detached
        self._asked: list[Again] = []
        self._wakeup = Wakeup()
        self._marked = trio.Event()
        self._ended = False

    def ask(self, failure: str, again: Again) -> None:
        """The component failed (a sentence); calls `again` when it is known how to go on, perhaps at once."""
        replica = self._replica
        if self._ended:
            again(False)
        elif replica.detached or (replica.stale and replica.link is None):
            again(True)
        elif replica.detaching or self._possible():
            if not self._asked:
                log.error("%s", failure)
            self._asked.append(again)
            self._wakeup.set()
        else:
            again(False)

    def _possible(self) -> bool:
        """Whether the other node may have all the data; whether it really has, it says itself."""
        replica = self._replica
        if replica.link is None or replica.link.version < STATE_SINCE:
            return False
        return replica.stale or replica.map.in_sync

    async def run(self) -> None:
        """Parts with the component when asked to; runs for ever. Whoever waits when it is cancelled is told no."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await self._wakeup.wait()
                    while self._asked:
                        async with self._replica.deciding:
                            again = await self._detach(nursery)
                        self._answer(again)
        finally:
            self._ended = True
            self._answer(False)

    def _answer(self, again: bool) -> None:
        asked, self._asked = self._asked, []
        for answer in asked:
            answer(again)

    async def _detach(self, nursery: trio.Nursery) -> bool:
        replica, link = self._replica, self._replica.link
        # What is being recorded of writing alone draws a generation, on which that of the other node has to build.
        unrecorded = await finished(replica.alone.when_recorded)
        if replica.detached or link is None or link is not replica.link or unrecorded or not self._possible():
            return replica.detached or replica.stale
        replica.detaching = True
        line = self._line(link)
        error = await finished(lambda done: self._tell(link, line, done))
        if error:
            replica.detaching = False
            if error != errno.ENOTCONN:
                log.error("The other node cannot go on alone (%s).", os.strerror(error))
            return error == errno.ENOTCONN and replica.stale
        nursery.start_soon(self._mark_outdated)
        with trio.move_on_after(replica.config.timeout):
            await self._marked.wait()
        self._part(nursery, link, line)
        return True

    def _line(self, link: Link) -> Generations:
        """The generations of the secondary's data from now on; ours become its base."""
        replica = self._replica
        if replica.stale and link.generations is not None:
            return link.generations.diverge(random_id(), used=True)
        return replica.metastore.metadata.generations.rejoined().diverge(random_id(), used=True)

    def _tell(self, link: Link, line: Generations, done: Done) -> None:
        replica = self._replica

        def answered(error: int) -> None:
            # Before anybody else hears that the link is lost, should it be:
            if not error:
                replica.stale = True
                # From now on what was not flushed is safe at neither node: the other one may lose its cache unnoticed.
                replica.remote_cache.acknowledged += replica.map.unproven
            elif error == errno.ENOTCONN and not replica.stale:
                # Who knows whether it was heard. Nothing is on that line that is not here, and so the next one says.
                replica.metastore.assume(line)
            done(error)

        link.state(Consistency.CONSISTENT, line, answered, detached=True)
        link.submit()

    async def _mark_outdated(self) -> None:
        """If the component can still be written, it says itself that it must not be used without a resync."""
        try:
            await self._replica.metastore.update(consistency=Consistency.INCONSISTENT)
        except ComponentError as error:
            log.warning("%s It looks complete, and is not.", error)
        self._marked.set()

    def _part(self, nursery: trio.Nursery, told: Link, line: Generations) -> None:
        replica = self._replica
        log.error(
            "%s is detached. The other node has all the data, and the resource goes on with it alone. When the disk is "
            "repaired: hastctl attach %s",
            replica.component.path,
            replica.config.name,
            extra=about("detach", path=replica.component.path),
        )
        close = replica.detach()
        replica.metastore.detach(generations=line, consistency=Consistency.INCONSISTENT)
        if replica.link is not None and replica.link is not told:
            replica.link.drop("the component failed, and over this link the other node keeps no map")
        self._detached(replica.metastore.metadata)
        nursery.start_soon(trio.to_thread.run_sync, close)
