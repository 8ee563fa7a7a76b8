"""Sizes, rates, times and spans in few characters."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.cli import words

NOW = datetime.datetime(2026, 11, 23, 12, 0).timestamp()


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1023.6, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (10 * 1024 - 1, "10 KiB"),
        (1536 << 20, "1.5 GiB"),
        (98 << 20, "98 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1 << 60, "1.0 EiB"),
    ],
)
def test_sizes_have_two_digits_at_least_and_their_unit(count: float, said: str) -> None:
    assert words.size(count) == said
    assert words.rate(count) == f"{said}/s"


@given(st.floats(0, 2.0**63))
def test_no_size_takes_more_than_eight_characters(count: float) -> None:
    assert len(words.size(count)) <= 8


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0"), (0.4, "0"), (950, "950"), (999.6, "1.0k"), (9500, "9.5k"), (12e6, "12M")]
)
def test_numbers_are_short(count: float, said: str) -> None:
    assert words.number(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "1 d"),
        (4 * 86400 + 3700, "4 d 1 h"),
        (1e12, "over 100 d"),
        (math.inf, "over 100 d"),
    ],
)
def test_spans_have_two_units_at_most(seconds: float, said: str) -> None:
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("past", "said"),
    [
        (0, "now"),
        (-5, "now"),
        (1.9, "now"),
        (30, "30 s ago"),
        (200, "3 min ago"),
        (31 * 3600, "31 h ago"),
        (48 * 3600, "2026-11-21"),
    ],
)
def test_the_past_is_told_from_now_until_it_is_two_days_old(past: float, said: str) -> None:
    assert words.ago(NOW - past, NOW) == said


def test_what_never_was_is_a_dash() -> None:
    assert words.ago(None, NOW) == "-"
    assert words.latency(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0000123, "12 us"), (0.0009996, "1.0 ms"), (0.0012, "1.2 ms"), (0.9996, "1.0 s"), (16.7, "17 s")],
)
def test_latencies_go_from_microseconds_to_seconds(seconds: float, said: str) -> None:
    assert words.latency(seconds) == said


def test_there_are_no_hundred_percent_before_all_is_done() -> None:
    assert words.percent(999_999, 1_000_000) == "99.9 %"
    assert words.percent(1, 1) == "100.0 %"
    assert words.percent(0, 0) == "100.0 %"


@pytest.mark.parametrize(("count", "expected"), [(0, "0 resources"), (1, "1 resource"), (2, "2 resources")])
def test_one_is_not_several(count: int, expected: str) -> None:
    assert words.several(count, "resource") == expected
