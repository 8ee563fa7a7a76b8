"""A change of role in the middle of a resync: it ends in time, and what is on disk says how far the copy got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import DataError
from hastfs.model import Replication
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, linked, pair, primary_out_of_date, until

EXTENTS = 40
SLOW = 1.0
"""Seconds for each piece of the copy; some extents are under way at a time."""


def differing(a: Node, b: Node) -> set[int]:
    """The extents in which the components differ."""
    return {
        at // EXTENT
        for at in range(0, len(a.disk.data), EXTENT)
        if a.disk.data[at : at + EXTENT] != b.disk.data[at : at + EXTENT]
    }


def dirty(node: Node) -> set[int]:
    """The extents that the map on stable storage says may differ."""
    found = node.disk.stable[4096 : 4096 + len(node.disk.map)]
    return {bit for bit in range(8 * len(found)) if found[bit // 8] & 1 << bit % 8}


def assert_recorded(a: Node, b: Node, *, target: Node) -> None:
    """Nothing is called clean that is not, and the copy that is not whole says so."""
    assert differing(a, b), "the resync must not be over for this test to mean anything"
    assert differing(a, b) <= dirty(a) | dirty(b)
    assert not target.disk.consistent
    assert (a if target is b else b).disk.consistent


@asynccontextmanager
async def pushing(mode: Replication) -> AsyncIterator[tuple[Node, Node]]:
    """Primary a is in the middle of copying to b what b missed."""
    async with pair(replication=mode) as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        for extent in range(EXTENTS):
            assert await a.write(extent * EXTENT, BLOCK) == 0
        b.disk.latency["write"] = SLOW
        b.reachable = True
        await until(lambda: linked(a))
        await trio.sleep(2.5 * SLOW)
        assert a.events[-1] == "syncstart"
        yield a, b


@asynccontextmanager
async def pulling(mode: Replication) -> AsyncIterator[tuple[Node, Node]]:
    """Primary a is in the middle of getting from b what a missed."""
    async with pair(replication=mode) as (a, b):
        await primary_out_of_date(a, b, EXTENTS)
        b.disk.latency["read"] = SLOW
        await a.become_primary()
        await trio.sleep(2.5 * SLOW)
        assert a.events[-1] == "syncstart"
        yield a, b


@asynccontextmanager
async def resyncing(direction: str, mode: Replication) -> AsyncIterator[tuple[Node, Node, Node]]:
    """Primary, secondary, and which of them is being brought up to date."""
    async with (pushing if direction == "to the secondary" else pulling)(mode) as (a, b):
        yield a, b, b if direction == "to the secondary" else a


async def finish(a: Node, b: Node) -> None:
    """The disks are quick again, a is primary and b secondary: the rest is copied."""
    for node in (a, b):
        node.disk.latency.clear()
        node.events.clear()
    await connected(a, b)
    assert not differing(a, b)
    assert a.disk.consistent
    assert b.disk.consistent
    await until(lambda: "syncdone" in a.events)
    assert a.events == ["connect", "syncstart", "syncdone"]
    assert b.events == ["connect"]


DIRECTIONS = pytest.mark.parametrize("direction", ["to the secondary", "from the secondary"])
MODES = pytest.mark.parametrize("mode", list(Replication))


@DIRECTIONS
@MODES
async def test_a_primary_leaves_its_role_in_the_middle_of_a_resync(
    autojump_clock: MockClock, direction: str, mode: Replication
) -> None:
    async with resyncing(direction, mode) as (a, b, target):
        start = trio.current_time()
        await a.stop()
        assert trio.current_time() - start < a.config.timeout
        assert a.events[-3:] == ["syncstart", "syncintr", "disconnect"]
        await until(lambda: b.events[-1] == "disconnect")
        assert_recorded(a, b, target=target)
        await b.stop()
        await finish(a, b)


@DIRECTIONS
@MODES
async def test_a_secondary_leaves_its_role_in_the_middle_of_a_resync(
    autojump_clock: MockClock, direction: str, mode: Replication
) -> None:
    async with resyncing(direction, mode) as (a, b, target):
        start = trio.current_time()
        await b.stop()
        assert trio.current_time() - start < 1
        await until(lambda: not linked(a))
        assert a.events[-3:] == ["syncstart", "syncintr", "disconnect"]
        assert_recorded(a, b, target=target)
        a.events.clear()
        for node in (a, b):
            node.disk.latency.clear()
        b.become_secondary()
        await until(lambda: agreed(a, b))
        assert a.events == ["connect", "syncstart", "syncdone"]
        assert not differing(a, b)
        assert a.disk.consistent
        assert b.disk.consistent


@MODES
async def test_nodes_that_exchange_their_roles_in_the_middle_become_equal(
    autojump_clock: MockClock, mode: Replication
) -> None:
    """b has half of it, and becomes primary all the same: a, which has the rest, is there."""
    async with pushing(mode) as (a, b):
        await a.stop()
        a.become_secondary()
        await b.stop()
        b.disk.latency.clear()
        b.events.clear()
        await b.become_primary()
        await until(lambda: agreed(b, a))
        assert b.events == ["connect", "syncstart", "syncdone"]
        assert not differing(a, b)
        assert await b.read((EXTENTS - 1) * EXTENT, EXTENT) == BLOCK


@DIRECTIONS
async def test_a_node_with_half_of_a_copy_is_not_made_primary_alone(autojump_clock: MockClock, direction: str) -> None:
    async with resyncing(direction, Replication.FULLSYNC) as (a, b, target):
        await a.stop()
        await b.stop()
        target.other.reachable = False
        with pytest.raises(DataError, match="inconsistent"):
            await target.become_primary()
        assert_recorded(a, b, target=target)


async def test_a_primary_leaves_its_role_although_the_good_copy_is_away(autojump_clock: MockClock) -> None:
    async with pulling(Replication.FULLSYNC) as (a, b):
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        start = trio.current_time()
        await a.stop()
        assert trio.current_time() - start < 2 * a.config.timeout
        assert_recorded(a, b, target=a)


@DIRECTIONS
async def test_a_primary_leaves_its_role_although_the_other_node_does_not_answer(
    autojump_clock: MockClock, direction: str
) -> None:
    async with resyncing(direction, Replication.FULLSYNC) as (a, b, target):
        for channel in (*a.connections, *b.connections):
            channel.stalled = True
        start = trio.current_time()
        await a.stop()
        assert trio.current_time() - start <= a.config.timeout + 1
        assert a.events[-2:] == ["syncintr", "disconnect"]
        assert_recorded(a, b, target=target)


@DIRECTIONS
async def test_a_resync_that_is_interrupted_again_and_again_gets_ahead(
    autojump_clock: MockClock, direction: str
) -> None:
    async with resyncing(direction, Replication.FULLSYNC) as (a, b, target):
        left = [len(differing(a, b))]
        for _ in range(3):
            await b.stop()
            await until(lambda: not linked(a))
            b.become_secondary()
            await until(lambda: linked(a))
            await trio.sleep(3.5 * SLOW)
            left.append(len(differing(a, b)))
        assert left == sorted(left, reverse=True)
        assert left[-1] < left[0]
        assert a.events.count("syncintr") == 3
        assert_recorded(a, b, target=target)
