"""The test is the secondary and answers what the original's answered; our primary says what the original's said.

Here: handshakes, refusals, and what applications do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import pytest

from hastfs.protocol import handshake
from tests.interop import application
from tests.interop.component import LOCALOFF, State
from tests.interop.conftest import MakeStage
from tests.interop.original import block, entry, with_entry
from tests.interop.parts import SecondarysPart
from tests.interop.stage import Lines, Peer, Setting, read_directly
from tests.interop.transcripts import (
    SECONDARY,
    SECONDARY_CLOSES,
    Step,
    changed,
    extents_of,
    pair_of,
    split,
    transcript,
)
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

# -- what applications do

INPUT_OUTPUT = [
    ("io_fullsync", Setting("fullsync")),
    ("io_fullsync", Setting("async")),
    ("io_memsync", Setting("memsync")),
    ("pipe_none_none", Setting("fullsync", "none", "none")),
    ("pipe_none_hole", Setting("fullsync", "none", "hole")),
    ("pipe_none_lzf", Setting("fullsync", "none", "lzf")),
    ("pipe_crc32_hole", Setting("fullsync", "crc32", "hole")),
    ("pipe_crc32_lzf", Setting("fullsync", "crc32", "lzf")),
    ("pipe_sha256_none", Setting("fullsync", "sha256", "none")),
    ("pipe_sha256_hole", Setting("fullsync", "sha256", "hole")),
]


@pytest.mark.parametrize(
    ("scenario", "setting"), INPUT_OUTPUT, ids=[f"{name}-{setting.replication}" for name, setting in INPUT_OUTPUT]
)
def test_what_applications_do_is_sent_as_the_original_sends_it(
    make_stage: MakeStage, scenario: str, setting: Setting
) -> None:
    stage = make_stage(setting)
    stage.begin(State())
    opening, requests = split(transcript(scenario))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
        assert stage.status().status == "complete"
        with stage.meanwhile(lambda: application.use(stage.image, requests)):
            part.perform(requests)
        assert stage.dirty() == 0
        found = stage.found()
    assert found.identity == (found.numbers["resuid"], 0, 0, "primary")
    assert found.numbers["resuid"]
    assert found.dirty == extents_of(requests)  # hast(8): the last `keepdirty` extents stay dirty
    assert found.content == changed(requests, State().content)


def test_an_original_that_can_neither_delete_nor_flush_is_no_worse_a_secondary(make_stage: MakeStage) -> None:
    """Applications have their success, as with the original."""
    stage = make_stage()
    stage.begin(State())
    opening, requests = split(transcript("error_replies"))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
        with stage.meanwhile(lambda: application.use(stage.image, requests)):
            part.perform(requests)
        assert stage.status().status == "complete"
        assert stage.dirty() == 0


def test_what_the_local_disk_cannot_read_is_read_from_the_secondary(make_stage: MakeStage) -> None:
    opening, requests = split(transcript("read_local_error_falls_back_to_remote"))
    write = split(transcript("io_fullsync"))[1][:2]
    stage = make_stage()
    stage.begin(State())
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
        with stage.meanwhile(lambda: application.use(stage.image, write)):
            part.perform(write)
        with stage.component.open("r+b") as component:
            component.truncate(LOCALOFF)
        with stage.meanwhile(lambda: read_directly(stage.image, 8192, 512)) as read:
            part.perform(_for_whole_pages(requests))
        assert read.result() == block("rand*512")
        with stage.component.open("rb") as repaired:  # whoever reads is answered before

            def is_whole() -> bool:
                return os.pread(repaired.fileno(), 512, LOCALOFF + 8192) == block("rand*512")

            wait_for(is_whole, "it was written anew", timeout=10)


def _for_whole_pages(captured: Sequence[Step]) -> list[Step]:
    """DIFFERENCES["unreadable"]: of 512 bytes at 8192, the page that they are in on the component."""
    read, reply = captured
    page = bytes(512) + reply.data + bytes(3072)
    answer = with_entry(reply.raw[: -len(reply.data)], "size", len(page)) + page
    return [read.saying(offset=8192 - 512, length=len(page)), Step(reply.connection, reply.what, answer)]


# -- handshakes


def test_two_unused_nodes_meet_as_two_originals_do_and_the_link_is_kept_alive(make_stage: MakeStage) -> None:
    """The capture is of a program whose keepalive is after 2 s; ours, and the real one's, is after 10."""
    stage = make_stage()
    stage.begin(State())
    opening, idle = split(transcript("hs_virgin"))
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(opening)
        started = time.monotonic()
        part.perform(idle[:1])
        assert time.monotonic() - started > 8
    found = stage.found()
    assert found.identity == (found.numbers["resuid"], 0, 0, "primary")
    assert found.dirty == frozenset()


