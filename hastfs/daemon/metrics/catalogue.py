"""Every metric, and where in `hastfs.details` it comes from. Pure; docs/metrics.md has the same in a table.

Names follow Prometheus's conventions: base units (seconds, bytes), `_total` for what only grows. All have the label
`resource`, but those of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hastfs.details import Details, Histogram, Sync

Number = tuple[tuple[str, ...], float]
"""Values of the labels beside `resource`, and the number."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels`: beside `resource`. `numbers`: what it is of one resource; nothing where nothing is known."""

    name: str
    kind: str
    """`gauge` or `counter`."""
    help: str
    labels: tuple[str, ...]
    numbers: Callable[[Details], Iterator[Number]]


@dataclass(frozen=True, slots=True)
class Timing:
    """A histogram, in seconds."""

    name: str
    help: str
    labels: tuple[str, ...]
    histograms: Callable[[Details], Iterator[tuple[tuple[str, ...], Histogram]]]


STATES: Final = {
    "role": ("init", "primary", "secondary"),
    "connection": ("none", "connecting", "connected", "split-brain", "refused"),
    "disk": ("up-to-date", "inconsistent", "outdated", "detached", "unknown"),
    "peer_disk": ("up-to-date", "inconsistent", "outdated", "detached", "unknown"),
}
"""The words of `Details`: one gauge for each, of which one is 1."""


def _state(field: str, help: str) -> Metric:
    def numbers(details: Details) -> Iterator[Number]:
        for word in STATES[field]:
            yield (word,), float(getattr(details, field) == word)

    return Metric(f"hast_{field}", "gauge", f"{help} 1 for the state it is in, 0 for the others.", ("state",), numbers)


def _one(name: str, help: str, value: Callable[[Details], float | None]) -> Metric:
    def numbers(details: Details) -> Iterator[Number]:
        if (number := value(details)) is not None:
            yield (), float(number)

    return Metric(name, "gauge", help, (), numbers)


def _of_sync(value: Callable[[Sync], float | None]) -> Callable[[Details], float | None]:
    return lambda details: None if details.sync is None else value(details.sync)


def _gauge(name: str, help: str, gauge: str) -> Metric:
    return _one(name, help, lambda details: details.gauges.get(gauge))


def _counter(name: str, help: str, counters: dict[str, str], label: str = "") -> Metric:
    """`counters`: of `Details`, each with its value of `label`."""

    def numbers(details: Details) -> Iterator[Number]:
        for counter, value in counters.items():
            if counter in details.counters:
                yield ((value,) if label else ()), float(details.counters[counter])

    return Metric(name, "counter", help, (label,) if label else (), numbers)


def _timing(name: str, help: str, latencies: dict[str, str], label: str = "") -> Timing:
    def histograms(details: Details) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        for latency, value in latencies.items():
            if latency in details.latency:
                yield ((value,) if label else ()), details.latency[latency]

    return Timing(name, help, (label,) if label else (), histograms)


METRICS: Final[tuple[Metric, ...]] = (
    _one(
        "hast_up",
        "Whether all is known of the resource: 0 if its worker does not answer. What it would have said is missing.",
        lambda details: details.answered,
    ),
    _one("hast_problem", "Whether something is wrong; hastctl status says what helps.", lambda d: bool(d.problem)),
    _state("role", "Role of this node."),
    _state("connection", "Connection to the other node."),
    _state("disk", "Data of this node's component."),
    _state("peer_disk", "Data of the other node's component, as far as this node knows."),
    _one("hast_size_bytes", "Size of the disk that applications see.", lambda details: details.size or None),
    _one("hast_worker_start_timestamp_seconds", "When the worker began.", lambda details: details.started),
    _one("hast_connected_timestamp_seconds", "Since when the nodes are connected.", lambda d: d.connected_since),
    _one(
        "hast_in_sync_timestamp_seconds",
        "When both nodes last had the same data; now, as long as they have.",
        lambda details: details.last_in_sync,
    ),
    _one(
        "hast_behind_bytes",
        "Extents that the other node lacks: what would be lost with this node (on a primary).",
        lambda details: details.behind if details.answered and details.role == "primary" else None,
    ),
    _one("hast_sync_active", "Whether a resync is under way.", lambda d: d.sync is not None if d.answered else None),
    _one("hast_sync_size_bytes", "What the resync has to copy in all.", _of_sync(lambda sync: sync.total)),
    _one("hast_sync_left_bytes", "What it still has to copy.", _of_sync(lambda sync: sync.left)),
    _one(
        "hast_sync_rate_bytes_per_second",
        "What it copied in the last 10 seconds, a second.",
        _of_sync(lambda sync: sync.rate),
    ),
    _one("hast_sync_remaining_seconds", "How long it will take at this rate.", _of_sync(lambda sync: sync.eta)),
    _gauge(
        "hast_dirty_bytes", "Extents that are marked in the map: what a resync after a crash would copy.", "dirty_bytes"
    ),
    _gauge("hast_requests_in_progress", "Requests of applications that are not answered.", "requests"),
    _gauge("hast_held_requests", "Of these, those that wait for the other node, which has the only good data.", "held"),
    _gauge("hast_local_queue_requests", "Requests that this node's disk is busy with.", "local_queue"),
    _gauge("hast_remote_queue_requests", "Requests that the other node has not answered.", "remote_queue"),
    _gauge("hast_send_queue_bytes", "Bytes that wait to be sent to the other node.", "send_queue_bytes"),
    _counter(
        "hast_requests_total",
        "Requests: of applications on a primary, of the primary on a secondary.",
        {"reads": "read", "writes": "write", "deletes": "delete", "flushes": "flush"},
        "operation",
    ),
    _counter(
        "hast_request_bytes_total",
        "Bytes of these requests.",
        {"read_bytes": "read", "write_bytes": "write", "delete_bytes": "delete"},
        "operation",
    ),
    _counter("hast_sent_bytes_total", "Bytes sent to the other node.", {"sent_bytes": ""}),
    _counter("hast_received_bytes_total", "Bytes received from the other node.", {"received_bytes": ""}),
    _counter("hast_sync_bytes_total", "Bytes that resyncs copied.", {"sync_bytes": ""}),
    _counter("hast_map_updates_total", "Times the map of dirty extents was written.", {"map_updates": ""}),
    _counter("hast_connects_total", "Times the nodes were connected, since hastd was started.", {"connects": ""}),
    _counter("hast_disconnects_total", "Times the connection was lost, since hastd was started.", {"disconnects": ""}),
    _counter("hast_worker_restarts_total", "Workers that died, since hastd was started.", {"worker_restarts": ""}),
    _counter(
        "hast_errors_total",
        "Requests that a disk refused: this node's (local), the other's (remote).",
        {"local_errors": "local", "remote_errors": "remote"},
        "disk",
    ),
)

TIMINGS: Final[tuple[Timing, ...]] = (
    _timing(
        "hast_write_duration_seconds",
        "Writes: by this node's disk (local), until the other node's answer (remote), the application's (total).",
        {"local": "local", "remote": "remote", "total": "total"},
        "stage",
    ),
    _timing("hast_read_duration_seconds", "Reads of applications.", {"read": ""}),
    _timing("hast_flush_duration_seconds", "Flushes of applications.", {"flush": ""}),
)

OF_DAEMON: Final = (
    ("hast_build_info", "gauge", "Always 1; the label `version` is what matters."),
    ("hast_look_duration_seconds", "gauge", "How long it took to look at all resources."),
)
