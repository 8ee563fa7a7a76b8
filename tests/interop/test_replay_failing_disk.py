"""Captured error replies: our secondary gives the same when its disk fails in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.component import LOCALOFF, MEDIASIZE, State
from tests.interop.conftest import MakeStage
from tests.interop.parts import PrimarysPart
from tests.interop.stage import Lines, Stage
from tests.interop.transcripts import SECONDARY, Step, split, transcript
from tests.kernel.failing_disk import FailingDisk

pytestmark = pytest.mark.kernel


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path / "disk", MEDIASIZE)
    try:
        State().write(disk.backing)
        yield disk
    finally:
        disk.close()


@pytest.fixture
def stage(make_stage: MakeStage, disk: FailingDisk) -> Iterator[Stage]:
    """A secondary with its component on that disk; it ends before the disk does."""
    stage = make_stage()
    stage.keep_on(disk.component)
    stage.start()
    stage.role("secondary")
    yield stage
    stage.kill()


FAILED = next(step for step in transcript("error_write_fullsync") if step.has("error"))
"""{seq 1, error 5}, to a WRITE."""


@pytest.mark.parametrize("scenario", ["error_write_fullsync", "error_write_async"])
def test_a_write_that_fails_is_answered_as_the_original_answers(stage: Stage, disk: FailingDisk, scenario: str) -> None:
    opening, requests = split(transcript(scenario))
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(opening)
        disk.fail("write", start=LOCALOFF)
        part.perform(requests)
        assert stage.fields()["local errors"] == "read: 0, write: 1, delete: 0, flush: 0"


def test_a_memsync_write_that_fails_is_answered_twice(stage: Stage, disk: FailingDisk) -> None:
    """The original primary ends if it gets but the final answer."""
    opening, (write, received, done, *_) = split(transcript("io_memsync"))
    assert done.what == SECONDARY
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(opening)
        disk.fail("write", start=LOCALOFF)
        part.perform([write, received, FAILED])


def test_a_delete_and_flushes_that_fail_are_answered_as_the_original_answers(stage: Stage, disk: FailingDisk) -> None:
    """45 is FreeBSD's EOPNOTSUPP in the capture; here it is what the disk said, whatever it means."""
    opening, (delete, deleted, *flushes) = split(transcript("error_replies"))
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(opening)
        disk.fail("discard")
        part.perform([delete, deleted])
        disk.fail("flush", error=45)
        part.perform(flushes)


def test_a_read_that_fails_is_answered_with_its_error(stage: Stage, disk: FailingDisk) -> None:
    opening, (read, answer) = split(transcript("read_ok"))
    read = read.saying(offset=1 << 19)  # far from the metadata: the page cache has what is near
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(opening)
        disk.fail("read")
        part.perform([read, FAILED.saying(seq=read.number("seq"))])
        disk.heal()
        part.perform([read, Step(2, SECONDARY, answer.raw)])
