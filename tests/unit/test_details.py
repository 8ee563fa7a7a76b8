"""hastfs.details: what there is to know of a resource, as plain values and back."""

from __future__ import annotations

import json

import pytest

from hastfs.details import LATENCY_BOUNDS, Details, Histogram, Sync


def histogram(**counts: int) -> Histogram:
    """`us64=3`: three that took more than 32 and up to 64 microseconds."""
    buckets = [0] * (len(LATENCY_BOUNDS) + 1)
    for name, count in counts.items():
        buckets[LATENCY_BOUNDS.index(int(name[2:])) if name != "longer" else -1] = count
    return Histogram(tuple(buckets), 1.5)


def test_details_survive_json() -> None:
    sync = Sync("to-peer", 100, 40, 8.0, 1.0)
    details = Details(
        "primary", sync=sync, latency={"total": histogram(us64=3)}, dirty_map=(0, 1000), gauges={"held": 1}
    )
    assert Details.from_plain(json.loads(json.dumps(details.as_plain()))) == details


def test_fields_of_a_newer_version_are_left_out() -> None:
    assert Details.from_plain(Details("secondary").as_plain() | {"colour": "blue"}) == Details("secondary")


@pytest.mark.parametrize("plain", [{"counts": [1], "total": 0}, {"counts": [-1] * 22, "total": 0}])
def test_a_histogram_of_another_shape_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no counts|not a number"):
        Histogram.from_plain(plain)


def test_a_percentile_lies_in_its_bucket() -> None:
    seen = histogram(us64=50, us128=50)
    assert seen.percentile(0.25) == pytest.approx(48e-6)
    assert seen.percentile(0.5) == pytest.approx(64e-6)
    assert seen.percentile(1.0) == pytest.approx(128e-6)


def test_there_is_no_percentile_of_nothing_and_what_took_too_long_counts_as_the_last_bound() -> None:
    assert Histogram().percentile(0.99) is None
    assert histogram(longer=1).percentile(0.5) == LATENCY_BOUNDS[-1] / 1e6


def test_what_came_since_an_earlier_look() -> None:
    assert sum(histogram(us64=5).since(histogram(us64=3)).counts) == 2


def test_an_eta_needs_a_rate() -> None:
    assert Sync("to-peer", 100, 40, 8.0, 1.0).eta == 5.0
    assert Sync("to-peer", 100, 40, 0.0, 1.0).eta is None


@pytest.mark.parametrize(
    "spoilt",
    [
        {"role": 1},
        {"problem": "two\nlines"},
        {"remedy": "\x1b[2J"},
        {"size": -1},
        {"size": 1.0},
        {"behind": True},
        {"started": "now"},
        {"last_in_sync": float("nan")},
        {"connected_since": float("inf")},
        {"started": 10**400},
        {"latency": {"total": {"counts": [0] * 22, "total": 10**400}}},
        {"sync": {}},
        {"sync": []},
        {"counters": []},
        {"counters": {"a b": 1}},
        {"gauges": {"held": 1 << 64}},
        {"latency": {"total": None}},
        {"latency": {"total": {"counts": [0] * 22}}},
        {"latency": []},
        {"dirty_map": [1001]},
        {"dirty_map": [0] * 5000},
        {"dirty_map": None},
    ],
)
def test_what_is_no_details_is_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Details.from_plain(Details("primary").as_plain() | spoilt)
