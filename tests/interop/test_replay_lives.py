"""The life of two components, captured on the original: ours live the same, and their metadata say the same.

Compared are the counters, the previous role and the dirty extents; `resuid`, which is random, only with 0. The test
plays the node that is not ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.interop import application
from tests.interop.component import EXTENTSIZE, State
from tests.interop.conftest import MakeStage
from tests.interop.parts import PrimarysPart, SecondarysPart, write_of
from tests.interop.stage import Lines, Peer, Stage
from tests.interop.transcripts import DONE, FLUSH, PRIMARY, SECONDARY, Step, life, requests_of, split, transcript

pytestmark = pytest.mark.kernel

BLOCK = b"a life.." * (EXTENTSIZE // 8)
FLUSHING = next(step for step in transcript("io_fullsync") if step.command == FLUSH)


def is_as_captured(stage: Stage, state: str, **departures: object) -> None:
    """`departures`: where ours is meant to be another value."""
    found = stage.found()
    names = ("resuid", "localcnt", "remotecnt", "prevrole", "dirty")
    ours = dict(zip(names, (*found.identity, found.dirty), strict=True))
    theirs = dict(zip(names, life(state), strict=True)) | departures
    for identity in (ours, theirs):
        identity["resuid"] = identity["resuid"] != 0
    assert ours == theirs, state


def exchange(*requests: Step, first: int, seq: int = 1) -> list[Step]:
    """The requests with numbers from `seq` on, each with a good reply, on the connections `first` and the one after."""
    steps: list[Step] = []
    for number, request in enumerate(requests, seq):
        steps.append(Step(first, PRIMARY, request.saying(seq=number).raw))
        steps.append(Step(first + 1, SECONDARY, DONE).saying(seq=number))
    return steps


def writes(*extents: int) -> list[Step]:
    return [write_of(extent * EXTENTSIZE, BLOCK) for extent in extents]


def of_pair(steps: Sequence[Step], pair: int) -> list[Step]:
    return [step.saying(resuid=pair) if step.has("resuid") else step for step in steps]


def test_the_life_of_node_a(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.create()
    is_as_captured(stage, "life_01_created.a")
    stage.start()
    is_as_captured(stage, "life_02_daemons.a")
    with Peer(stage) as peer:
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            with stage.becoming_primary():
                part.perform(split(transcript("hs_virgin"))[0])
            is_as_captured(stage, "life_04_connected_virgin.a")
            written = exchange(*writes(1, 10, 31), FLUSHING, first=1)
            with stage.meanwhile(lambda: application.use(stage.image, written)):
                part.perform(written)
            is_as_captured(stage, "life_05_written.a")
        stage.until_status("degraded")
        is_as_captured(stage, "life_06_disconnected.a")
        application.use(stage.image, writes(5))
        is_as_captured(stage, "life_07_written_disconnected.a")
        application.use(stage.image, writes(20))
        is_as_captured(stage, "life_08_written_disconnected2.a")
        pair = stage.found().numbers["resuid"]
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            part.perform(of_pair(split(transcript("hs_regsync_none_none"))[0], pair))
            resynced = exchange(*writes(5, 20), first=3)
            assert part.resync(3, resynced) == [step.raw for step in writes(5, 20)]
            stage.until_event("syncdone")
            is_as_captured(stage, "life_09_resynced.a")
            written = exchange(*writes(7), first=3, seq=4)
            with stage.meanwhile(lambda: application.use(stage.image, written)):
                part.perform(written)
            is_as_captured(stage, "life_10_written_again.a")
            with part.flushing(3):
                stage.role("init")
            is_as_captured(stage, "life_11_a_init.a", dirty=frozenset())  # DIFFERENCES["clean"]
        with Lines() as lines:
            part = SecondarysPart(stage, peer, lines)
            opening, resynced = split(transcript("hs_sync_from_secondary_fullsync"))
            with stage.becoming_primary():
                part.perform(of_pair(opening, pair))
                assert part.resync(1, resynced) == requests_of(resynced)[1:]  # only what is in the secondary's map
            stage.until_event("syncdone", before=1)
            with part.flushing(1):
                stage.role("init")
            is_as_captured(stage, "life_14_a_primary_synced_from_secondary.a")


def test_the_life_of_node_b(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.create()
    is_as_captured(stage, "life_01_created.b")
    stage.start()
    is_as_captured(stage, "life_02_daemons.b")
    stage.role("secondary")
    is_as_captured(stage, "life_03_b_secondary.b")
    opening, resynced = split(transcript("hs_sync_from_secondary_fullsync"))
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(split(transcript("hs_virgin"))[0])
        is_as_captured(stage, "life_04_connected_virgin.b")
        part.perform(exchange(write_of(0, resynced[1].data), first=1))
        is_as_captured(stage, "life_05_written.b")
    pair = stage.found().numbers["resuid"]
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(of_pair(split(transcript("hs_regsync_none_none"))[0], pair))
        part.perform(exchange(write_of(0, resynced[1].data), first=3))
        is_as_captured(stage, "life_09_resynced.b")
    stage.become_primary()
    is_as_captured(stage, "life_12_b_primary_alone.b", prevrole="primary")  # DIFFERENCES["previous role"]
    application.use(stage.image, [write_of(EXTENTSIZE, resynced[3].data), write_of(2 * EXTENTSIZE, resynced[5].data)])
    is_as_captured(stage, "life_13_b_primary_wrote.b", dirty=frozenset({1, 2}))  # one extent more than captured
    stage.role("secondary")
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(of_pair([*opening, *resynced], pair))
        is_as_captured(stage, "life_14_a_primary_synced_from_secondary.b")


def test_the_life_of_a_primary_that_never_had_a_secondary(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.begin(State())
    stage.become_primary()
    is_as_captured(stage, "virgin_primary_alone_01_started.a")
    application.use(stage.image, writes(0))
    counted = {"resuid": 1, "localcnt": 1}  # DIFFERENCES["first write"]
    is_as_captured(stage, "virgin_primary_alone_02_wrote.a", **counted)
    stage.role("init")
    is_as_captured(stage, "virgin_primary_alone_03_init.a", **counted)
    stage.become_primary()
    is_as_captured(stage, "virgin_primary_alone_04_restarted.a", **counted)
