"""A primary whose component fails goes on with the other node's copy, and comes back to its own by a resync."""

from __future__ import annotations

import errno
import random

import pytest
import trio
import trio.testing

from hastfs.model import Consistency, Replication, Role
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, in_sync, linked, pair, until

OTHER = bytes(reversed(BLOCK))


def is_detached(node: Node) -> bool:
    return node.primary is not None and node.primary.detached


def data(node: Node, extent: int) -> bytes:
    return node.disk.data[extent * EXTENT : (extent + 1) * EXTENT]


def dirty(node: Node) -> list[int]:
    bits = int.from_bytes(node.disk.map, "little")
    return [extent for extent in range(node.disk.layout.nextents) if bits >> extent & 1]


@pytest.mark.parametrize("mode", Replication)
@pytest.mark.parametrize("kind", ["write", "durable"])
async def test_a_write_that_fails_locally_is_done_remotely(
    autojump_clock: trio.testing.MockClock, mode: Replication, kind: str
) -> None:
    async with pair(replication=mode) as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        a.disk.failing[kind] = errno.EIO
        assert await a.write(5 * EXTENT, BLOCK) == 0
        assert await a.write(5 * EXTENT, OTHER) == 0
        assert await a.flush() == 0
        await until(lambda: is_detached(a))
        assert a.primary is not None and a.primary.status().status == "detached"
        assert a.events[-1] == "detach"
        assert data(b, 5) == OTHER
        assert await a.read(5 * EXTENT, EXTENT) == OTHER
        assert await a.read(0, EXTENT) == BLOCK
        assert 5 in dirty(b)


