"""Locks on byte ranges: overlapping requests go one after the other, in the order they came; others do not wait.

Two overlapping writes must reach both disks in the same order, and a resync must not copy a range while an
application changes it. The holder keeps the range until both nodes are done with it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Span(Protocol):
    """What can be locked: bytes start..end (end exclusive). `granted` is called with the span itself when held."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def granted(self) -> Callable[[Any], None]: ...


class Range:
    """A span for those who have no object of their own for it."""

    __slots__ = ("end", "granted", "start")

    def __init__(self, start: int, end: int, granted: Callable[[Range], None]) -> None:
        self.start = start
        self.end = end
        self.granted = granted

    def overlaps(self, other: Span) -> bool:
        """Whether the two have a byte in common."""
        return self.start < other.end and other.start < self.end


class RangeLock:
    """The ranges of one disk. Held ranges never overlap, so they are kept sorted and found by bisection.

    The starts are in a list of their own: bisection then compares integers only, without a call of Python code.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._held: list[Span] = []  # in the same order
        self._waiting: list[Span] = []
        self._ready: deque[Span] = deque()
        self._granting = False

    def acquire(self, start: int, end: int, granted: Callable[[Range], None]) -> Range:
        """Calls `granted` with the range when it is ours: at once if nothing overlaps. To be given to `release`."""
        wanted = Range(start, end, granted)
        self.acquire_span(wanted)
        return wanted

    def acquire_span(self, wanted: Span) -> None:
        """The same for a span, which must not change until it is released."""
        if (self._waiting and self._is_awaited(wanted.start, wanted.end)) or not self._take(wanted):
            self._waiting.append(wanted)
        else:
            wanted.granted(wanted)

    def _take(self, wanted: Span) -> bool:
        """Whether nothing that is held overlaps; then it is held now."""
        starts, start = self._starts, wanted.start
        if starts:
            at = bisect_right(starts, start)
            if (at and self._held[at - 1].end > start) or (at < len(starts) and starts[at] < wanted.end):
                return False
            starts.insert(at, start)
            self._held.insert(at, wanted)
        else:
            starts.append(start)
            self._held.append(wanted)
        return True

    def withdraw(self, wanted: Span) -> None:
        """Takes back an `acquire` that was not granted yet."""
        self._waiting.remove(wanted)
        self._promote()
        self._grant()

    def is_taken(self, start: int, end: int) -> bool:
        """Whether `acquire` would have to wait."""
        starts = self._starts
        at = bisect_right(starts, start)
        return (
            (at > 0 and self._held[at - 1].end > start)
            or (at < len(starts) and starts[at] < end)
            or self._is_awaited(start, end)
        )

    def _is_awaited(self, start: int, end: int) -> bool:
        return any(earlier.start < end and start < earlier.end for earlier in self._waiting)

    def release(self, held: Span) -> None:
        """Gives the range back; whoever waited for it gets it, in the order of asking."""
        at = bisect_left(self._starts, held.start)
        if at == len(self._held) or self._held[at] is not held:
            raise ValueError(f"range {held.start}..{held.end} is not held")
        del self._starts[at], self._held[at]
        if self._waiting:
            self._promote()
            self._grant()

    def _promote(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wanted in waiting:
            if self._is_awaited(wanted.start, wanted.end) or not self._take(wanted):
                self._waiting.append(wanted)
            else:
                self._ready.append(wanted)

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
