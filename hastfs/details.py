"""What there is to know of a resource beyond the original's status: for hastctl, metrics, events and programs.

A worker makes `Details` (and does not know what only the supervisor knows), the supervisor completes them, the control
socket carries them as JSON, and `hastfs.client` gives them to whoever asks. All are plain values: `as_plain` is the
JSON, `from_plain` takes it back and raises TypeError or ValueError for anything else. Numbers only grow in meaning:
a field may be added, none changes its sense (docs/json.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from hastfs.checks import check_counts, check_flag, check_line, check_name, check_number, check_real

LATENCY_BOUNDS: Final = tuple(1 << exponent for exponent in range(4, 25))
"""Microseconds, 16 us to 16.8 s: the upper bounds of the buckets of a `Histogram`; one more bucket has no bound."""

MAX_CELLS: Final = 4096
"""The most parts that a map of dirty extents can be asked for in."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long things took since the worker started."""

    counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS) + 1)
    """Per bucket of `LATENCY_BOUNDS` (not cumulated); the last one is for what took longer."""
    total: float = 0.0
    """Seconds, of all together."""

    def as_plain(self) -> dict[str, Any]:
        return {"counts": list(self.counts), "total": self.total}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        counts = tuple(check_number(count) for count in plain["counts"])
        if len(counts) != len(LATENCY_BOUNDS) + 1:
            raise ValueError(f"{counts!r} are no counts of a histogram")
        return cls(counts, check_real(plain["total"]))

    def percentile(self, share: float) -> float | None:
        """Seconds that `share` (0 to 1) of all took at most, interpolated in the bucket; None if there were none.

        What took longer than the last bound counts as that bound.
        """
        wanted = sum(self.counts) * share
        if not wanted:
            return None
        seen, low = 0, 0
        for count, bound in zip(self.counts, LATENCY_BOUNDS, strict=False):
            if count and seen + count >= wanted:
                return (low + (bound - low) * (wanted - seen) / count) / 1e6
            seen, low = seen + count, bound
        return LATENCY_BOUNDS[-1] / 1e6

    def since(self, before: Self) -> Histogram:
        """What came after `before`, an earlier look at the same worker's."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Histogram(counts, self.total - before.total)


@dataclass(frozen=True, slots=True)
class Sync:
    """A resync under way."""

    direction: str
    """`to-peer` or `from-peer`: where the data goes, seen from this node."""
    total: int
    """Bytes that were to be made equal when it began, or have come to it since."""
    left: int
    """Bytes of these that still are."""
    rate: float
    """Bytes made equal a second, over the last seconds."""
    started: float
    """Seconds since the epoch."""

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        rate, started = check_real(plain["rate"]), check_real(plain["started"])
        total, left = check_number(plain["total"]), check_number(plain["left"])
        return cls(check_line(plain["direction"]), total, left, rate, started)

    @property
    def eta(self) -> float | None:
        """Seconds until it is done at this rate; None while there is none to tell from."""
        return self.left / self.rate if self.rate > 0 else None


@dataclass(frozen=True, slots=True)
class Details:
    """One look at one resource on one node. Times in seconds since the epoch, sizes in bytes."""

    role: str = "init"
    connection: str = "none"
    """`none` (init, or `remote none`), `connecting` (there is no link), `connected`, `split-brain`, `refused`."""
    disk: str = "unknown"
    """This node's component: `up-to-date`, `inconsistent` (in the middle of a resync from the other node), `outdated`
    (the other node has newer data, as far as this node knows), `detached` (it failed), `unknown` (not in use)."""
    peer_disk: str = "unknown"
    """The other node's, as this one knows: the same words."""
    size: int = 0
    """Of the data that applications see; 0: not known."""
    started: float | None = None
    """When the worker did; None: there is none."""
    connected_since: float | None = None
    last_in_sync: float | None = None
    """When both nodes last had the same data and this node knew; the time of the look itself while they have.
    None: never, or not known."""
    behind: int = 0
    """Bytes of extents that the other node lacks (on a primary); what would be lost if this node were."""
    sync: Sync | None = None
    problem: str = ""
    """One sentence for people: what is wrong, empty if nothing is."""
    remedy: str = ""
    """The command that helps, empty if there is none."""
    counters: dict[str, int] = field(default_factory=dict)
    """Only ever grow while a worker lives: `reads`, `writes`, `deletes`, `flushes` (of applications), `read_bytes`,
    `write_bytes`, `delete_bytes`, `sent_bytes`, `received_bytes`, `sync_bytes`, `connects`, `disconnects`,
    `map_updates`, `local_errors`, `remote_errors`, `worker_restarts`."""
    gauges: dict[str, int] = field(default_factory=dict)
    """Now: `requests` (of applications, not answered), `local_queue`, `send_queue_bytes`, `remote_queue`,
    `held` (requests that wait for a peer or a disk), `dirty_bytes` (marked in the map)."""
    latency: dict[str, Histogram] = field(default_factory=dict)
    """Of writes: `local` (this node's component), `remote` (until the other node's answer), `total` (until the
    application's); `read` and `flush` in all."""
    dirty_map: tuple[int, ...] = ()
    """Only when asked for: so many equal parts of the disk from its begin to its end; per mille of each that is dirty
    (at least 1 if anything is)."""
    held: bool = False
    """Requests of applications wait until the other node is fenced (hast.conf(5), fence)."""
    answered: bool = True
    """Whether the worker said what it knows, if there is to be one; if not, all that it knows is missing here."""

    def as_plain(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["latency"] = {name: histogram.as_plain() for name, histogram in self.latency.items()}
        plain["dirty_map"] = list(self.dirty_map)
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Fields that are not known are left out: the other side may be newer."""
        try:
            return cls(**{name: check(plain[name]) for name, check in _CHECKS.items() if name in plain})
        except (KeyError, AttributeError) as error:
            raise ValueError(f"no details of a resource: {error}") from error


def _time(value: Any) -> float | None:
    return None if value is None else check_real(value)


def _sync(value: Any) -> Sync | None:
    return None if value is None else Sync.from_plain(value)


def _latency(value: Any) -> dict[str, Histogram]:
    return {check_name(name): Histogram.from_plain(one) for name, one in value.items()}


def _cells(value: Any) -> tuple[int, ...]:
    cells = tuple(check_number(cell) for cell in value)
    if len(cells) > MAX_CELLS or any(cell > 1000 for cell in cells):
        raise ValueError("not the parts of a map, per mille")
    return cells


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "role": check_line,
    "answered": check_flag,
    "held": check_flag,
    "connection": check_line,
    "disk": check_line,
    "peer_disk": check_line,
    "size": check_number,
    "started": _time,
    "connected_since": _time,
    "last_in_sync": _time,
    "behind": check_number,
    "sync": _sync,
    "problem": check_line,
    "remedy": check_line,
    "counters": check_counts,
    "gauges": check_counts,
    "latency": _latency,
    "dirty_map": _cells,
}
