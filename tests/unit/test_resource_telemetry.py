"""hastfs.resource.telemetry: how long things take, in runs; how fast a resync is."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from hastfs.details import LATENCY_BOUNDS
from hastfs.resource.telemetry import RATE_WINDOW, Latency, Progress, Sample

MIB = 1 << 20


def filled(latency: Latency) -> dict[int | None, int]:
    """By the upper bounds in microseconds (None: longer), without empty buckets."""
    counts = latency.histogram().counts
    return {bound: count for bound, count in zip((*LATENCY_BOUNDS, None), counts, strict=True) if count}


def test_what_is_shorter_or_longer_than_all_bounds_is_counted() -> None:
    latency = Latency()
    latency.enter(0.0, 1)
    latency.enter(3600.0, 1)
    assert filled(latency) == {16: 1, None: 1}
    assert latency.histogram().total == 3600.0


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_everything_is_in_the_bucket_of_its_bounds(taken: list[float]) -> None:
    for took in taken:
        latency = Latency()
        latency.enter(took, 1)
        (bound,) = filled(latency)
        # A bucket goes up to its bound; what is counted is whole microseconds.
        assert bound is None or int(took * 1e6) < bound
        assert bound is not None or took * 1e6 >= LATENCY_BOUNDS[-1]
        assert bound in (None, LATENCY_BOUNDS[0]) or int(took * 1e6) * 2 >= bound


def test_one_request_stands_for_all_that_came_with_it() -> None:
    times = iter((1.0, 1.0001, 1.001))
    total, remote = Latency(), Latency()
    sample = Sample(lambda: next(times))
    sample.ended(total)
    assert total.number == 0, "nobody knows yet how many they are"
    sample.batch_over(16)
    sample.ended(remote)
    assert (filled(total), filled(remote)) == ({128: 16}, {1024: 16})


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
