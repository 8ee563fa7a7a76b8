"""hastfs.daemon.metrics: what Prometheus reads, and what docs/metrics.md says of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hastfs.daemon.metrics.catalogue import METRICS, OF_DAEMON, STATES, TIMINGS
from hastfs.daemon.metrics.exposition import exposition
from hastfs.details import LATENCY_BOUNDS, Details, Histogram, Sync
from hastfs.model import Role

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

COUNTERS = (
    "reads writes deletes flushes read_bytes write_bytes delete_bytes sent_bytes received_bytes sync_bytes connects "
    "disconnects map_updates local_errors remote_errors worker_restarts"
)
GAUGES = "requests local_queue send_queue_bytes remote_queue held dirty_bytes"

BUSY = Details(
    role="primary",
    connection="connected",
    disk="up-to-date",
    peer_disk="inconsistent",
    size=1 << 30,
    started=10.5,
    connected_since=11.5,
    last_in_sync=9.5,
    behind=4096,
    sync=Sync("to-peer", 8192, 4096, 1024.0, 12.5),
    problem="Something.",
    counters={name: number + 1 for number, name in enumerate(COUNTERS.split())},
    gauges={name: number + 1 for number, name in enumerate(GAUGES.split())},
    latency={
        name: Histogram((1, 2, *[0] * (len(LATENCY_BOUNDS) - 2), 3), 0.5)
        for name in ("local", "remote", "total", "read", "flush")
    },
)


def samples(
    seen: dict[str, Details], accept: str = OPENMETRICS
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels, without `resource` where there is but one."""
    text, kind = exposition(seen, 0.25, accept)
    parse = parse_openmetrics if kind.startswith("application/openmetrics-text") else parse_text
    return {
        (
            sample.name,
            tuple(sorted(item for item in sample.labels.items() if item != ("resource", "shared"))),
        ): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain", ""])
def test_what_is_known_is_there_in_either_format(accept: str) -> None:
    found = samples({"shared": BUSY}, accept)
    assert found["hast_up", ()] == 1
    assert found["hast_problem", ()] == 1
    assert found["hast_role", (("state", "primary"),)] == 1
    assert found["hast_role", (("state", "init"),)] == 0
    assert found["hast_peer_disk", (("state", "inconsistent"),)] == 1
    assert found["hast_behind_bytes", ()] == 4096
    assert found["hast_sync_remaining_seconds", ()] == 4
    assert found["hast_requests_total", (("operation", "read"),)] == 1
    assert found["hast_errors_total", (("disk", "remote"),)] == 15
    assert found["hast_held_requests", ()] == 5
    assert found["hast_read_duration_seconds_count", ()] == 6
    assert found["hast_read_duration_seconds_sum", ()] == 0.5
    assert found["hast_read_duration_seconds_bucket", (("le", "3.2e-05"),)] == 3
    assert found["hast_read_duration_seconds_bucket", (("le", "16.777216"),)] == 3
    assert found["hast_read_duration_seconds_bucket", (("le", "+Inf"),)] == 6
    assert found["hast_write_duration_seconds_count", (("stage", "remote"),)] == 6
    assert found["hast_look_duration_seconds", ()] == 0.25


def test_a_worker_that_hangs_is_down_and_leaves_no_made_up_zeros() -> None:
    found = samples({"shared": Details("primary", connection="connecting", answered=False, problem="It hangs.")})
    assert found["hast_up", ()] == 0
    assert found["hast_role", (("state", "primary"),)] == 1
    assert not {name for name, _ in found} & {"hast_behind_bytes", "hast_sync_active", "hast_requests_total"}


def test_each_resource_has_its_own() -> None:
    found = samples({"shared": BUSY, 'odd "name"\\': Details()})
    assert found["hast_role", (("state", "primary"),)] == 1
    assert found["hast_role", (("resource", 'odd "name"\\'), ("state", "init"))] == 1


def test_every_field_that_counts_is_a_metric() -> None:
    values = set(samples({"shared": BUSY}).values())
    assert {*BUSY.counters.values()} <= values
    names = {metric.name for metric in METRICS}
    assert len(names) == len(METRICS)
    assert sum(metric.kind == "counter" for metric in METRICS) == sum(name.endswith("_total") for name in names)


def test_the_states_are_the_words_of_details() -> None:
    source = (Path(__file__).parents[2] / "hastfs/details.py").read_text()
    for field in ("connection", "disk"):
        assert all(f"`{word}`" in source for word in STATES[field])
    assert STATES["peer_disk"] == STATES["disk"]
    assert STATES["role"] == tuple(role.word for role in Role)


def test_the_documentation_has_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(hast_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    documented = {name: (kind, " ".join(re.findall(r"\w+", labels)), help) for name, kind, labels, help in rows}
    expected = {
        metric.name: (metric.kind, " ".join(("resource", *metric.labels)), f"{metric.help} ".strip())
        for metric in METRICS
    }
    expected |= {timing.name: ("histogram", " ".join(("resource", *timing.labels)), timing.help) for timing in TIMINGS}
    expected |= {name: (kind, "version" if "build" in name else "", help) for name, kind, help in OF_DAEMON}
    assert documented == expected


def test_nobody_pays_for_metrics_who_has_none() -> None:
    """Neither the supervisor loads what only they need, nor do the workers."""
    check = (
        "import sys; import hastfs.daemon.supervisor, hastfs.daemon.worker; "
        "print({'h11', 'prometheus_client'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, check=True).stdout.strip() == b"set()"
