"""How fast the resync may go, so that applications hardly notice it (pure: times are handed in).

While nobody uses the disk it goes as fast as it can: many pieces at a time, large ones. As soon as an application is
seen, there is one small piece at a time, and after a piece that got in an application's way the resync rests: several
times as long as the piece took, whatever it was that made it slow; where applications flush, until it was flushed, or
their next flush would have to do that. So an application that always wants something loses
one part in `REST + 1` of its time at the most. The rests end where the resync would fall below `FLOOR`.
"""

from __future__ import annotations

QUIET = 0.1
"""Seconds without a request after which no application is at work."""

REST = 8
"""How many times as long as a piece took the resync rests after it. An application does not lose just the time that
pieces take: caches are cold after them."""

FLOOR = 10 << 20
"""Bytes a second that the resync makes in any case (as far as the disks and the network let it)."""

BITE = 256 << 10
"""Bytes of a piece while applications are at work: whoever comes behind one waits for its end."""

FIRST_RUN, LONGEST_RUN = 16 << 20, 8 << 30
"""Bytes of a hole that are handled as one piece, at first and at most: to a file it is nothing, a block device may have
to write zeros all the way, and meanwhile all of it is locked."""

_QUICK, _SLOW = 0.02, 0.1  # seconds for a piece of a hole, below which it may grow and above which it has to shrink


class Pacing:
    """The pace of one resync. Times are seconds of any clock that only goes forward, `requests` those of applications
    so far, `flushes` those that were flushes, `active` whether one is not answered yet."""

    def __init__(self, now: float, requests: int, flushes: int) -> None:
        self._requests = requests
        self._flushes = flushes
        self._busy_until = self._flushing_until = now
        self._disturbed = False
        self._resume = now
        self._last = 0.0  # seconds that the last piece took
        self.longest_run = FIRST_RUN
        """Bytes of a hole that may be handled as one piece."""

    def look(self, now: float, requests: int, flushes: int, *, active: bool) -> bool:
        """Whether applications are at work. To be called before and after each piece."""
        if active or requests != self._requests:
            self._requests = requests
            self._busy_until = now + QUIET
            self._disturbed = True
        if flushes != self._flushes:
            self._flushes = flushes
            self._flushing_until = now + QUIET
        return now < self._busy_until

    def to_be_flushed(self, now: float) -> bool:
        """Whether a piece is to be flushed at once, as a part of what it takes."""
        return now < self._flushing_until

    def rest(self, now: float) -> float:
        """Seconds to wait before the next piece, while applications are at work."""
        return max(0.0, self._resume - now)

    def piece(self, largest: int) -> int:
        """Bytes of the next piece while applications are at work, `largest` at the most: more than `BITE` where a piece
        takes so long (a network from town to town) that the rate would be too low."""
        size = BITE
        while size < self._last * FLOOR:
            size *= 2
        return min(size, largest)

    def copied(self, now: float, took: float, length: int) -> None:
        """A piece of `length` bytes is done; it `took` some seconds, those before it began not counted."""
        self._last = took
        rest = min(REST * took, max(0.0, length / FLOOR - took)) if self._disturbed else 0.0
        self._resume = now + rest
        self._disturbed = False

    def hole_copied(self, now: float, took: float, length: int) -> None:
        """The same for a piece of a hole: how long the next one may be."""
        if took > _SLOW:
            self.longest_run = max(FIRST_RUN, self.longest_run // 4)
        elif took < _QUICK and length >= self.longest_run // 2:
            self.longest_run = min(2 * self.longest_run, LONGEST_RUN)
        self.copied(now, took, length)
