"""A change of role in the middle of a resync, with real daemons: in time, told to the hooks, and nothing is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

CHANGED = 48
"""MiB that the other node misses; one of 2 MiB a second has hardly begun when the role changes."""


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    made = make_pair(Options(timeout=5))
    made.start()
    return made


def write(node: Node, megabytes: int, *, at: int = 0) -> None:
    with node.image.open("r+b", buffering=0) as image:
        image.seek(at * MIB)
        for _ in range(megabytes):
            image.write(os.urandom(MIB))
        os.fsync(image.fileno())


@pytest.fixture
def resyncing(pair: Pair) -> Iterator[Pair]:
    """a, primary, is in the middle of copying to b what b missed."""
    pair.connect()
    write(pair.a, 4)
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    write(pair.a, CHANGED)
    pair.to_b.rate = 2 * MIB
    sent = pair.to_b.sent
    pair.heal()
    pair.a.until(lambda: pair.to_b.sent > sent + 2 * MIB, "the resync is on its way")
    yield pair
    pair.to_b.rate = None


def change(node: Node, role: str) -> None:
    """The role, within what scripts wait for."""
    started = time.monotonic()
    node.role(role)
    assert time.monotonic() - started < node.options.timeout + 5


def finish(pair: Pair) -> None:
    """What was left is copied, and then the components are equal."""
    done = pair.a.count("syncdone")
    pair.to_b.rate = None
    pair.b.role("secondary")
    pair.a.become_primary()
    pair.a.until_event("syncdone", before=done)
    pair.rest()
    pair.assert_equal()


@pytest.mark.parametrize("role", ["init", "secondary"])
def test_a_primary_leaves_its_role_in_the_middle(resyncing: Pair, role: str) -> None:
    a, b = resyncing.nodes
    change(a, role)
    a.until_event("role", before=1)
    assert [line.split()[0] for line in a.events()][-4:] == ["syncstart", "syncintr", "disconnect", "role"]
    b.until_event("disconnect", before=1)
    assert resyncing.difference(), "the resync must not be over for this test to mean anything"
    # Nobody would notice what is missing, so b does not serve it to anyone.
    change(b, "init")
    resyncing.cut()
    refused = b.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode == os.EX_DATAERR
    assert "inconsistent" in refused.stderr
    resyncing.heal()
    finish(resyncing)


def test_a_secondary_leaves_its_role_in_the_middle(resyncing: Pair) -> None:
    a, b = resyncing.nodes
    started = time.monotonic()
    change(b, "init")
    a.until_event("syncintr", timeout=a.options.timeout + 5)
    a.until_status("degraded", timeout=a.options.timeout + 5)
    assert time.monotonic() - started < 2 * (a.options.timeout + 5)
    assert resyncing.difference(), "the resync must not be over for this test to mean anything"
    assert a.dirty() > 0
    with a.image.open("r+b", buffering=0) as image:
        image.write(b"goes on" * 1000)
        os.fsync(image.fileno())
    finish(resyncing)


def test_a_primary_leaves_its_role_while_it_gets_everything_from_the_secondary(pair: Pair) -> None:
    a, b = pair.nodes
    pair.connect()
    write(a, 1)
    a.role("init")
    b.role("init")
    pair.cut()
    b.become_primary()
    write(b, CHANGED)
    b.role("secondary")
    pair.to_b.rate = 500  # what goes to b are requests only, some hundred bytes for a few MiB
    pair.heal()
    a.become_primary()
    a.until_event("syncstart")
    change(a, "init")
    a.until_event("role", before=3)
    assert [line.split()[0] for line in a.events()][-3:] == ["syncintr", "disconnect", "role"]
    assert pair.difference(), "the resync must not be over for this test to mean anything"
    # a has parts of what b has, and does not serve them to anyone.
    pair.cut()
    refused = a.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode == os.EX_DATAERR
    assert "inconsistent" in refused.stderr
    pair.heal()
    finish(pair)
