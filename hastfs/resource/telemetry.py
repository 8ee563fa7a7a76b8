"""What an engine counts beyond the original's statistics, and how long things take.

The hot path hardly pays for it: of the requests that came together, one is timed and stands for all of them. At a queue
depth of one that is every one of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from hastfs.details import LATENCY_BOUNDS, Histogram, Sync
from hastfs.resource.status import Statistics

RATE_WINDOW = 10.0
"""Seconds over which the rate of a resync is told: long enough to be steady, short enough to be of now."""

_STEP = 0.5  # seconds that are counted together
_FIRST = LATENCY_BOUNDS[0].bit_length() - 1  # of the first bound: its power of two


class Latency:
    """A histogram."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * 65  # by the bits of the number of microseconds
        self._total = 0.0

    def enter(self, took: float, number: int) -> None:
        """So many that took so long each."""
        self._counts[int(took * 1e6).bit_length()] += number
        self._total += took * number

    @property
    def number(self) -> int:
        """Of all entries."""
        return sum(self._counts)

    def histogram(self) -> Histogram:
        """As in `Details`."""
        counts = [0] * (len(LATENCY_BOUNDS) + 1)
        for bits, count in enumerate(self._counts):
            counts[max(0, min(bits - _FIRST, len(LATENCY_BOUNDS)))] += count
        return Histogram(tuple(counts), self._total)


class Sample:
    """One request of those that came together: the only one whose clock is read, it stands for all of them.

    It may be answered before it is known how many they are (`batch_over`).
    """

    __slots__ = ("_began", "_clock", "_early", "_number")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._number = 0
        self._early: tuple[tuple[Latency, float], ...] = ()

    def ended(self, latency: Latency) -> None:
        """As far as `latency` tells."""
        took = self._clock() - self._began
        if self._number:
            latency.enter(took, self._number)
        else:
            self._early += ((latency, took),)

    def batch_over(self, number: int) -> None:
        """So many came together."""
        self._number = number
        for latency, took in self._early:
            latency.enter(took, number)


class Telemetry:
    """Of one engine. Bytes of applications, of the links before the present one, and of resyncs."""

    __slots__ = (
        "connected_since",
        "connects",
        "delete_bytes",
        "disconnects",
        "flush",
        "local",
        "read",
        "read_bytes",
        "reads_seen",
        "received_bytes",
        "remote",
        "remote_errors",
        "sent_bytes",
        "started",
        "sync",
        "sync_bytes",
        "total",
        "was_in_sync",
        "write_bytes",
        "writes_seen",
    )

    def __init__(self) -> None:
        self.started = time.time()
        """Seconds since the epoch, as the next two; the rest of the times is trio's."""
        self.connected_since: float | None = None
        self.was_in_sync: float | None = None
        """When both nodes last had the same data, if they have not now."""
        self.sync: Progress | None = None
        """Of the resync under way."""
        self.reads_seen = self.writes_seen = 0
        """Those that are in a batch for which a sample stands."""
        self.read_bytes = self.write_bytes = self.delete_bytes = self.sync_bytes = 0
        self.sent_bytes = self.received_bytes = 0
        self.connects = self.disconnects = self.remote_errors = 0
        self.local = Latency()
        self.remote = Latency()
        self.total = Latency()
        self.read = Latency()
        self.flush = Latency()

    def link_up(self) -> None:
        """There is a link."""
        self.connected_since = time.time()
        self.connects += 1

    def link_over(self, sent: int, received: int) -> None:
        """One that had been up, and moved so many bytes."""
        self.connected_since = None
        self.disconnects += 1
        self.sent_bytes += sent
        self.received_bytes += received

    def counters(self, statistics: Statistics) -> dict[str, int]:
        """As in `Details`, of what is known here."""
        return {
            "reads": statistics.stat_read,
            "writes": statistics.stat_write,
            "deletes": statistics.stat_delete,
            "flushes": statistics.stat_flush,
            "read_bytes": self.read_bytes,
            "write_bytes": self.write_bytes,
            "delete_bytes": self.delete_bytes,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "sync_bytes": self.sync_bytes,
            "connects": self.connects,
            "disconnects": self.disconnects,
            "map_updates": statistics.stat_activemap_update,
            "local_errors": statistics.errors,
            "remote_errors": self.remote_errors,
        }

    def latency(self) -> dict[str, Histogram]:
        """As in `Details`."""
        return {
            "local": self.local.histogram(),
            "remote": self.remote.histogram(),
            "total": self.total.histogram(),
            "read": self.read.histogram(),
            "flush": self.flush.histogram(),
        }


class Progress:
    """Of one resync, on trio's clock. `direction`, `started`: as in `Sync`."""

    def __init__(self, direction: str, started: float) -> None:
        self._direction = direction
        self._started = started
        self._began = trio.current_time()
        self._done = 0
        self._steps: deque[list[float]] = deque()  # the beginning of each, and its bytes

    def moved(self, length: int) -> None:
        """So many bytes are the same on both nodes now."""
        now = trio.current_time()
        if not self._steps or now - self._steps[-1][0] >= _STEP:
            self._steps.append([now, 0])
            self._forget(now)
        self._steps[-1][1] += length

    def copied(self, length: int) -> None:
        """Extents of so many bytes are off the list."""
        self._done += length

    def _forget(self, now: float) -> None:
        while self._steps and self._steps[0][0] <= now - RATE_WINDOW:
            self._steps.popleft()

    def look(self, left: int) -> Sync:
        """`left`: bytes of the extents that are still on the list."""
        now = trio.current_time()
        self._forget(now)
        # Of a resync that has just begun, the first second is not made to look like more than it brought.
        window = max(1.0, min(RATE_WINDOW, now - self._began))
        rate = sum(length for _, length in self._steps) / window
        return Sync(self._direction, self._done + left, left, rate, self._started)