async def test_a_discard_that_fails_locally_is_done_remotely(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        a.disk.failing["zero"] = errno.EIO
        assert await a.discard(0, EXTENT) == 0
        assert is_detached(a)
        assert await a.read(0, EXTENT) == bytes(EXTENT) == data(b, 0)


async def test_a_flush_that_fails_locally_counts_when_the_other_node_has_flushed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        a.disk.failing["flush"] = errno.EIO
        assert await a.flush() == 0
        assert is_detached(a)
        assert not b.disk.unflushed
        assert a.primary is not None and a.primary.statistics.stat_flush_error == 1


async def test_what_changed_is_resynced_when_it_is_attached_again(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        for extent in range(10):
            assert await a.write(extent * EXTENT, BLOCK) == 0
        assert await a.flush() == 0
        a.disk.failing["write"] = errno.ENOSPC
        assert await a.write(3 * EXTENT, OTHER) == 0
        assert await a.write(40 * EXTENT, OTHER) == 0
        a.disk.failing.clear()
        assert not a.disk.consistent, "it has to say itself that it is not to be used"
        b.disk.put(b.disk.layout.localoff + 20 * EXTENT, BLOCK)  # a resync of everything would bring that, too
        primary = await a.attach()
        assert await a.read(3 * EXTENT, EXTENT) == OTHER
        await until(lambda: agreed(a, b))
        assert not primary.detached and primary.status().status == "complete"
        assert [extent for extent in range(50) if data(a, extent) != data(b, extent)] == [20]
        assert a.disk.consistent


async def test_the_other_node_is_away_while_detached(autojump_clock: trio.testing.MockClock) -> None:
    """Requests wait for it, and the map it keeps outlives the link and a loss of power."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == 0
        a.cut()
        assert await a.write(2 * EXTENT, BLOCK) == 0
        await b.crash()
        b.become_secondary()
        assert await a.write(3 * EXTENT, BLOCK) == 0
        assert {1, 2, 3} <= set(dirty(b))
        b.reachable = False
        a.cut()
        with pytest.raises(OSError):
            await a.read(0, EXTENT)
        assert await a.write(0, BLOCK) == errno.EIO
        b.reachable = True
        await until(lambda: linked(a))
        assert await a.read(3 * EXTENT, EXTENT) == BLOCK


async def test_a_successor_of_a_worker_that_was_detached_is_detached(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == 0
        await a.crash()
        primary = await a.become_primary(taking_over=True)
        assert primary.detached
        assert await a.write(2 * EXTENT, BLOCK) == 0
        assert {1, 2} <= set(dirty(b))
        assert await a.read(EXTENT, EXTENT) == BLOCK


async def test_the_other_node_takes_over_from_a_detached_one(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == 0
        await a.stop()
        a.detached = None
        a.disk.failing.clear()
        await b.become_primary()
        assert await b.read(EXTENT, EXTENT) == BLOCK
        assert await b.write(2 * EXTENT, BLOCK) == 0
        a.become_secondary()
        await until(lambda: agreed(b, a))
        assert a.disk.data == b.disk.data
        assert "split-brain" not in b.events


async def test_a_component_that_could_not_be_marked_is_known_to_be_older(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its metadata could not be written either: the generation of the other node tells."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing.update(write=errno.EIO, durable=errno.EIO)
        assert await a.write(EXTENT, BLOCK) == 0
        assert a.disk.consistent
        await a.crash()
        a.detached = None
        a.disk.failing.clear()
        await a.become_primary()
        await until(lambda: agreed(a, b))
        assert await a.read(EXTENT, EXTENT) == BLOCK == data(a, 1)


async def test_alone_the_application_gets_the_error(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await b.crash()
        await until(lambda: not linked(a))
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == errno.EIO
        assert not is_detached(a)
        a.disk.failing.clear()
        assert await a.write(EXTENT, BLOCK) == 0


async def test_the_only_good_copy_stays(autojump_clock: trio.testing.MockClock) -> None:
    """The other node lacks something: the application gets the error, and nobody forgets which extent it was."""
    async with pair() as (a, b):
        await connected(a, b)
        await b.crash()
        await until(lambda: not linked(a))
        assert await a.write(0, BLOCK) == 0
        b.disk.failing["write"] = errno.EIO
        b.become_secondary()
        await until(lambda: linked(a))
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == errno.EIO
        assert not is_detached(a)


@pytest.mark.parametrize("step", [x / 4 for x in range(40)])
async def test_the_link_breaks_while_the_other_node_is_told(
    autojump_clock: trio.testing.MockClock, step: float
) -> None:
    """Whether it heard of it or not, no write is lost and there is no split brain afterwards."""
    async with pair() as (a, b):
        await connected(a, b)
        for node in (a, b):
            node.disk.latency.update(durable=1, write=1)
        a.disk.failing["write"] = errno.EIO
        errors: list[int] = []
        assert a.primary is not None
        a.primary.write(EXTENT, BLOCK, errors.append)
        a.primary.submit()
        await trio.sleep(step)
        b.reachable = False
        a.cut()
        await trio.sleep(5)
        a.disk.failing.clear()
        b.disk.latency.clear()
        if not is_detached(a):
            assert errors == [errno.EIO]
            assert await a.write(2 * EXTENT, OTHER) == 0
        b.reachable = True
        await until(lambda: linked(a))
        if is_detached(a):
            assert await a.write(2 * EXTENT, OTHER) == 0
            await a.attach()
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data and data(a, 2) == OTHER
        assert errors != [0] or data(a, 1) == BLOCK
        assert "split-brain" not in a.events


@pytest.mark.parametrize("step", [x / 4 for x in range(0, 60)])
async def test_power_is_lost_at_any_moment_of_a_detachment(autojump_clock: trio.testing.MockClock, step: float) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        for node in (a, b):
            node.disk.latency.update(durable=1, write=1, flush=1, zero=1)
        a.disk.failing["write"] = errno.EIO
        done: list[int] = []
        assert a.primary is not None
        a.primary.write(EXTENT, BLOCK, done.append)
        a.primary.submit()
        await trio.sleep(step)
        acknowledged = done == [0]
        await a.crash()
        a.detached = None
        a.disk.failing.clear()
        a.disk.latency.clear()
        b.disk.latency.clear()
        await a.become_primary()
        if acknowledged:
            assert await a.read(EXTENT, EXTENT) == BLOCK
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data
        assert not acknowledged or data(a, 1) == BLOCK
        assert "split-brain" not in a.events


@pytest.mark.parametrize("mode", Replication)
async def test_a_failing_component_in_a_resync_from_the_other_node(
    autojump_clock: trio.testing.MockClock, mode: Replication
) -> None:
    async with pair(replication=mode) as (a, b):
        await connected(a, b)
        await a.stop()
        await b.become_primary()
        for extent in range(30):
            assert await b.write(extent * EXTENT, BLOCK) == 0
        await b.stop()
        b.become_secondary()
        a.disk.latency["write"] = 0.5
        await a.become_primary()
        assert a.primary is not None and a.primary.stale
        a.disk.failing["write"] = errno.EIO
        assert await a.write(50 * EXTENT, OTHER) == 0
        await until(lambda: is_detached(a))
        assert await a.read(7 * EXTENT, EXTENT) == BLOCK
        assert await a.read(50 * EXTENT, EXTENT) == OTHER
        a.disk.failing.clear()
        await a.attach()
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_peer_of_an_older_version_cannot_go_on_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        b.version = 2
        b.become_secondary()
        await a.become_primary()
        await until(lambda: in_sync(a))
        a.disk.failing["write"] = errno.EIO
        assert await a.write(0, BLOCK) == errno.EIO
        assert not is_detached(a)


@pytest.mark.parametrize("damage", ["was deleted", "was cut short"])
async def test_a_component_that_vanishes_is_detached(autojump_clock: trio.testing.MockClock, damage: str) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.damage = damage
        await until(lambda: is_detached(a))
        assert await a.write(0, BLOCK) == 0


async def test_a_secondary_whose_component_vanishes_ends_the_link(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.disk.damage = "was deleted"
        await until(lambda: not linked(a))
        assert "deleted" in str(b.errors[-1])
        b.disk.damage = ""
        assert await a.write(0, BLOCK) == 0


async def test_a_sector_that_cannot_be_read_is_written_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        at = a.disk.layout.localoff
        a.disk.put(at, bytes(EXTENT))  # to see whether it is
        a.disk.failing["read"] = errno.EIO
        assert await a.read(100, 1000) == BLOCK[100:1100]
        a.disk.failing.clear()
        assert await a.read(100, 1000) == BLOCK[100:1100]
        assert not is_detached(a)


async def test_a_sector_that_cannot_be_written_anew_detaches(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        a.disk.failing.update(read=errno.EIO, write=errno.EIO)
        assert await a.read(0, EXTENT) == BLOCK
        await until(lambda: is_detached(a))


async def test_a_repair_does_not_overwrite_what_is_being_written(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        b.disk.latency["read"] = 3
        a.disk.failing["read"] = errno.EIO
        assert a.primary is not None
        got: list[bytes] = []
        a.primary.read(0, EXTENT, lambda error, content: got.append(bytes(content)))
        a.primary.submit()
        await trio.sleep(1)
        assert await a.write(0, OTHER) == 0
        a.disk.failing.clear()
        assert got == [BLOCK]
        assert data(a, 0) == OTHER == data(b, 0)


async def test_a_detached_primary_does_not_take_another_history_for_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Somebody made the other node primary by force meanwhile: applications here have seen something else."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == 0
        a.reachable = False
        a.cut()
        await b.crash()
        await b.become_primary(force=True)
        assert await b.write(EXTENT, OTHER) == 0
        await b.stop()
        b.become_secondary()
        a.reachable = True
        assert await a.write(EXTENT, BLOCK) == errno.EIO
        assert "split-brain" in a.events
        assert data(b, 1) == OTHER
        assert a.role is Role.PRIMARY and b.disk.metadata.consistency is Consistency.CONSISTENT


async def test_a_secondary_that_is_only_out_of_reach_has_lost_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Its page cache is what it was: no flush fails for a link that breaks, nor for a worker that dies."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, OTHER) == 0
        a.cut()
        await until(lambda: linked(a))
        assert await a.flush() == 0
        assert await a.write(EXTENT, BLOCK) == 0
        await b.crash()
        b.become_secondary()
        await until(lambda: linked(a))
        assert await a.flush() == 0
        b.disk.lose_power(random.Random(1))
        assert data(b, 1) == BLOCK


async def test_a_flush_says_once_that_the_only_good_copy_lost_its_cache(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, OTHER) == 0
        await b.crash()
        b.disk.lose_power(random.Random(1))
        b.become_secondary()
        await until(lambda: linked(a))
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_the_only_copy_to_be_loses_its_cache_before_the_component_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It had agreed to go on alone: what was acknowledged and not flushed is gone with the component."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(EXTENT, OTHER) == 0
        a.disk.failing["zero"] = errno.EIO
        a.disk.latency["durable"] = 5
        primary = a.primary
        assert primary is not None
        primary.discard(5 * EXTENT, EXTENT, lambda error: None)
        primary.submit()
        await until(lambda: primary.stale)
        await b.crash()
        b.disk.lose_power(random.Random(1))
        b.become_secondary()
        await until(lambda: is_detached(a) and linked(a))
        assert await a.flush() == errno.EIO or await a.read(EXTENT, EXTENT) == OTHER
