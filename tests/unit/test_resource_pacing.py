"""The pace of the resync: full speed when nobody is at work, a small share of the time when somebody is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hastfs.resource.pacing import BITE, FIRST_RUN, FLOOR, LONGEST_RUN, QUIET, REST, Pacing

MIB = 1 << 20


class Resync:
    """One that only copies, under a clock of its own. An application makes a request every `every` seconds."""

    def __init__(self, every: float | None = None, largest: int = MIB) -> None:
        self.now = 100.0
        self.copied = 0
        self.busy = 0.0
        self.every = every
        self.until: float | None = None
        self.largest = largest
        self.pacing = Pacing(self.now, self.requests, 0)

    @property
    def requests(self) -> int:
        end = self.now if self.until is None else min(self.now, self.until)
        return 7 if self.every is None else 7 + int((end - 100) / self.every)

    def piece(self, took: float) -> None:
        length = self.largest
        if self.pacing.look(self.now, self.requests, 0, active=False):
            self.now += self.pacing.rest(self.now)
            if self.pacing.look(self.now, self.requests, 0, active=False):
                length = self.pacing.piece(self.largest)
        self.now += took
        self.pacing.look(self.now, self.requests, 0, active=False)
        self.pacing.copied(self.now, took, length)
        self.copied += length
        self.busy += took


def test_without_applications_there_is_no_rest_and_pieces_are_large() -> None:
    resync = Resync()
    for _ in range(100):
        resync.piece(0.001)
    assert resync.copied == 100 * MIB
    assert abs(resync.now - 100 - resync.busy) < 1e-6


@given(took=st.floats(1e-5, 0.0015), every=st.floats(1e-6, 1e-5))
def test_an_application_that_always_wants_something_keeps_most_of_its_time(took: float, every: float) -> None:
    resync = Resync(every)
    for _ in range(200):
        resync.piece(took)
    # The first piece comes before anybody is seen.
    assert resync.busy - took <= (resync.now - 100) / (REST + 1) * 1.01


@given(took=st.floats(1e-5, 0.09), every=st.floats(1e-6, 0.01), largest=st.sampled_from([MIB, MIB // 2]))
def test_it_never_falls_below_the_floor_where_the_network_lets_it(took: float, every: float, largest: int) -> None:
    resync = Resync(every, largest)
    for _ in range(100):
        resync.piece(took)
    possible = largest / took
    # As long as its length follows what a piece takes, the first ones may be too short.
    assert resync.copied + 2 * MIB >= min(FLOOR, possible) * (resync.now - 100) * 0.99


def test_a_piece_that_was_in_nobodys_way_is_not_followed_by_a_rest() -> None:
    resync = Resync(every=0.05)
    resync.piece(0.001)
    while resync.requests == 7:
        resync.piece(0.001)
    at = resync.now
    resync.piece(0.001)  # after a rest for the one in which the request came
    rested, at = resync.now - at - 0.001, resync.now
    resync.piece(0.001)
    assert (round(rested / 0.001), round((resync.now - at) / 0.001)) == (REST, 1)
    assert resync.pacing.look(resync.now, resync.requests, 0, active=False)


def test_full_speed_comes_back_when_applications_are_quiet() -> None:
    resync = Resync(every=1e-4)
    for _ in range(10):
        resync.piece(0.001)
    resync.until = resync.now
    at = resync.now
    while resync.pacing.look(resync.now, resync.requests, 0, active=False):
        resync.piece(0.001)
    assert resync.now - at <= QUIET + REST * 0.001 + 0.002


def test_a_request_that_is_not_answered_counts_as_work_however_long_it_takes() -> None:
    pacing = Pacing(0.0, 5, 0)
    assert pacing.look(10.0, 5, 0, active=True)
    assert pacing.look(20.0, 5, 0, active=True)
    assert not pacing.look(20.0 + QUIET, 5, 0, active=False)


def test_pieces_are_small_while_applications_are_at_work_unless_the_network_is_slow() -> None:
    pacing = Pacing(0.0, 0, 0)
    assert pacing.piece(MIB) == BITE
    assert pacing.piece(128 << 10) == 128 << 10  # all that an older node takes
    pacing.copied(1.0, 0.05, BITE)
    assert pacing.piece(MIB) == 512 << 10
    pacing.copied(2.0, 5.0, BITE)
    assert pacing.piece(MIB) == MIB


def test_pieces_of_holes_grow_as_long_as_they_are_quick_and_shrink_when_they_are_slow() -> None:
    pacing = Pacing(0.0, 0, 0)
    now = 0.0
    for _ in range(20):
        now += 0.001
        pacing.hole_copied(now, 0.001, pacing.longest_run)
    assert pacing.longest_run == LONGEST_RUN
    pacing.hole_copied(now, 0.001, FIRST_RUN)
    pacing.hole_copied(now, 0.05, LONGEST_RUN)
    assert pacing.longest_run == LONGEST_RUN
    pacing.hole_copied(now, 3.0, LONGEST_RUN)
    assert pacing.longest_run == LONGEST_RUN // 4
    for _ in range(20):
        pacing.hole_copied(now, 3.0, pacing.longest_run)
    assert pacing.longest_run == FIRST_RUN


def test_a_short_hole_says_nothing_about_longer_ones() -> None:
    pacing = Pacing(0.0, 0, 0)
    for _ in range(20):
        pacing.hole_copied(0.0, 0.001, FIRST_RUN // 4)
    assert pacing.longest_run == FIRST_RUN


def test_pieces_are_flushed_at_once_while_applications_flush() -> None:
    pacing = Pacing(0.0, 5, 3)
    pacing.look(0.0, 6, 3, active=False)
    assert not pacing.to_be_flushed(0.0)
    pacing.look(1.0, 7, 4, active=False)
    assert pacing.to_be_flushed(1.0 + QUIET / 2)
    assert not pacing.to_be_flushed(1.0 + QUIET)