def test_a_secondary_of_version_1_is_spoken_to_in_version_1(make_stage: MakeStage) -> None:
    """In its heads, and without memsync."""
    stage = make_stage(Setting("memsync"))
    stage.begin(State())
    requests = [
        Step(step.connection, step.what, b"\x01" + step.raw[1:]) for step in split(transcript("io_fullsync"))[1][:4]
    ]
    with Peer(stage) as peer, Lines() as lines:
        part = SecondarysPart(stage, peer, lines)
        with stage.becoming_primary():
            part.perform(transcript("v1"))
        with stage.meanwhile(lambda: application.use(stage.image, requests)):
            part.perform(requests)
    warning = "The 'memsync' replication mode is not supported by the remote node, falling back to 'fullsync' mode."
    assert warning in stage.log.read_text()


def test_a_primary_whose_data_has_another_size_closes_as_the_original_does(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.begin(State())
    with Peer(stage) as peer, Lines() as lines, stage.becoming_primary():
        SecondarysPart(stage, peer, lines).perform(transcript("primary_rejects_datasize"))
    assert "Data size differs between nodes (local=1043968, remote=1052160)." in stage.log.read_text()
    assert stage.found().dirty == frozenset()


# -- refusals


@pytest.mark.parametrize("scenario", ["refused_resource_unknown", "refused_acts_as_init", "refused_unknown_client"])
def test_a_primary_that_is_refused_works_alone_and_says_why(make_stage: MakeStage, scenario: str) -> None:
    stage = make_stage()
    stage.begin(State())
    steps = transcript(scenario)
    with Peer(stage) as peer, Lines() as lines, stage.becoming_primary():
        SecondarysPart(stage, peer, lines).perform(steps)
    assert stage.status().status == "degraded"
    errmsg = next((text for step in steps if (text := entry(step.raw, "errmsg"))), b"closed by the other node\0")
    assert errmsg[:-1].decode() in stage.log.read_text()


@pytest.mark.parametrize(
    ("errmsg", "at"),
    [(handshake.NO_ACCESS, "token"), (handshake.resuid_mismatch(7, 8), "syncsrc")],
    ids=["no access", "another pair"],
)
def test_a_refusal_that_was_not_captured_is_understood_just_the_same(
    make_stage: MakeStage, errmsg: str, at: str
) -> None:
    stage = make_stage()
    stage.begin(State())
    steps = transcript("hs_virgin")
    instead = next(i for i, step in enumerate(steps) if step.what == SECONDARY and step.has(at))
    refusal = Step(1, SECONDARY, b"".join(bytes(part) for part in handshake.Refusal(errmsg).encode()))
    with Peer(stage) as peer, Lines() as lines, stage.becoming_primary():
        SecondarysPart(stage, peer, lines).perform([*steps[:instead], refusal, Step(1, SECONDARY_CLOSES)])
    assert stage.status().status == "degraded"
    assert errmsg in stage.log.read_text()


def test_a_wrong_token_which_is_refused_on_the_second_connection_costs_but_the_time_of_an_attempt(
    make_stage: MakeStage,
) -> None:
    stage = make_stage()
    stage.begin(State())
    opening, _ = split(transcript("hs_virgin"))
    (refusal,) = (step for step in transcript("bad_token") if step.has("errmsg"))
    with Peer(stage) as peer, Lines() as lines:
        with stage.becoming_primary():
            SecondarysPart(stage, peer, lines).perform([*opening[:-1], refusal, Step(2, SECONDARY_CLOSES)])
        assert lines[1].is_closed()
        assert stage.status().status == "degraded"


def split_brain() -> tuple[State, list[Step]]:
    """A primary that wrote alone, and its two attempts to connect to a secondary that did so, too."""
    steps = transcript("refused_split_brain")
    return State(pair_of(steps), 1, 0, "primary", frozenset({2}), {8192: block("rand*512")}), steps


def test_a_primary_in_a_split_brain_says_so_and_keeps_its_data(make_stage: MakeStage) -> None:
    stage = make_stage()
    before, steps = split_brain()
    stage.begin(before)
    with Peer(stage) as peer, Lines() as lines, stage.becoming_primary():
        SecondarysPart(stage, peer, lines).perform([step for step in steps if step.connection <= 4])
    stage.until_event("split-brain")
    found = stage.found()
    assert found.identity == (before.resuid, 1, 0, "primary")
    assert (found.dirty, found.content) == (before.dirty, before.content)


def test_a_primary_in_a_split_brain_tries_again_as_the_original_does(make_stage: MakeStage) -> None:
    stage = make_stage()
    before, steps = split_brain()
    stage.begin(before)
    with Peer(stage) as peer, Lines() as lines, stage.becoming_primary():
        SecondarysPart(stage, peer, lines).perform(steps)


def test_a_starting_primary_that_is_told_to_wait_asks_every_second_and_then_gives_up(make_stage: MakeStage) -> None:
    """DIFFERENCES["still primary"]."""
    stage = make_stage(Setting(timeout=3))
    stage.begin(State())
    steps = [step for step in transcript("refused_acts_as_primary") if step.connection <= 4]
    started = time.monotonic()
    with Peer(stage) as peer, Lines() as lines:
        with stage.meanwhile(lambda: stage.hastctl("role", "primary", "test", check=False)) as asked:
            SecondarysPart(stage, peer, lines).perform(steps)
        assert asked.result().returncode != 0
    assert time.monotonic() - started >= 3
    assert stage.status().role == "init"
