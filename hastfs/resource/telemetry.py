"""What an engine counts beyond the original's statistics, and how long things take.

The hot path pays for none of it one by one: the clock is read once for what comes or is done together, and what came
together and was done together is one entry of a histogram.
"""

from __future__ import annotations

import time
from collections import deque

import trio

from hastfs.details import LATENCY_BOUNDS, Histogram, Sync
from hastfs.resource.status import Statistics

RATE_WINDOW = 10.0
"""Seconds over which the rate of a resync is told: long enough to be steady, short enough to be of now."""

_STEP = 0.5  # seconds that are counted together
_FIRST = LATENCY_BOUNDS[0].bit_length() - 1  # of the first bound: its power of two


class Latency:
    """A histogram that is filled in runs: entries that began and ended together cost one computation."""

    __slots__ = ("_counts", "_total", "began", "ended", "run")

    def __init__(self) -> None:
        self._counts = [0] * 65  # by the bits of the number of microseconds
        self._total = 0.0
        self.began: float | None = None
        self.ended = 0.0
        self.run = 0
        """Entries from `began` to `ended`, not yet entered. Where every nanosecond counts, one that fits is added here
        without a call."""

    def add(self, began: float | None, ended: float) -> None:
        """One more, from and to a reading of the clock: the very same objects as for others make a run.

        None: it is not to be counted.
        """
        if ended is self.ended and began is self.began:
            self.run += 1
        elif began is not None:
            self._close()
            self.began, self.ended, self.run = began, ended, 1

    def spread(self, seconds: float, number: int) -> None:
        """So many, one after the other, that took so long together."""
        if number:
            self.enter(seconds / number, number)

    def _close(self) -> None:
        if self.run and self.began is not None:
            self.enter(self.ended - self.began, self.run)
            self.run = 0

    def enter(self, took: float, number: int) -> None:
        """So many that took so long each."""
        self._counts[int(took * 1e6).bit_length()] += number
        self._total += took * number

    @property
    def number(self) -> int:
        """Of all entries."""
        return sum(self._counts) + self.run

    def histogram(self, *others: Latency) -> Histogram:
        """Of this one and others together."""
        counts = [0] * (len(LATENCY_BOUNDS) + 1)
        total = 0.0
        for latency in (self, *others):
            latency._close()
            total += latency._total
            for bits, count in enumerate(latency._counts):
                counts[max(0, min(bits - _FIRST, len(LATENCY_BOUNDS)))] += count
        return Histogram(tuple(counts), total)


class Telemetry:
    """Of one engine. Bytes of applications, of the links before the present one, and of resyncs."""

    __slots__ = (
        "both",
        "connected_since",
        "connects",
        "delete_bytes",
        "disconnects",
        "flush",
        "local",
        "read",
        "read_bytes",
        "reads_at_once",
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
        "writes_at_once",
    )

    def __init__(self) -> None:
        self.started = time.time()
        """Seconds since the epoch, as the next two; the rest of the times is trio's."""
        self.connected_since: float | None = None
        self.was_in_sync: float | None = None
        """When both nodes last had the same data, if they have not now."""
        self.sync: Progress | None = None
        """Of the resync under way."""
        self.reads_at_once = self.writes_at_once = 0
        """Answered in the very batch that they came in: how long that took is looked at when it is over."""
        self.read_bytes = self.write_bytes = self.delete_bytes = self.sync_bytes = 0
        self.sent_bytes = self.received_bytes = 0
        self.connects = self.disconnects = self.remote_errors = 0
        self.local = Latency()
        self.remote = Latency()
        self.total = Latency()
        self.both = Latency()
        """Writes that were over for the application with the other node's answer: `remote` and `total` in one."""
        self.read = Latency()
        self.flush = Latency()

    @property
    def at_once(self) -> bool:
        """Whether a request was answered in the present batch."""
        return bool(self.reads_at_once or self.writes_at_once)

    def batch_over(self, took: float) -> None:
        """The requests of a batch came within so many seconds, and what could be answered at once is.

        A read is taken from the kernel, done and answered before the next one is. Writes are done together.
        """
        reads, self.reads_at_once = self.reads_at_once, 0
        writes, self.writes_at_once = self.writes_at_once, 0
        self.read.spread(took, reads)
        if writes:
            self.total.enter(took, writes)

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
            "remote": self.remote.histogram(self.both),
            "total": self.total.histogram(self.both),
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
