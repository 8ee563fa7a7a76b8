"""What a primary's engine knows of its resource, as `hastfs.details` wants it."""

from __future__ import annotations

import time

from hastfs.details import Details
from hastfs.model import Consistency
from hastfs.resource.connector import Standing
from hastfs.resource.replica import Replica


def look(replica: Replica, standing: Standing, cells: int) -> Details:
    """One look at it. `cells`: of the map of what is dirty."""
    telemetry = replica.telemetry
    return Details(
        role="primary",
        connection=standing.connection,
        disk="detached" if replica.detached else "inconsistent" if replica.stale else "up-to-date",
        peer_disk=_peer_disk(replica),
        size=replica.size,
        started=telemetry.started,
        connected_since=telemetry.connected_since,
        last_in_sync=time.time() if replica.in_sync else telemetry.was_in_sync,
        behind=replica.behind,
        sync=None if telemetry.sync is None else telemetry.sync.look(replica.map.out_of_sync * replica.extentsize),
        problem=standing.problem,
        counters=_counters(replica),
        gauges=_gauges(replica),
        latency=telemetry.latency(),
        dirty_map=replica.map.cells(cells),
    )


def _peer_disk(replica: Replica) -> str:
    """As far as this node knows."""
    link = replica.link
    if replica.stale:
        return "unknown" if link is None else "up-to-date"
    if link is None:
        return "outdated" if replica.alone.wanted or replica.behind else "unknown"
    whole = replica.map.in_sync and not (link.told is not None and link.told[0] is Consistency.INCONSISTENT)
    return "up-to-date" if whole else "inconsistent"


def _counters(replica: Replica) -> dict[str, int]:
    counters, link = replica.telemetry.counters(replica.statistics), replica.link
    if link is not None:
        counters["sent_bytes"] += link.sent
        counters["received_bytes"] += link.received
    return counters


def _gauges(replica: Replica) -> dict[str, int]:
    link = replica.link
    return {
        "requests": replica.active + max(0, replica.statistics.stat_read - replica.telemetry.read.number),
        "local_queue": len(replica.unwritten) + replica.component.waiting,
        "send_queue_bytes": 0 if link is None else link.backlog,
        "remote_queue": 0 if link is None else link.waiting,
        "held": replica.held,
        "dirty_bytes": min(replica.size, replica.map.dirty * replica.extentsize),
    }
