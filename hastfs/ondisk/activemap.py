"""The activemap: which extents may differ between the nodes, in memory and on disk.

An extent is *dirty* while its bit is to be set on disk. That is so while
- a write to it is in flight,
- it is *written*: writes to it are complete on both nodes, but a flush of both has not been seen since,
- it is *out of sync*: the nodes are known (or, after a crash, suspected) to differ, until a resync has copied it,
- it is *idle*: equal and flushed on both nodes, and nobody has come to clean it yet,
- it is *kept*: idle, but among the keepdirty most recently written ones.

What must hold (the promises of docs/architecture.md):
- map before data: `begin_write` tells whether the bits are durable; if not, the caller waits until the pages that
  `changed_pages` returned have reached stable storage and `pages_written` was called;
- clean means equal: only `clean` clears bits, only of idle extents, and an extent becomes idle only by `flush_done`
  of a flush that began after its last write was complete on both nodes.

Memory is used for extents in use only: a clean extent costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from hastfs.ondisk.bitmap import PAGE_BITS, Bitmap
from hastfs.ondisk.keepdirty import KeepDirty


class Activemap:
    """A map over `nextents` extents, starting from `ondisk` (the bytes found on disk).

    Every extent that is dirty on disk at the start is out of sync: who knows what was in flight.
    """

    def __init__(self, nextents: int, keepdirty: int, ondisk: bytes = b"") -> None:
        self.nextents = nextents
        self._dirty = Bitmap(nextents)
        self._durable = Bitmap(nextents)
        self._out_of_sync = Bitmap(nextents)
        for bitmap in (self._dirty, self._durable, self._out_of_sync):
            bitmap.merge(ondisk)
        self._inflight: dict[int, int] = {}
        self._written: OrderedDict[int, int] = OrderedDict()  # extent -> epoch of its last complete write, oldest first
        self._epoch = 0
        self._idle: set[int] = set()
        self._kept = KeepDirty(keepdirty)
        self._copying: set[int] = set()  # extents that a resync is copying
        self._changed: set[int] = set()  # pages with bits that are to be set on disk and are not, or may not be
        self._cleaned: set[int] = set()  # pages with bits that may be cleared on disk; nobody waits for them

    # -- writes ----------------------------------------------------------------------------------------------------

    def begin_write(self, first: int, last: int) -> bool:
        """A write to extents first..last starts. True: all their bits are durable, the write may be issued."""
        durable = True
        inflight = self._inflight
        for extent in range(first, last + 1):
            inflight[extent] = inflight.get(extent, 0) + 1
            self._idle.discard(extent)
            evicted = self._kept.touch(extent)
            if evicted is not None:
                self._settle(evicted)
            if extent not in self._durable:
                durable = False
                self._dirty.add(extent)
                self._changed.add(extent // PAGE_BITS)
        return durable

    def is_durable(self, first: int, last: int) -> bool:
        """Whether the bits of all extents first..last are set on stable storage."""
        return all(extent in self._durable for extent in range(first, last + 1))

    def end_write(self, first: int, last: int, *, replicated: bool) -> None:
        """A write that began ended. `replicated`: both nodes have it; if not, the extents are out of sync."""
        for extent in range(first, last + 1):
            count = self._inflight[extent] - 1
            if count:
                self._inflight[extent] = count
            else:
                del self._inflight[extent]
            if replicated:
                self._mark_written(extent)
            else:
                self._mark_out_of_sync(extent)

    def _mark_written(self, extent: int) -> None:
        if extent not in self._out_of_sync:
            self._written[extent] = self._epoch
            self._written.move_to_end(extent)

    def _mark_out_of_sync(self, extent: int) -> None:
        self._forget(extent)
        self._copying.discard(extent)  # what was copied of it so far may be out of sync again
        self._out_of_sync.add(extent)
        if extent not in self._durable:
            self._dirty.add(extent)
            self._changed.add(extent // PAGE_BITS)

    # -- flushes and cleaning --------------------------------------------------------------------------------------

    def flush_begun(self) -> int:
        """A flush of both nodes begins. Returns what `flush_done` wants if it succeeds on both."""
        self._epoch += 1
        return self._epoch - 1

    def flush_done(self, token: int) -> None:
        """Both nodes have flushed: what was written on both before `flush_begun` is equal and durable."""
        written = self._written
        while written:
            extent, epoch = next(iter(written.items()))
            if epoch > token:
                break
            del written[extent]
            self._settle(extent)

    def _settle(self, extent: int) -> None:
        """The extent becomes idle if nothing keeps it dirty any longer."""
        if (
            extent not in self._inflight
            and extent not in self._written
            and extent not in self._kept
            and extent not in self._out_of_sync
            and extent in self._dirty
        ):
            self._idle.add(extent)

    @property
    def cleanable(self) -> int:
        """How many extents could be cleaned now."""
        return len(self._idle)

    @property
    def unflushed(self) -> int:
        """How many extents wait for a flush of both nodes."""
        return len(self._written)

    @property
    def unproven(self) -> bool:
        """Whether a write is in flight, or complete but not known to be flushed on both nodes."""
        return bool(self._inflight or self._written)

    def clean(self) -> None:
        """Clears the bits of all idle extents. The caller writes the pages when it suits."""
        for extent in self._idle:
            self._dirty.discard(extent)
            self._durable.discard(extent)
            self._cleaned.add(extent // PAGE_BITS)
        self._idle.clear()

    def clean_kept(self) -> None:
        """An orderly stop: what is flushed on both nodes need not stay dirty for the next write's sake."""
        kept = [extent for extent in self._dirty if extent in self._kept]
        self._kept.clear()
        for extent in kept:
            self._settle(extent)
        self.clean()

    # -- resync ----------------------------------------------------------------------------------------------------

    def link_lost(self) -> None:
        """The other node is gone, and with it perhaps what it only had in its cache: all that is not proven flushed."""
        self._copying.clear()
        for extent in list(self._written):
            self._mark_out_of_sync(extent)

    def link_made(self) -> None:
        """A link begins to the node that is brought up to date: writes in flight went out before, and not over it."""
        for extent in self._inflight:
            self._mark_out_of_sync(extent)

    def merge(self, remote: bytes) -> None:
        """The other node's map: its dirty extents are out of sync here too."""
        self._out_of_sync.merge(remote)
        self._take_over_out_of_sync()

    def everything(self) -> None:
        """Every extent is out of sync."""
        self._out_of_sync.fill()
        self._take_over_out_of_sync()

    def _take_over_out_of_sync(self) -> None:
        for number in self._out_of_sync.pages():
            page = self._out_of_sync.page(number)
            self._dirty.merge_page(number, page)
            if self._durable.page(number) != self._dirty.page(number):
                self._changed.add(number)
        for extents in (self._idle, self._written):
            for extent in [extent for extent in extents if extent in self._out_of_sync]:
                self._forget(extent)

    def _forget(self, extent: int) -> None:
        self._idle.discard(extent)
        self._written.pop(extent, None)

    def copy_begun(self, extent: int) -> None:
        """A resync begins to copy the extent."""
        self._copying.add(extent)

    def copied(self, extent: int) -> None:
        """A resync has copied the whole extent; it still waits for a flush of both nodes.

        Without effect if the extent fell out of sync again since `copy_begun`.
        """
        if extent in self._copying:
            self._copying.discard(extent)
            self._out_of_sync.discard(extent)
            self._mark_written(extent)

    def next_out_of_sync(self, start: int) -> int | None:
        """The first extent at or after `start` that a resync has to copy, or None."""
        return self._out_of_sync.next_set(start)

    def is_out_of_sync(self, first: int, last: int) -> bool:
        """Whether any of the extents first..last waits for a resync."""
        found = self._out_of_sync.next_set(first) if self._out_of_sync else None
        return found is not None and found <= last

    @property
    def in_sync(self) -> bool:
        """No extent waits for a resync."""
        return not self._out_of_sync

    def pending(self) -> int:
        """How many extents have a write in flight or wait for a resync (`dirty` in hastctl list)."""
        return len(self._out_of_sync) + sum(extent not in self._out_of_sync for extent in self._inflight)

    def forget(self) -> None:
        """The other node has taken over all that this map knew (a secondary's, at a primary's first request)."""
        self._cleaned.update(self._dirty.pages())
        self._changed.clear()
        for bitmap in (self._dirty, self._durable, self._out_of_sync):
            bitmap.clear()

    # -- disk ------------------------------------------------------------------------------------------------------

    @property
    def must_write(self) -> bool:
        """Whether somebody waits for bits that are not on disk."""
        return bool(self._changed)

    @property
    def may_write(self) -> bool:
        """Whether a page differs from what is on disk."""
        return bool(self._changed or self._cleaned)

    def changed_pages(self) -> list[tuple[int, bytes]]:
        """The pages to write, as (number, 4096 bytes), ascending; their writing is taken to have begun."""
        numbers = sorted(self._changed | self._cleaned)
        self._changed.clear()
        self._cleaned.clear()
        pages = []
        for number in numbers:
            page = self._dirty.page(number)
            # Until the write is over, only what is set before and after it is sure to be set on disk.
            self._durable.intersect_page(number, page)
            pages.append((number, page))
        return pages

    def pages_written(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """The pages from `changed_pages` are on stable storage."""
        for number, page in pages:
            # `clean` may have cleared bits since: those are not to be relied on, a page without them may follow.
            self._durable.replace_page(number, page, mask=self._dirty.page(number))

    def pages_failed(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """The pages from `changed_pages` could not be written: they are to be written again."""
        self._changed.update(number for number, _ in pages)

    def to_bytes(self, size: int) -> bytes:
        """The map as it is to be on disk (and in the handshake): `size` bytes."""
        return self._dirty.to_bytes(size)
