"""What the applications of a primary have to hear of the other node's cache (promise 1 without a good copy here).

While the other node has the only good copy, what was acknowledged and not flushed may be in its cache alone, and a loss
of its power takes that away from under running applications; also what they have only read there, whoever wrote it.
They are told as by a disk that lost its cache: a flush fails. Whether one may, and whether one has to, is what this
knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Shown(NamedTuple):
    """What a cell held in read number `read`, and the number of the last write to it by then."""

    value: int
    written: int
    read: int


class LostCache:
    """As the applications of one primary see it; they begin anew with each change of roles, not with a new worker."""

    def __init__(self) -> None:
        self.unflushed: set[int] = set()
        """Cells that were written and acknowledged, and not flushed since."""
        self._inherited = False
        """Whether a new worker has not flushed yet: what the one before had flushed, it does not know."""
        self.may_tell = False
        """Whether a flush may fail to say that something of that may be gone; once."""
        self._link: object = None
        """The primary's, when that happened."""
        self._gone: dict[int, int] = {}
        """Cells that surely have lost what was acknowledged, and the number of the last write to them by then."""
        self.reads = 0
        """Answered so far with what the other node has."""
        self._shown: dict[int, Shown] = {}
        """By cell, what was read last and not flushed since."""
        self._vanished: dict[int, int] = {}
        """Cells that do not hold any more what was read, and the number of that read."""
        self._before: Sequence[set[int]] = ()
        """By cell, what the other node may have had when it first lost power over `_seen_over`."""
        self._seen_over: object = None

    @property
    def is_at_risk(self) -> bool:
        """Whether something is acknowledged and not flushed, as far as the worker knows."""
        return bool(self.unflushed or self._shown) or self._inherited

    def taken_over(self) -> None:
        """Another worker serves the same applications."""
        self._inherited = True

    def acknowledged(self, cells: Iterable[int]) -> None:
        """They were written; whatever was there before matters to nobody any more."""
        for cell in cells:
            self.unflushed.add(cell)
            self._gone.pop(cell, None)
            self._vanished.pop(cell, None)

    def shown(self, cells: Mapping[int, tuple[int, int]], link: object) -> None:
        """They were read over `link`: of each the value, and the number of the last write to it."""
        self.reads += 1
        if link is not None and link is self._seen_over:  # it was on its way when the other node lost power
            self.happened(link)
        for cell, (value, written) in cells.items():
            self._shown[cell] = Shown(value, written, self.reads)

    def happened(self, link: object) -> None:
        """The other node lost its cache, to which the primary was linked by `link`."""
        self.may_tell = True
        self._link = link

    def unnoticed(self, before: Sequence[set[int]], link: object) -> None:
        """The other node may have had `before`, by cell, until it lost power; the primary still relies on `link`."""
        if link is not self._seen_over:
            self._before, self._seen_over = before, link

    def seen(self, cell: int, link: object) -> set[int]:
        """What the primary may have got of the cell over the link that it has, and the other node may have lost."""
        return self._before[cell] if link is not None and link is self._seen_over else set()

    def gone(self, cells: Mapping[int, int]) -> None:
        """Acknowledged, not flushed, and no longer there: `cells` with the number of the last write to each."""
        self._gone.update(cells)

    def holds(self, found: Sequence[int], written: Sequence[int]) -> None:
        """By cell, what is left after the loss, and the number of the last write to it, acknowledged or not."""
        for cell, shown in self._shown.items():
            if found[cell] != shown.value and written[cell] == shown.written:
                self._vanished[cell] = shown.read

    def is_here(self) -> None:
        """The good copy is the primary's own, which lost nothing."""
        self._gone.clear()
        self._vanished.clear()

    def told(self) -> None:
        """A flush failed, for whatever reason: nobody relies on what was written or read before it was answered."""
        self._gone.clear()
        self._vanished.clear()

    def flushed(self, cells: Iterable[int], number: int, reads: int, link: object) -> list[int]:
        """A flush succeeded over `link` (None: without one), asked for after write `number` and so many reads, and of
        these cells.

        Returns those that it vouched for although they are gone.
        """
        gone = [cell for cell, last in self._gone.items() if last <= number]
        gone += [cell for cell, last in self._vanished.items() if last <= reads]
        if link is not None:
            self._shown = {cell: shown for cell, shown in self._shown.items() if shown.read > reads}
        self.unflushed.difference_update(cells)
        self._inherited = self._inherited and link is None
        if link is not None and link is not self._link:
            self.may_tell = False  # it would have been this one
        return gone
