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
    """All a second. `operations` by the word of the original's statistics: `read`, `write`, `delete`, `flush`;
    `counters` and `latency` as in `Details`.
    """

    operations: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    latency: dict[str, Histogram] = field(default_factory=dict)


def between(before: Look, after: Look, seconds: float) -> Interval | None:
    """None if that cannot be told: a new worker has begun to count again."""
    if seconds <= 0 or before.details.started != after.details.started:
        return None
    operations = _growth(_operations(before), _operations(after))
    counters = _growth(before.details.counters, after.details.counters)
    latency = {
        name: histogram.since(before.details.latency.get(name, Histogram()))
        for name, histogram in after.details.latency.items()
    }
    fell = any(count < 0 for count in (*operations.values(), *counters.values()))
    if fell or any(count < 0 for histogram in latency.values() for count in histogram.counts):
        return None
    return Interval(_every(operations, seconds), _every(counters, seconds), latency)


class Track:
    """A resource as it was looked at, one look after the other."""

    def __init__(self) -> None:
        self.look: Look | None = None
        self.interval = Interval()
        """The last one that could be told."""
        self.writes: deque[float] = deque(maxlen=REMEMBERED)
        self.reads: deque[float] = deque(maxlen=REMEMBERED)
        """Bytes a second, oldest first."""
        self._at = 0.0

    def add(self, look: Look, at: float) -> None:
        """`at`: seconds of a clock that only runs forward."""
        before, self.look = self.look, look
        if before is not None:
            self.interval = between(before, look, at - self._at) or Interval()
            self.writes.append(self.interval.counters.get("write_bytes", 0.0))
            self.reads.append(self.interval.counters.get("read_bytes", 0.0))
        self._at = at


def _operations(look: Look) -> dict[str, int]:
    return {word: look.status.stats.get(f"stat_{word}", 0) for word in ("read", "write", "delete", "flush")}


def _growth(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items()}


def _every(counts: dict[str, int], seconds: float) -> dict[str, float]:
    return {name: count / seconds for name, count in counts.items()}
