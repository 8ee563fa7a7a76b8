"""hastfs.daemon.diagnosis: what is wrong with a resource, and the command that helps."""

from __future__ import annotations

import pytest

from hastfs.cli.options import parse_hastctl
from hastfs.daemon.diagnosis import diagnosed, unanswered
from hastfs.details import Details
from hastfs.model import Role
from hastfs.ondisk.geometry import DEFAULT_EXTENTSIZE, DEFAULT_KEEPDIRTY
from hastfs.protocol.handshake import acts_as

SIZES = "Data size differs between nodes (primary=4096, secondary=8192)."
ROLE = f"No connection to tcp4://192.0.2.2: {acts_as(Role.INIT)}"
REFUSED = "No connection to tcp4://192.0.2.2: Connection refused."


@pytest.mark.parametrize(
    ("details", "problem", "remedy"),
    [
        (Details(), "", ""),
        (Details("primary", "connected", "up-to-date"), "", ""),
        (Details("primary", "none", "up-to-date"), "", ""),
        (Details("secondary", "connected", "inconsistent"), "", ""),
        (
            Details("primary", "split-brain", "up-to-date", problem="Whatever."),
            "Split brain: ",
            "hastctl role init disk && hastctl create disk && hastctl role secondary disk",
        ),
        (Details("primary", "connected", "detached"), "This node's disk failed", "hastctl attach disk"),
        (Details("primary", "connecting", "detached"), "they wait", "hastctl attach disk"),
        (Details("primary", "connecting", "inconsistent", problem=REFUSED), REFUSED, "hastctl role secondary disk  #"),
        (Details("primary", "connecting", "up-to-date"), "", ""),
        (Details("primary", "connecting", "up-to-date", problem=REFUSED), REFUSED, "hastctl role secondary disk  #"),
        (Details("primary", "refused", problem=SIZES), SIZES, "hastctl check disk"),
        (Details("primary", "refused", problem=ROLE), ROLE, "hastctl role secondary disk  #"),
        (Details("secondary", "refused", "up-to-date", problem=SIZES), SIZES, "hastctl check disk"),
        (Details("secondary", "connecting", "up-to-date"), "No primary is connected.", "hastctl role primary disk  #"),
        (Details("secondary", "connecting", problem="Unable to open /x."), "Unable to open /x.", ""),
    ],
)
def test_what_is_wrong_and_what_helps(details: Details, problem: str, remedy: str) -> None:
    found = diagnosed(details, "disk")
    assert problem in found.problem
    assert bool(found.problem) is bool(problem)
    assert found.remedy.startswith(remedy)
    assert bool(found.remedy) is bool(remedy)


@pytest.mark.parametrize(
    ("extentsize", "keepdirty", "create"),
    [
        (2 << 20, 64, "hastctl create disk"),
        (4 << 20, 64, "hastctl create -e 4M disk"),
        (512, 64, "hastctl create -e 512 disk"),
        (64 << 10, 9, "hastctl create -e 64K -k 9 disk"),
        (1 << 30, 0, "hastctl create -e 1G disk"),
    ],
)
def test_a_component_is_made_anew_as_it_was(extentsize: int, keepdirty: int, create: str) -> None:
    remedy = diagnosed(Details("primary", "split-brain"), "disk", extentsize, keepdirty).remedy
    assert f" && {create} && " in remedy
    options = parse_hastctl(create.split()[1:])
    assert (options.extentsize or DEFAULT_EXTENTSIZE) == extentsize
    assert (options.keepdirty or DEFAULT_KEEPDIRTY) == (keepdirty or DEFAULT_KEEPDIRTY)


def test_a_worker_that_does_not_answer_is_named() -> None:
    found = unanswered(Details("primary"), 4711)
    assert not found.answered
    assert "4711" in found.problem
    assert found.remedy == "kill -9 4711"
