"""The test is the secondary of captured resyncs; our primary asks for, or sends, what the original's did.

The original's metadata afterwards are ours, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.interop import application
from tests.interop.component import EXTENTSIZE, Found, State
from tests.interop.conftest import MakeStage
from tests.interop.parts import SecondarysPart, write_of
from tests.interop.stage import Lines, Peer, Setting, Stage
from tests.interop.transcripts import (
    DONE,
    PRIMARY,
    SECONDARY,
    Step,
    brought,
    changed,
    extents_of,
    pair_of,
    requests_of,
    split,
    transcript,
)

pytestmark = pytest.mark.kernel


def as_fresh(opening: Sequence[Step]) -> list[Step]:
    """With step 1 as a fresh primary says it, where the capture is of a later connect: 1 in the head."""
    return [
        Step(step.connection, step.what, b"\x01" + step.raw[1:])
        if step.what == PRIMARY and step.has("version")
        else step
        for step in opening
    ]


def uncounted(opening: Sequence[Step]) -> list[Step]:
    """With step 3 of a primary that did not count a write alone."""
    return [step.saying(localcnt=0) if step.has("resuid") else step for step in opening]


def agreed(stage: Stage, part: SecondarysPart, first: int, *, stop: bool = False) -> Found:
    """The component when the resync is over and written down, and (`stop`) the role left.

    The primary flushes again if a write alone is still to be counted, and when it stops.
    """
    with part.flushing(first):
        stage.until(lambda: stage.dirty() == 0, "everything is in sync", timeout=20)
        stage.until_event("syncdone")
        if stop:
            stage.role("init")
        return stage.found()


@pytest.mark.parametrize(
    ("scenario", "setting"),
    [
        ("hs_regsync_none_none", Setting()),
        ("hs_regsync_hole_none", Setting(compression="hole")),
        ("hs_regsync_none_sha256", Setting(checksum="sha256")),
    ],
    ids=["none none", "hole none", "none sha256"],
)
def test_what_was_written_alone_is_sent_when_the_secondary_is_back(
    make_stage: MakeStage, scenario: str, setting: Setting
) -> None:
    """DIFFERENCES["reconnect"]: it takes a second or two."""
    opening, resynced = split(transcript(scenario))
    pair = pair_of(opening)
    stage = make_stage(setting)
    stage.begin(State(pair, prevrole="primary"))
    with Peer(stage) as peer:
        with Lines() as lines, stage.becoming_primary():  # and the link is lost again
            SecondarysPart(stage, peer, lines).perform(as_fresh(uncounted(opening)))
        stage.until_status("degraded")
        application.use(stage.image, resynced)
        assert stage.found().identity == (pair, 1, 0, "primary")
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            part.perform(opening)
            assert part.resync(3, resynced) == requests_of(resynced)
            found = agreed(stage, part, 3)
    assert found.identity == (pair, 0, 0, "primary")
    assert found.dirty == extents_of(resynced)
    assert found.content == changed(resynced, State().content)


def test_a_primary_that_is_out_of_date_asks_for_what_the_original_asks_for(make_stage: MakeStage) -> None:
    opening, resynced = split(transcript("hs_sync_from_secondary_fullsync"))
    pair = pair_of(opening)
    stage = make_stage()
    stage.begin(State(pair, 0, 0, "primary", frozenset({0}), {EXTENTSIZE: b"out of date"}))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
            assert part.resync(1, resynced) == requests_of(resynced)
        found = agreed(stage, part, 1, stop=True)
    assert found.identity == (pair, 0, 1, "primary")
    assert found.dirty == frozenset()  # at the latest now: DIFFERENCES["lazily"]
    assert found.content == State(data=brought(resynced)).content


def test_an_unused_secondary_gets_everything_from_a_used_primary(make_stage: MakeStage) -> None:
    opening, resynced = split(transcript("hs_secondary_virgin_full"))
    pair = pair_of(opening)
    data = changed(resynced, State().content)
    stage = make_stage()
    stage.begin(State(pair, 0, 0, "primary", data={0: data}))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(as_fresh(opening))
            # hast(8): with this step the secondary is known to be out of date.
            stage.until(lambda: stage.found().identity == (pair, 1, 0, "primary"), "localcnt is 1", timeout=10)
            assert part.resync(3, resynced) == requests_of(resynced)
        found = agreed(stage, part, 3)
    assert found.identity == (pair, 0, 0, "primary")
    assert found.content == data


def test_what_was_written_before_the_first_connect_is_all_that_an_unused_secondary_gets(make_stage: MakeStage) -> None:
    opening, resynced = split(transcript("hs_primary_wrote_before_first_connect"))
    stage = make_stage()
    stage.begin(State())
    stage.become_primary()
    application.use(stage.image, resynced)
    pair = stage.found().numbers["resuid"]
    assert pair
    assert stage.found().identity == (pair, 1, 0, "primary")  # DIFFERENCES["first write"]
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        part.perform(opening)
        assert part.resync(2, resynced) == requests_of(resynced)
        found = agreed(stage, part, 2)
    assert found.identity == (pair, 0, 0, "primary")
    assert found.content == changed(resynced, State().content)


def test_a_component_that_an_original_wrote_to_before_its_first_connect_is_sent_as_it_would_be(
    make_stage: MakeStage,
) -> None:
    """The original has `localcnt` 1 in its memory only; after a restart it says 0, as we do with its component."""
    opening, resynced = split(transcript("hs_primary_wrote_before_first_connect"))
    data = changed(resynced, State().content)
    stage = make_stage()
    stage.begin(State(prevrole="primary", dirty=extents_of(resynced), data={0: data}))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(uncounted(opening))
            assert part.resync(2, resynced) == requests_of(resynced)
        found = agreed(stage, part, 2)
    assert found.identity == (found.numbers["resuid"], 0, 0, "primary")
    assert found.content == data


@pytest.mark.parametrize(
    ("scenario", "replication"), [("error_write_fullsync", "fullsync"), ("error_write_async", "async")]
)
def test_a_write_that_fails_on_the_secondary_is_sent_again(
    make_stage: MakeStage, scenario: str, replication: str
) -> None:
    """DIFFERENCES["failed write"]. The application has its success, because the local copy has the data."""
    opening, requests = split(transcript(scenario))
    stage = make_stage(Setting(replication))
    stage.begin(State())
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
        with stage.meanwhile(lambda: application.use(stage.image, requests)):
            part.perform(requests)
        again = write_of(2 * EXTENTSIZE, stage.found().content[2 * EXTENTSIZE : 3 * EXTENTSIZE])
        assert part.resync(1, [again, Step(2, SECONDARY, DONE)]) == [again.raw]
        assert stage.status().status == "complete"
        agreed(stage, part, 1)


def test_a_flush_that_fails_on_the_secondary_costs_the_link_and_what_was_not_flushed_is_sent_again(
    make_stage: MakeStage,
) -> None:
    """DIFFERENCES["failed flush"]."""
    opening, requests = split(transcript("io_fullsync"))
    write, flush = requests[:2], [requests[-2].saying(seq=2), requests[-1]]
    (failed,) = (step for step in transcript("error_write_fullsync") if step.has("error"))
    stage = make_stage()
    stage.begin(State())
    with Peer(stage) as peer:
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            with stage.becoming_primary():
                part.perform(opening)
            with stage.meanwhile(lambda: application.use(stage.image, [*write, *flush])):
                part.perform([*write, flush[0], failed.saying(seq=2)])
                assert lines[1].is_closed()
        assert stage.found().numbers["localcnt"] == 1
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            empty_map, _ = split(transcript("hs_regsync_none_none"))
            pair = stage.found().numbers["resuid"]
            part.perform([step.saying(resuid=pair) if step.has("resuid") else step for step in empty_map])
            again = write_of(2 * EXTENTSIZE, stage.found().content[2 * EXTENTSIZE : 3 * EXTENTSIZE])
            assert part.resync(3, [again, Step(4, SECONDARY, DONE)]) == [again.raw]
            agreed(stage, part, 3)
