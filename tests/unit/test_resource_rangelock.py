"""Range locks: overlapping ranges one after the other in the order of asking, all others at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.resource.rangelock import Range, RangeLock


def test_a_range_is_granted_at_once_when_nothing_overlaps() -> None:
    lock, granted = RangeLock(), list[Range]()
    for start in (0, 20, 10):
        lock.acquire(start, start + 10, granted.append)
    assert [(held.start, held.end) for held in granted] == [(0, 10), (20, 30), (10, 20)]


def test_a_withdrawn_range_does_not_stand_in_the_way_of_those_behind_it() -> None:
    lock, granted = RangeLock(), list[str]()
    first = lock.acquire(0, 10, lambda _: granted.append("first"))
    second = lock.acquire(5, 25, lambda _: granted.append("second"))
    lock.acquire(20, 30, lambda _: granted.append("third"))
    assert granted == ["first"]
    lock.withdraw(second)
    assert granted == ["first", "third"]
    lock.release(first)
    assert granted == ["first", "third"]


def test_a_range_that_is_not_held_cannot_be_released() -> None:
    with pytest.raises(ValueError, match="not held"):
        RangeLock().release(Range(0, 10, lambda _: None))


class Request:
    """It is its own range."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.held = False

    def granted(self, held: object) -> None:
        assert held is self
        self.held = True


def test_a_request_can_be_its_own_range() -> None:
    lock, first, second = RangeLock(), Request(0, 10), Request(9, 20)
    lock.acquire_span(first)
    lock.acquire_span(second)
    assert (first.held, second.held) == (True, False)
    lock.release(first)
    assert second.held


def test_a_long_queue_whose_holders_release_at_once_is_no_deep_recursion() -> None:
    lock, granted = RangeLock(), list[Range]()
    first = lock.acquire(0, 10, granted.append)

    def release(held: Range) -> None:
        granted.append(held)
        lock.release(held)

    for _ in range(5000):
        lock.acquire(0, 10, release)
    lock.release(first)
    assert len(granted) == 5001


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("acquire"), st.integers(0, 20), st.integers(1, 8)),
            st.tuples(st.just("release"), st.integers(0, 10), st.just(0)),
            st.tuples(st.just("withdraw"), st.integers(0, 10), st.just(0)),
        ),
        max_size=60,
    )
)
def test_as_a_naive_model_does(steps: list[tuple[str, int, int]]) -> None:
    """The model: a request is granted when nothing that was asked for earlier, and is not over, overlaps it."""
    lock = RangeLock()
    asked: list[Range] = []  # in the order of asking
    granted: list[Range] = []
    for step, number, length in steps:
        holding = [one for one in asked if one in granted]
        waiting = [one for one in asked if one not in granted]
        if step == "acquire":
            taken = any(one.start < number + length and number < one.end for one in asked)
            assert lock.is_taken(number, number + length) == taken
            asked.append(lock.acquire(number, number + length, granted.append))
        elif step == "release" and holding:
            over = holding[number % len(holding)]
            asked.remove(over)
            lock.release(over)
        elif step == "withdraw" and waiting:
            over = waiting[number % len(waiting)]
            asked.remove(over)
            lock.withdraw(over)
        for at, one in enumerate(asked):
            assert (one in granted) == (not any(one.overlaps(earlier) for earlier in asked[:at]))
