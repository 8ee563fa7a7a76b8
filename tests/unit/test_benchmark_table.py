"""The arithmetic behind the benchmarks' table."""

from __future__ import annotations

import math

import pytest

from benchmarks.fio import ROWS, result
from benchmarks.machine import BenchmarkError
from benchmarks.parts.io import judge
from benchmarks.table import Figure, Verdict, best, markdown, number, ratio


def figure(median: float) -> Figure:
    return Figure.of([median])


def test_a_figure_is_the_median_of_its_rounds_with_the_extremes() -> None:
    assert Figure.of([9.0, 1.0, 2.0]) == Figure(median=2.0, low=1.0, high=9.0, rounds=3)
    assert str(Figure.of([900.0, 100.0, 200.0])) == "200 (100-900)"
    assert str(figure(5.0)) == "5.00"


@pytest.mark.parametrize(
    ("value", "text"), [(0.125, "0.12"), (12.34, "12.3"), (4321.0, "4321"), (43210.0, "43.2k"), (432100.0, "432k")]
)
def test_numbers_have_three_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_beside_nothing_a_ratio_is_infinite() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert math.isinf(ratio(1.0, 0.0))


def test_the_best_has_the_highest_median() -> None:
    assert best([Figure.of([1.0, 1.0, 9.0]), figure(2.0)]) == figure(2.0)
    assert best([]) is None


def test_a_bound_itself_meets_it_from_either_side() -> None:
    assert Verdict("", 1.5, 1.5).met
    assert not Verdict("", 1.49, 1.5).met
    assert Verdict("", 20, 20, most=True).met
    assert not Verdict("", 21, 20, most=True).met


def test_a_table_is_markdown() -> None:
    assert markdown(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | --- |\n| x | 1 |"


def test_fullsync_is_judged_against_the_best_peer_the_null_volume_and_the_other_modes() -> None:
    row = "4k write d32"
    rates = {
        "fullsync": 60e3,
        "memsync": 50e3,
        "async": 90e3,
        "none": 100e3,
        "null": 110e3,
        "qemu": 20e3,
        "gluster": 4e3,
    }
    found = {verdict.what: verdict for verdict in judge({name: {row: figure(rate)} for name, rate in rates.items()}, 0)}
    assert {what: round(verdict.value, 2) for what, verdict in found.items()} == {
        "4k write d32: fullsync / best peer": 3.0,
        "4k write d32: fullsync / null": 0.55,
        "4k write d32: memsync / fullsync": 0.83,
        "4k write d32: async / none": 0.9,
    }
    assert [what for what, verdict in found.items() if not verdict.met] == ["4k write d32: memsync / fullsync"]


def test_the_loop_device_is_judged_against_the_peers_loop_devices() -> None:
    row = "4k read d1"
    figures = {"fullsync": 10.0, "qemu": 5.0, "fullsync +loop": 9.0, "qemu +loop": 3.0}
    found = {
        verdict.what: verdict.value for verdict in judge({name: {row: figure(n)} for name, n in figures.items()}, 0)
    }
    assert found["4k read d1 +loop: fullsync / best peer"] == 3.0


def test_a_write_with_a_flush_may_take_little_more_than_a_sync_and_a_round_trip() -> None:
    row = "4k write d1 fsync"
    figures = {"fullsync": {row: figure(4000.0)}, "raw": {row: figure(10000.0)}}
    (verdict,) = judge(figures, 50.0)
    assert (verdict.value, round(verdict.bound), verdict.met) == (250.0, 195, False)


def test_what_fio_prints_that_is_no_result_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="no result"):
        result("fio: no such file", ROWS["4k read d1"])
