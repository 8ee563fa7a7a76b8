"""The parts of which the power losses are made: the volatile disk, the model of the applications, the recorder."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.powerloss.application import Application, content
from tests.powerloss.journal import Done, Entry, Flush, Mark, Write
from tests.powerloss.medium import Medium
from tests.powerloss.recorder import recording

SECTOR = 512


def medium_after(*entries: Write | Flush | Done) -> Medium:
    medium = Medium(bytes(4 * SECTOR))
    for entry in entries:
        medium.replay(entry)
    return medium


def sectors(state: bytes) -> list[int]:
    return [int.from_bytes(state[at : at + 8], "little") for at in range(0, len(state), SECTOR)]


def write(number: int, sector: int, *, count: int = 1, durable: bool = False) -> Write:
    return Write(0, number, sector * SECTOR, content(number) * count, durable)


def test_what_was_written_before_a_flush_was_asked_for_is_stable_when_it_is_done() -> None:
    asked = (write(1, 0), Done(0, 1), Flush(0, 2), write(3, 1), Done(0, 3))
    assert sectors(medium_after(*asked).nothing()) == [0, 0, 0, 0]
    assert sectors(medium_after(*asked, Done(0, 2)).nothing()) == [1, 0, 0, 0]
    assert sectors(medium_after(*asked, Done(0, 2)).everything()) == [1, 3, 0, 0]


def test_a_write_that_is_not_done_when_a_flush_is_asked_for_is_not_covered_by_it() -> None:
    assert sectors(medium_after(write(1, 0), Flush(0, 2), Done(0, 1), Done(0, 2)).nothing()) == [0, 0, 0, 0]


def test_a_durable_write_is_stable_when_it_is_done_and_takes_nothing_else_along() -> None:
    entries = (write(1, 0), Done(0, 1), write(2, 1, durable=True))
    assert sectors(medium_after(*entries).nothing()) == [0, 0, 0, 0]
    assert sectors(medium_after(*entries, Done(0, 2)).nothing()) == [0, 2, 0, 0]


def test_what_was_overwritten_before_it_was_stable_does_not_come_back() -> None:
    medium = medium_after(write(1, 0), Done(0, 1), write(2, 0), Done(0, 2), Flush(0, 3), Done(0, 3))
    assert medium.volatile == []
    assert sectors(medium.everything()) == [2, 0, 0, 0]


def test_any_sectors_of_a_volatile_write_survive_and_older_writes_shine_through() -> None:
    medium = medium_after(write(1, 0, count=2), Done(0, 1), write(2, 0, count=2), Done(0, 2))
    chance = random.Random(0)
    found = {tuple(sectors(medium.some(chance))[:2]) for _ in range(500)}
    assert found == {(one, other) for one in range(3) for other in range(3)}


def application_after(*marks: dict[str, int]) -> Application:
    application = Application(2)
    for at, mark in enumerate(marks):
        application.replay(at, mark)
    return application


def possible(application: Application, values: range = range(4)) -> list[int]:
    return [value for value in values if not application.wrong(content(value) + content(0))]


BEGIN_1 = {"begin": 1, "value": 1, "sector": 0, "count": 1}
BEGIN_2 = {"begin": 2, "value": 2, "sector": 0, "count": 1}


def test_until_a_flush_a_write_may_be_there_or_not_and_then_it_must_be() -> None:
    written = (BEGIN_1, {"end": 1}, {"flush": 9})
    assert possible(application_after(*written)) == [0, 1]
    assert possible(application_after(*written, {"flushed": 9})) == [1]


def test_a_flush_says_nothing_of_a_write_that_was_acknowledged_after_it_was_asked_for() -> None:
    assert possible(application_after(BEGIN_1, {"flush": 9}, {"end": 1}, {"flushed": 9})) == [0, 1]


def test_of_two_writes_at_the_same_time_either_may_win() -> None:
    flush = ({"flush": 9}, {"flushed": 9})
    assert possible(application_after(BEGIN_1, BEGIN_2, {"end": 1}, {"end": 2}, *flush)) == [1, 2]
    assert possible(application_after(BEGIN_1, {"end": 1}, BEGIN_2, {"end": 2}, *flush)) == [2]


def test_half_a_write_in_a_sector_is_wrong() -> None:
    application = application_after(BEGIN_1)
    assert application.wrong(content(1)[:256] + content(0)[:256] + content(0)).startswith("sector 0 ")


@pytest.mark.kernel
def test_the_recorder_sees_what_is_asked_of_the_disks_and_when_it_is_done(tmp_path: Path) -> None:
    components = (tmp_path / "one", tmp_path / "other")
    for component in components:
        component.write_bytes(bytes(8192))
    (tmp_path / "recorder").mkdir()
    with recording(tmp_path / "recorder", components) as recorder:
        one, other = (os.open(component, os.O_RDWR) for component in components)
        try:
            os.pwrite(one, bytes(1024), 4096)
            os.pwrite(one, b"x" * 512, 0)
            recorder.mark("written")
            assert os.pread(one, 513, 0) == b"x" * 512 + b"\0"
            os.pwritev(other, [b"y" * 512], 0, os.RWF_DSYNC)
            os.fdatasync(one)
        finally:
            os.close(one)
            os.close(other)
        entries = recorder.finish().entries
    numbers = [entry.number for entry in entries if isinstance(entry, Write | Flush)]
    first, second, third, flush = numbers
    expected: list[Entry] = [
        *(Write(0, first, 4096, bytes(1024), False), Done(0, first)),
        *(Write(0, second, 0, b"x" * 512, False), Done(0, second)),
        Mark("written"),
        *(Write(1, third, 0, b"y" * 512, True), Done(1, third)),
        *(Flush(0, flush), Done(0, flush)),
    ]
    assert entries == expected
