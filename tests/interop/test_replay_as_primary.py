"""The test is the primary and says what the original's said; our secondary answers what the original's answered.

The metadata, the map and the data on our component are what they were at the original's afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.interop.component import EXTENTSIZE, LOCALOFF, State
from tests.interop.conftest import MakeStage
from tests.interop.original import entry
from tests.interop.parts import PrimarysPart
from tests.interop.stage import Lines, Setting, Stage
from tests.interop.transcripts import (
    HAND_MADE,
    KEEPALIVE,
    OPEN,
    SECONDARY_CLOSES,
    SILENCE,
    Step,
    after,
    brought,
    changed,
    pair_of,
    split,
    transcript,
)

pytestmark = pytest.mark.kernel

# -- a hand-made primary


def stays_in_step(steps: list[Step]) -> list[Step]:
    """DIFFERENCES["refused write"]: the READ behind it is answered as it is behind a refused READ."""
    return [*steps[:-1], transcript("read_beyond")[-1]]


def drops_the_link(steps: list[Step]) -> list[Step]:
    """DIFFERENCES["no data"]: the link ends with the WRITE."""
    opening, rest = split(steps)
    return [*opening, rest[0], Step(1, SECONDARY_CLOSES), Step(2, SECONDARY_CLOSES)]


def without_the_wait(steps: list[Step]) -> list[Step]:
    """The 20 seconds until a silent primary is given up are left to test_replay_silence."""
    return steps[:-1]


DEPARTURES: dict[str, tuple[Callable[[list[Step]], list[Step]], str]] = {
    "write_beyond": (stays_in_step, "complete"),
    "write_nodata": (drops_the_link, "-"),
    "idle_timeout": (without_the_wait, "complete"),
}
"""What becomes of a conversation with us, and what `hastctl status` says then."""

ELSEWHERE = "silent_client"
"""DIFFERENCES["silent client"]: 10 s of nothing are left to a test of the listener with a clock of its own."""


def break_the_silence(part: PrimarysPart, steps: Sequence[Step]) -> None:
    """Where the original said nothing, the first thing we say is the answer to what comes next."""
    quiet = next((step.connection for step in steps if step.what == SILENCE), None)
    opening, requests = split(transcript("read_ok"))
    if quiet == 1:  # after a wrong token on the second connection: the right one opens the link
        token = next(found for step in steps if (found := entry(step.raw, "token")))
        _, joining, terms = opening[3:]
        part.perform([Step(3, OPEN), replace(joining.saying(token=token), connection=3), terms])
    elif quiet == 2:  # after a keepalive
        part.perform(requests)


@pytest.mark.parametrize("scenario", [scenario for scenario in HAND_MADE if scenario != ELSEWHERE])
def test_what_a_hand_made_primary_says_is_answered_as_the_original_answers(
    make_stage: MakeStage, scenario: str
) -> None:
    """DIFFERENCES["no command"] does not show on the wire."""
    stage = make_stage()
    before = State()
    stage.begin(before)
    stage.role("secondary")
    steps = transcript(scenario)
    identity, status = after(scenario)
    if scenario in DEPARTURES:
        depart, status = DEPARTURES[scenario]
        steps = depart(steps)
    with Lines() as lines:
        part = PrimarysPart(stage, lines)
        part.perform(steps)
        stage.until_status(status)
        found = stage.found()
        break_the_silence(part, steps)
    assert found.identity == identity
    assert found.dirty == frozenset()
    assert found.content == changed(steps, before.content)
    assert stage.status().role == "secondary"


# -- an original primary


@dataclass(frozen=True)
class Scene:
    """What our secondary is when the conversation begins."""

    state: State = field(default_factory=State)
    setting: Setting = field(default_factory=Setting)


def partner(scenario: str, compression: str = "none", checksum: str = "none") -> Scene:
    """A secondary that belongs to the pair and has nothing that the primary lacks."""
    state = State(pair_of(transcript(scenario)), prevrole="secondary")
    return Scene(state, Setting(compression=compression, checksum=checksum))


def good_copy(scenario: str) -> Scene:
    """A secondary that was primary alone: it has the map that it sent, and what the replies to READ brought."""
    steps = transcript(scenario)
    bits = int.from_bytes(next(step for step in steps if step.has("mapsize")).data, "little")
    dirty = frozenset(extent for extent in range(bits.bit_length()) if bits >> extent & 1)
    return Scene(State(pair_of(steps), 1, 0, "primary", dirty, brought(steps)))


SCENES = {
    "hs_virgin": Scene(),
    "io_fullsync": Scene(),
    "io_memsync": Scene(),
    "hs_regsync_hole_none": partner("hs_regsync_hole_none", compression="hole"),
    "hs_regsync_none_none": partner("hs_regsync_none_none"),
    "hs_regsync_none_sha256": partner("hs_regsync_none_sha256", checksum="sha256"),
    "hs_sync_from_secondary_fullsync": good_copy("hs_sync_from_secondary_fullsync"),
    "hs_secondary_virgin_full": Scene(),
    "hs_primary_wrote_before_first_connect": Scene(),
    "primary_rejects_datasize": Scene(State(mediasize=1052160 + LOCALOFF)),
    "refused_split_brain": Scene(
        State(pair_of(transcript("refused_split_brain")), 1, 0, "primary", frozenset({3}), {3 * EXTENTSIZE: b"alone"})
    ),
    "pipe_none_none": Scene(),
    "pipe_none_hole": Scene(),
    "pipe_none_lzf": Scene(),
    "pipe_crc32_hole": Scene(),
    "pipe_crc32_lzf": Scene(),
    "pipe_sha256_none": Scene(),
    "pipe_sha256_hole": Scene(),
}


@pytest.mark.parametrize("scenario", SCENES)
def test_what_an_original_primary_says_is_answered_as_the_original_answers(
    make_stage: MakeStage, scenario: str
) -> None:
    scene = SCENES[scenario]
    before = scene.state
    stage = make_stage(scene.setting)
    stage.begin(before)
    stage.role("secondary")
    steps = transcript(scenario)
    with Lines() as lines:
        PrimarysPart(stage, lines).perform(steps)
        found = stage.found()
    prevrole = before.prevrole if before.resuid else "secondary"
    assert found.identity == (pair_of(steps), before.localcnt, before.remotecnt, prevrole)
    asked = any(step.command not in (0, KEEPALIVE) for step in steps)
    assert found.dirty == (frozenset() if asked else before.dirty)
    assert found.content == changed(steps, before.content)
    assert stage.count("split-brain") == (scenario == "refused_split_brain")


# -- a primary that is refused at once


def refuse(stage: Stage, scenario: str) -> None:
    with Lines() as lines:
        PrimarysPart(stage, lines).perform(transcript(scenario))


def test_a_node_in_role_init_refuses_in_the_original_s_words(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.begin(State())
    refuse(stage, "refused_acts_as_init")
    assert stage.found().identity == (0, 0, 0, "init")


def test_a_primary_refuses_another_with_wait(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.begin(State())
    stage.become_primary()
    refuse(stage, "refused_acts_as_primary")


def test_a_resource_that_is_not_configured_is_refused_in_the_original_s_words(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.config.write_text(stage.config.read_text().replace("resource test", "resource other"))
    stage.resource = "other"
    stage.start()
    refuse(stage, "refused_resource_unknown")


def test_a_client_that_is_not_the_remote_is_closed_without_a_word(make_stage: MakeStage) -> None:
    stage = make_stage(Setting(remote="127.0.0.3"))
    stage.begin(State())
    stage.role("secondary")
    refuse(stage, "refused_unknown_client")
