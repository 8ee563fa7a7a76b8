"""The activemap: which extents may differ between the nodes, in memory and on disk.

An extent is *dirty* while its bit is to be set on disk. That is so while
- a write to it is in flight,
- it is *written*: writes to it are complete on both nodes, but a flush of both has not been seen since,
- it is *out of sync*: the nodes are known (or, after a crash, suspected) to differ, until a resync has copied it,
- it is *idle*: equal and flushed on both nodes, and nobody has come to clean it yet,
- it is *kept*: idle, but among the keepdirty most recently written ones.

An extent that was marked ahead of its first write (ahead.py) is idle from the beginning. What is idle is left dirty as
long as something near it was written since the last look (`age`): so a writer that comes round again within seconds
finds its bits set, and cleaning does not undo what marking ahead has just done.

What must hold (the promises of docs/architecture.md):
- map before data: `begin_write` tells whether the bits are durable; if not, the caller waits until the pages that
  `changed_pages` returned have reached stable storage and `pages_written` was called;
- clean means equal: only `clean` clears bits, only of idle extents, and an extent becomes idle only by `flush_done`
  of a flush that began after its last write was complete on both nodes.

Memory is used for extents in use only: a clean extent costs nothing. What a write costs here depends neither on the
size of the map nor on how much of it is dirty.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from hastfs.ondisk.ahead import Ahead
from hastfs.ondisk.bitmap import PAGE_BITS, Bitmap
from hastfs.ondisk.keepdirty import KeepDirty

_NEAR = 64
"""Extents of an aligned group that is used or not used as a whole."""

_MAX_IDLE = 1 << 16
"""With more idle extents than this, no more are marked ahead: after a crash, all of them are copied."""

_MAX_UNWANTED = 16
"""Pages written at a time if nobody waits for them: somebody may come, and would wait for these as well."""


class Activemap:
    """A map over `nextents` extents, starting from `ondisk` (the bytes found on disk).

    Every extent that is dirty on disk at the start is out of sync: who knows what was in flight. Without `ahead`,
    nothing is marked ahead, and everything that is idle is cleaned.
    """

    def __init__(self, nextents: int, keepdirty: int, ondisk: bytes = b"", *, ahead: Ahead | None = None) -> None:
        self.nextents = nextents
        self._dirty = Bitmap(nextents)
        self._durable = Bitmap(nextents)
        self._out_of_sync = Bitmap(nextents)
        for bitmap in (self._dirty, self._durable, self._out_of_sync):
            bitmap.merge(ondisk)
        self._inflight: dict[int, int] = {}
        self._ready: set[int] = set()  # those in flight whose bits are known to be durable: they stay so
        self._written: OrderedDict[int, int] = OrderedDict()  # extent -> epoch of its last complete write, oldest first
        self._epoch = 0
        self._idle: set[int] = set()
        self._kept = KeepDirty(keepdirty)
        self._ahead = ahead
        self._used: set[int] = set()  # groups of _NEAR extents that were written since the last look
        self._copying: set[int] = set()  # extents that a resync is copying
        self._wanted: set[int] = set()  # pages with bits that are to be set on disk and are not, or may not be
        self._unwanted: set[int] = set()  # pages that differ from those on disk, but nobody waits for them
        self._writing: dict[int, bytes] = {}  # pages on their way to the disk

    # -- writes ----------------------------------------------------------------------------------------------------

    def begin_write(self, first: int, last: int) -> bool:
        """A write to extents first..last starts. True: all their bits are durable, the write may be issued."""
        if first == last:  # nearly all are
            if first in self._ready:
                self._inflight[first] += 1
                return True
            return self._begin(first)
        durable = True
        for extent in range(first, last + 1):
            if not self._begin(extent):
                durable = False
        return durable

    def _begin(self, extent: int) -> bool:
        inflight = self._inflight
        if extent in inflight:
            inflight[extent] += 1
        else:
            inflight[extent] = 1
            self._idle.discard(extent)
            if self._ahead is not None:
                self._used.add(extent // _NEAR)
        if extent in self._durable:
            self._ready.add(extent)
            return True
        if extent not in self._dirty:
            self._dirty.add(extent)
            if self._ahead is not None:
                self._mark_ahead(self._ahead.missed(extent))
        if not self._is_being_written(extent):
            self._wanted.add(extent // PAGE_BITS)
        return False

    def _mark_ahead(self, extents: range) -> None:
        if len(self._idle) < _MAX_IDLE:
            self._idle.update(self._dirty.add_range(extents))
            self._used.update(range(extents.start // _NEAR, extents[-1] // _NEAR + 1))
            # Usually both of these are the page that somebody waits for. Another one has time.
            self._unwanted.update((extents.start // PAGE_BITS, extents[-1] // PAGE_BITS))

    def is_durable(self, first: int, last: int) -> bool:
        """Whether the bits of all extents first..last are set on stable storage."""
        return all(extent in self._durable for extent in range(first, last + 1))

    def is_being_written(self, first: int, last: int) -> bool:
        """Whether they will be when the pages are on stable storage that are being written."""
        return all(extent in self._durable or self._is_being_written(extent) for extent in range(first, last + 1))

    def _is_being_written(self, extent: int) -> bool:
        page = self._writing.get(extent // PAGE_BITS)
        return page is not None and bool(page[extent % PAGE_BITS >> 3] & 1 << (extent & 7))

    def end_write(self, first: int, last: int, *, replicated: bool) -> None:
        """A write that began ended. `replicated`: both nodes have it; if not, the extents are out of sync."""
        inflight = self._inflight
        for extent in range(first, last + 1):
            if not replicated:
                self._mark_out_of_sync(extent)
            elif self._written.get(extent) != self._epoch:
                self._mark_written(extent)
            count = inflight[extent]
            if count > 1:
                inflight[extent] = count - 1
                continue
            del inflight[extent]
            self._ready.discard(extent)
            evicted = self._kept.touch(extent)
            if evicted is not None:
                self._settle(evicted)

    def _mark_written(self, extent: int) -> None:
        if extent not in self._out_of_sync:
            self._written[extent] = self._epoch
            self._written.move_to_end(extent)

    def _mark_out_of_sync(self, extent: int) -> None:
        if extent in self._out_of_sync and extent not in self._copying:
            return
        self._forget(extent)
        self._copying.discard(extent)  # what was copied of it so far may be out of sync again
        self._out_of_sync.add(extent)
        if extent not in self._durable:
            self._dirty.add(extent)
            self._wanted.add(extent // PAGE_BITS)

    # -- flushes and cleaning --------------------------------------------------------------------------------------

    def flush_begun(self) -> int:
        """A flush of both nodes begins. Returns what `flush_done` wants if it succeeds on both."""
        self._epoch += 1
        return self._epoch - 1

    def flush_done(self, token: int) -> None:
        """Both nodes have flushed: what was written on both before `flush_begun` is equal and durable."""
        written = self._written
        proven = []
        for extent, epoch in written.items():
            if epoch > token:
                break
            proven.append(extent)
        for extent in proven:
            del written[extent]
            self._settle(extent)

    def _settle(self, extent: int) -> None:
        """The extent becomes idle if nothing keeps it dirty any longer."""
        if (
            extent not in self._written
            and extent not in self._inflight
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
        """Clears the bits of idle extents that nobody has written near to since the last look. The caller writes the
        pages when it suits."""
        used = self._used
        self._clean({extent for extent in self._idle if extent // _NEAR not in used} if used else self._idle)

    def _clean(self, extents: set[int]) -> None:
        cleared = Bitmap(self.nextents)
        for extent in extents:
            cleared.add(extent)
        self._idle -= extents
        self._dirty.subtract(cleared)
        self._durable.subtract(cleared)
        self._unwanted.update(cleared.pages())

    def age(self) -> None:
        """A look at what can be cleaned is over, the next one will be some seconds later."""
        self._used.clear()
        if self._ahead is not None:
            self._ahead.age()

    def clean_kept(self) -> None:
        """An orderly stop: what is flushed on both nodes need not stay dirty for the next write's sake."""
        kept = self._kept.clear()
        for extent in kept:
            self._settle(extent)
        self._clean(set(self._idle))

    # -- resync ----------------------------------------------------------------------------------------------------

    def link_lost(self) -> None:
        """The other node is gone, and with it perhaps what it only had in its cache: all that is not proven flushed."""
        self._copying.clear()
        for extent in self._written:
            self._out_of_sync.add(extent)
        self._written.clear()

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
                self._wanted.add(number)
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
        out_of_sync = self._out_of_sync
        return bool(out_of_sync) and any(extent in out_of_sync for extent in range(first, last + 1))

    @property
    def in_sync(self) -> bool:
        """No extent waits for a resync."""
        return not self._out_of_sync

    def pending(self) -> int:
        """How many extents have a write in flight or wait for a resync (`dirty` in hastctl list)."""
        return len(self._out_of_sync) + sum(extent not in self._out_of_sync for extent in self._inflight)

    @property
    def out_of_sync(self) -> int:
        """How many extents wait for a resync."""
        return len(self._out_of_sync)

    @property
    def dirty(self) -> int:
        """How many extents are marked, for whatever reason."""
        return len(self._dirty)

    def cells(self, number: int) -> tuple[int, ...]:
        """Of so many equal parts of the map: per mille of each that is dirty, at least 1 if anything is.

        With more parts than extents, neighbours show the same extent. Takes time for the parts and for what is dirty.
        """
        cells = []
        for cell in range(number):
            first = cell * self.nextents // number
            stop = max(first + 1, (cell + 1) * self.nextents // number)
            dirty = self._dirty.count(first, stop)
            cells.append(max(1, 1000 * dirty // (stop - first)) if dirty else 0)
        return tuple(cells)

    def forget(self) -> None:
        """The other node has taken over all that this map knew (a secondary's, at a primary's first request)."""
        self._unwanted.update(self._dirty.pages())
        self._wanted.clear()
        self._ready.clear()
        for bitmap in (self._dirty, self._durable, self._out_of_sync):
            bitmap.clear()

    # -- disk ------------------------------------------------------------------------------------------------------

    @property
    def must_write(self) -> bool:
        """Whether somebody waits for bits that are neither on disk nor on their way there."""
        return bool(self._wanted)

    @property
    def may_write(self) -> bool:
        """Whether a page differs from what is on disk, or will be there."""
        return bool(self._wanted or self._unwanted)

    def changed_pages(self) -> list[tuple[int, bytes]]:
        """The pages to write, as (number, 4096 bytes), ascending; their writing is taken to have begun.

        Those that nobody waits for are written when nobody waits for others.
        """
        numbers = sorted(self._wanted or self._unwanted)
        if not self._wanted:
            del numbers[_MAX_UNWANTED:]
        self._wanted.clear()
        self._unwanted.difference_update(numbers)
        pages = [(number, self._dirty.page(number)) for number in numbers]
        self._writing = dict(pages)
        return pages

    def pages_written(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """The pages from `changed_pages` are on stable storage."""
        self._writing = {}
        for number, page in pages:
            # `clean` may have cleared bits since: those are not to be relied on, a page without them may follow.
            self._durable.replace_page(number, page, mask=self._dirty.page(number))

    def pages_failed(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """The pages from `changed_pages` could not be written: they are to be written again."""
        self._writing = {}
        self._wanted.update(number for number, _ in pages)

    def to_bytes(self, size: int) -> bytes:
        """The map as it is to be on disk (and in the handshake): `size` bytes."""
        return self._dirty.to_bytes(size)
