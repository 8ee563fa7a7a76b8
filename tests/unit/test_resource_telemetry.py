"""hastfs.resource.telemetry: how long things take, in runs; how fast a resync is."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from hastfs.details import LATENCY_BOUNDS
from hastfs.resource.telemetry import RATE_WINDOW, Latency, Progress

MIB = 1 << 20


def filled(latency: Latency) -> dict[int | None, int]:
    """By the upper bounds in microseconds (None: longer), without empty buckets."""
    counts = latency.histogram().counts
    return {bound: count for bound, count in zip((*LATENCY_BOUNDS, None), counts, strict=True) if count}


def test_what_came_and_was_done_together_is_one_run() -> None:
    latency, began, ended = Latency(), 1.0, 1.0001
    for _ in range(16):
        latency.add(began, ended)
    assert latency.run == 16
    assert (filled(latency), latency.number) == ({128: 16}, 16)


def test_a_part_of_a_discard_is_no_entry() -> None:
    latency = Latency()
    latency.add(None, 1.0)
    assert filled(latency) == {}


def test_what_is_shorter_or_longer_than_all_bounds_is_counted() -> None:
    latency = Latency()
    latency.add(0.0, 0.0)
    latency.add(0.0, 3600.0)
    assert filled(latency) == {16: 1, None: 1}
    assert latency.histogram().total == 3600.0


def test_what_took_so_long_together_is_spread_evenly() -> None:
    latency = Latency()
    latency.spread(0.004, 4)
    latency.spread(0.0, 0)
    assert filled(latency) == {1024: 4}
    assert latency.histogram().total == 0.004


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=200))
def test_runs_count_what_single_entries_would(entries: list[tuple[int, int]]) -> None:
    times = [number * 37e-6 for number in range(101)]
    latency, single = Latency(), [Latency() for _ in entries]
    for one, (began, took) in zip(single, entries, strict=True):
        latency.add(times[began], times[began + took])
        one.add(times[began], times[began + took])
    apart, together = Latency().histogram(*single), latency.histogram()
    assert together.counts == apart.counts
    assert abs(together.total - apart.total) < 1e-9


async def test_the_rate_of_a_resync_is_of_the_last_seconds(autojump_clock: MockClock) -> None:
    progress = Progress("to-peer", 1.0)
    for _ in range(200):  # 8 MiB a second
        await trio.sleep(0.125)
        progress.moved(MIB)
        progress.copied(MIB)
    steady = progress.look(80 * MIB)
    assert abs(steady.rate / (8 * MIB) - 1) < 0.1
    assert (steady.total, steady.left, steady.direction, steady.started) == (280 * MIB, 80 * MIB, "to-peer", 1.0)
    assert steady.eta is not None
    assert 9 < steady.eta < 11
    await trio.sleep(RATE_WINDOW / 2)
    assert abs(progress.look(80 * MIB).rate / (4 * MIB) - 1) < 0.2
    await trio.sleep(RATE_WINDOW)
    assert (progress.look(80 * MIB).rate, progress.look(80 * MIB).eta) == (0.0, None)


async def test_the_first_moment_of_a_resync_is_not_taken_for_its_rate(autojump_clock: MockClock) -> None:
    progress = Progress("from-peer", 1.0)
    progress.moved(MIB)
    await trio.sleep(0.01)
    assert progress.look(0).rate == MIB
