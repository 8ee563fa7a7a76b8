"""The only writer of a component's metadata and map, and the owner of the order in which they are written.

- Metadata: one update after the other, second copy first, then the first, each durable before the next: at every
  instant at least one copy is whole.
- Map: whoever needs a bit durable joins the next writing of the changed pages (group commit), or the one under way if
  the bit is among what is being written. One writing at a time, so that a page on disk never goes back in time.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from collections.abc import Callable
from typing import Any

import trio

from hastfs.errors import ComponentError
from hastfs.model import Generations
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.bitmap import PAGE_SIZE
from hastfs.ondisk.layout import METADATA_SIZE, SECOND_COPY
from hastfs.ondisk.metadata import Metadata, encode
from hastfs.resource.component import Component, Piece
from hastfs.resource.status import Statistics
from hastfs.resource.waiting import Wakeup, finished
from hastfs.volume import Done

log = logging.getLogger(__name__)


class Metastore:
    """Metadata and map of one component. `metaflush`: hast.conf(5); off means that a power loss may undo updates."""

    def __init__(
        self, component: Component, metadata: Metadata, activemap: Activemap, statistics: Statistics, *, metaflush: bool
    ) -> None:
        self.metadata = metadata
        self.activemap = activemap
        self._component = component
        self._statistics = statistics
        self.metaflush = metaflush
        self._updating = trio.Lock()
        self._mapping = trio.Lock()
        self._wakeup = Wakeup()
        self._waiting: list[Done] = []
        self._joined: list[Done] | None = None  # those who wait for the writing that is under way
        self._failed = 0
        self._ended = False
        self._detached = False
        self.unsure = False
        """The last update failed: whether it is on the disk, nobody knows."""

    def detach(self, **changes: Any) -> None:
        """The component is gone: from now on all is kept in memory only, beginning with `changes` of the metadata."""
        self._detached = True
        self.metadata = dataclasses.replace(self.metadata, **changes)
        waiting, self._waiting = self._waiting, []
        _answer(waiting, 0)

    def assume(self, generations: Generations) -> None:
        """What the next update of the metadata builds on; not written."""
        self.metadata = dataclasses.replace(self.metadata, generations=generations)

    async def update(self, **changes: Any) -> None:
        """Sets fields of the metadata, durably. Raises ComponentError if they cannot be written."""
        await self.revise(lambda metadata: dataclasses.replace(metadata, **changes))

    async def revise(self, revised: Callable[[Metadata], Metadata]) -> None:
        """The same for new values that depend on the old ones, which others may be about to change.

        A caller that is cancelled meanwhile still leaves either the old or the new metadata.
        """
        if self._detached:
            self.metadata = revised(self.metadata)
            return
        async with self._updating:
            changed = dataclasses.replace(revised(self.metadata), serial=self.metadata.serial + 1)
            block = encode(changed)
            if not self._detached:
                self.unsure = True
                await self._write([(SECOND_COPY, block), (0, block)], "metadata")
                self.unsure = False
            if not self._detached:  # otherwise newer facts are in memory already
                self.metadata = changed

    def when_mapped(self, done: Done) -> None:
        """Calls `done(0)` once every bit that is set in memory now is set on disk, or `done(errno)`."""
        if self._detached:
            done(0)
        elif not self.activemap.must_write and not self._waiting:
            if self._joined is None:
                done(0)
            else:
                self._joined.append(done)
        elif self._ended:
            done(errno.EIO)
        else:
            self._waiting.append(done)
            self._wakeup.set()

    def when_durable(self, first: int, last: int, done: Done) -> None:
        """The same for the bits of the extents first..last, which a `begin_write` has set."""
        if self._joined is not None and not self._detached and self.activemap.is_being_written(first, last):
            self._joined.append(done)
        else:
            self.when_mapped(done)

    async def make_durable(self) -> None:
        """The map on disk covers the map in memory. Raises ComponentError."""
        error = await finished(self.when_mapped)
        if error:
            await trio.lowlevel.checkpoint_if_cancelled()  # the writer's end, and not the disk's refusal
        self._check(error, "activemap")

    def tidy(self) -> None:
        """Bits were cleared in memory: write them when the writer comes to it; nobody waits."""
        self._wakeup.set()

    async def run(self) -> None:
        """The map's writer; runs for ever. Whoever waits when it is cancelled gets an error."""
        try:
            while True:
                await self._wakeup.wait()
                while not self._detached and (self.activemap.may_write or self._waiting):
                    if await self._write_map():
                        break  # the disk refuses: the next request that needs the map tries again
        finally:
            self._ended = True
            waiting, self._waiting = self._waiting, []
            _answer(waiting, errno.EIO)

    async def write_cleaned(self) -> None:
        """Writes what `tidy` would, now (at an orderly stop). Raises ComponentError."""
        while self.activemap.may_write and not self._detached:
            self._check(await self._write_map(), "activemap")

    async def _write_map(self) -> int:
        async with self._mapping:
            return await self._write_pages()

    async def _write_pages(self) -> int:
        waiting, self._waiting = self._waiting, []
        if self._detached:  # while it waited for its turn: the component does not answer any more
            return 0
        self._joined = waiting
        pages = self.activemap.changed_pages()
        size = self._component.layout.mapsize
        error = 0
        if pages:
            self._statistics.stat_activemap_update += 1
            pieces = _coalesce(pages, size)
            error = await finished(lambda done: self._component.write_durable(pieces, done, flush=self.metaflush))
        if error:
            self._report(error)
            self.activemap.pages_failed(pages)
        else:
            self.activemap.pages_written(pages)
        self._joined = None
        _answer(waiting, error)
        return error

    def _report(self, error: int) -> None:
        if error != self._failed:
            log.error("Unable to write the activemap to %s: %s.", self._component.path, os.strerror(error))
        self._failed = error

    async def _write(self, pieces: list[Piece], what: str) -> None:
        with trio.CancelScope(shield=True):
            error = await finished(lambda done: self._component.write_durable(pieces, done, flush=self.metaflush))
        self._check(error, what)

    def _check(self, error: int, what: str) -> None:
        if error:
            raise ComponentError(f"Unable to write {what} to {self._component.path}: {os.strerror(error)}.")


def _answer(waiting: list[Done], error: int) -> None:
    for done in waiting:
        done(error)


def _coalesce(pages: list[tuple[int, bytes]], mapsize: int) -> list[Piece]:
    """Neighbouring pages as one piece; the last page only as far as the map goes."""
    pieces: list[Piece] = []
    for number, page in pages:
        position = METADATA_SIZE + number * PAGE_SIZE
        data = page[: mapsize - number * PAGE_SIZE]
        if pieces and pieces[-1][0] + len(pieces[-1][1]) == position:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + data)
        else:
            pieces.append((position, data))
    return pieces
