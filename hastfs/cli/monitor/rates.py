"""What happened between two looks at a resource. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hastfs.cli.table import Look
from hastfs.details import Histogram

REMEMBERED: Final = 60
"""Intervals whose writes are kept for the curve."""


@dataclass(frozen=True, slots=True)
class Interval:
    """As in `Details`."""

    counters: dict[str, float] = field(default_factory=dict)
    """A second."""
    latency: dict[str, Histogram] = field(default_factory=dict)


def between(before: Look, after: Look, seconds: float) -> Interval | None:
    """None if that cannot be told: a new worker has begun to count again, or one of the looks had no answer."""
    answered = before.details.answered and after.details.answered
    if seconds <= 0 or not answered or before.details.started != after.details.started:
        return None
    counters = {name: count - before.details.counters.get(name, 0) for name, count in after.details.counters.items()}
    latency = {
        name: histogram.since(before.details.latency.get(name, Histogram()))
        for name, histogram in after.details.latency.items()
    }
    fell = any(count < 0 for count in counters.values())
    if fell or any(count < 0 for histogram in latency.values() for count in histogram.counts):
        return None
    return Interval({name: count / seconds for name, count in counters.items()}, latency)


class Track:
    """A resource as it was looked at, one look after the other."""

    def __init__(self) -> None:
        self.look: Look | None = None
        self.interval = Interval()
        """The last one that could be told."""
        self.writes: deque[float] = deque(maxlen=REMEMBERED)
        self.reads: deque[float] = deque(maxlen=REMEMBERED)
        """Bytes a second, oldest first."""
        self.dirty_map: tuple[int, ...] = ()
        """As in `Details`; empty: not asked for, or not known."""
        self._at = 0.0

    def add(self, look: Look, at: float) -> None:
        """`at`: seconds of a clock that only runs forward."""
        before, self.look = self.look, look
        if before is not None:
            self.interval = between(before, look, at - self._at) or Interval()
            self.writes.append(self.interval.counters.get("write_bytes", 0.0))
            self.reads.append(self.interval.counters.get("read_bytes", 0.0))
        self._at = at
