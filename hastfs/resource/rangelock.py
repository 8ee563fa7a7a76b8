"""Locks on byte ranges: overlapping requests go one after the other, in the order they came; others do not wait.

Two overlapping writes must reach both disks in the same order, and a resync must not copy a range while an
application changes it. The holder keeps the range until both nodes are done with it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable


class Range:
    """A range start..end (bytes, end exclusive), held or waited for."""

    __slots__ = ("end", "granted", "start")

    def __init__(self, start: int, end: int, granted: Callable[[Range], None]) -> None:
        self.start = start
        self.end = end
        self.granted = granted

    def __lt__(self, other: Range) -> bool:
        return self.start < other.start

    def overlaps(self, other: Range) -> bool:
        """Whether the two have a byte in common."""
        return self.start < other.end and other.start < self.end


class RangeLock:
    """The ranges of one disk. Held ranges never overlap, so they are kept sorted and found by bisection."""

    def __init__(self) -> None:
        self._held: list[Range] = []
        self._waiting: list[Range] = []
        self._ready: deque[Range] = deque()
        self._granting = False

    def acquire(self, start: int, end: int, granted: Callable[[Range], None]) -> Range:
        """Calls `granted` with the range when it is ours: at once if nothing overlaps. To be given to `release`."""
        wanted = Range(start, end, granted)
        if self._is_taken(wanted):
            self._waiting.append(wanted)
        else:
            insort(self._held, wanted)
            granted(wanted)
        return wanted

    def withdraw(self, wanted: Range) -> None:
        """Takes back an `acquire` that was not granted yet."""
        self._waiting.remove(wanted)
        self._promote()
        self._grant()

    def is_taken(self, start: int, end: int) -> bool:
        """Whether `acquire` would have to wait."""
        return self._is_taken(Range(start, end, lambda _: None))

    def _is_taken(self, wanted: Range) -> bool:
        return self._is_held(wanted) or any(wanted.overlaps(earlier) for earlier in self._waiting)

    def release(self, held: Range) -> None:
        """Gives the range back; whoever waited for it gets it, in the order of asking."""
        at = bisect_right(self._held, held) - 1
        if at < 0 or self._held[at] is not held:
            raise ValueError(f"range {held.start}..{held.end} is not held")
        del self._held[at]
        if self._waiting:
            self._promote()
            self._grant()

    def _is_held(self, wanted: Range) -> bool:
        held = self._held
        at = bisect_right(held, wanted)
        return (at > 0 and held[at - 1].end > wanted.start) or (at < len(held) and held[at].start < wanted.end)

    def _promote(self) -> None:
        still: list[Range] = []
        for wanted in self._waiting:
            if self._is_held(wanted) or any(wanted.overlaps(earlier) for earlier in still):
                still.append(wanted)
            else:
                insort(self._held, wanted)
                self._ready.append(wanted)
        self._waiting = still

    def _grant(self) -> None:
        # A granted request may finish and release at once: without this loop a long queue would become deep recursion.
        if self._granting:
            return
        self._granting = True
        try:
            while self._ready:
                ready = self._ready.popleft()
                ready.granted(ready)
        finally:
            self._granting = False
