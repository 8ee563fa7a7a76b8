"""Weaknesses of the original that we must not have (those that need two nodes and are not in test_pair.py)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import ComponentError, DataError
from hastfs.model import Consistency, Replication
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import BLOCK, EXTENT, RESOURCE, agreed, connected, pair, primary_out_of_date, until


@pytest.mark.parametrize("mode", list(Replication))
async def test_reads_and_writes_work_during_a_sync_from_the_secondary(
    autojump_clock: MockClock, mode: Replication
) -> None:
    async with pair(replication=mode) as (a, b):
        await primary_out_of_date(a, b, 40)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        assert a.primary is not None
        assert a.primary.stale
        assert await a.read(39 * EXTENT, 4096) == BLOCK
        assert await a.write(38 * EXTENT + 512, b"n" * 512) == 0
        assert a.primary.stale, "the resync must still be running for this test to mean anything"
        assert await a.read(38 * EXTENT, 1536) == BLOCK[:512] + b"n" * 512 + BLOCK[1024:1536]
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data
        assert await a.read(38 * EXTENT, 1536) == BLOCK[:512] + b"n" * 512 + BLOCK[1024:1536]


@pytest.mark.parametrize("mode", list(Replication))
async def test_a_link_lost_during_a_sync_from_the_secondary_holds_requests_until_it_is_back(
    autojump_clock: MockClock, mode: Replication
) -> None:
    async with pair(replication=mode) as (a, b):
        await primary_out_of_date(a, b, 40)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        answers: dict[str, object] = {}

        async def write() -> None:
            answers["write"] = await a.write(0, b"w" * 4096)

        async def read() -> None:
            answers["read"] = await a.read(39 * EXTENT, 4096)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read)
            await trio.sleep(2)
            assert not answers, "the good copy is away"
            b.reachable = True
        assert answers == {"write": 0, "read": BLOCK}
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data
        assert a.disk.data[:4096] == b"w" * 4096


async def test_requests_without_any_good_copy_fail_after_the_timeout(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 40)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        start = trio.current_time()
        assert await a.write(0, BLOCK) == 5
        assert trio.current_time() - start == pytest.approx(a.config.timeout, abs=1)
        assert a.disk.metadata.consistency is Consistency.INCONSISTENT


async def test_the_secondary_forgets_its_map_only_when_the_primary_has_it_on_disk(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 5)
        b.disk.content[4096] = 0b11111  # as after a crash: the extents b wrote are dirty in its map
        a.disk.latency["durable"] = 3.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.become_primary)
            await until(lambda: not b.disk.map[0])
            assert a.disk.stable[4096] & 0b11111 == 0b11111


async def test_a_resync_that_cannot_read_locally_does_not_call_the_extent_clean(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await a.write(0, BLOCK)
        a.disk.failing["read"] = 5
        b.reachable = True
        await until(lambda: a.primary is not None and a.primary.link is not None)
        await trio.sleep(120)
        assert a.primary is not None
        assert not a.primary.map.in_sync
        assert a.disk.map[0] & 1
        del a.disk.failing["read"]
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_discard_while_degraded_is_resynced(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK * 3)
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        assert await a.discard(EXTENT, EXTENT) == 0
        b.reachable = True
        await until(lambda: agreed(a, b))
        assert b.disk.data[: 3 * EXTENT] == BLOCK + bytes(EXTENT) + BLOCK


async def test_a_flush_fails_when_the_local_disk_cannot_flush(autojump_clock: MockClock) -> None:
    """With the other node at hand it counts when that one has flushed: test_detach."""
    async with pair() as (a, _):
        expected = pytest.RaisesGroup(pytest.RaisesExc(ComponentError, match="Unable to flush"), flatten_subgroups=True)
        with expected:
            async with trio.open_nursery() as nursery:
                a._nursery = nursery
                await a.become_primary()
                await a.write(0, BLOCK)
                a.disk.failing["flush"] = 5
                assert await a.flush() == 5


async def test_without_a_peer_dirty_returns_to_what_is_really_out_of_sync_when_both_copies_fail(
    autojump_clock: MockClock,
) -> None:
    """The original leaks the in-flight count of an extent whose write fails on both nodes: it stays dirty for ever."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = b.disk.failing["write"] = 5
        assert await a.write(0, BLOCK) == 5
        a.disk.failing.clear()
        b.disk.failing.clear()
        await until(lambda: agreed(a, b))
        assert a.primary is not None
        assert a.primary.map.pending() == 0
        assert a.disk.data == b.disk.data


async def test_a_fresh_node_that_was_let_in_but_got_nothing_yet_does_not_look_equal(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        await b.crash()
        b.disk = SimulatedDisk(RESOURCE, 256 * 1024, EXTENT)
        b.become_secondary()
        a.disk.latency["durable"] = 1000.0
        await until(lambda: b.disk.metadata.resuid != 0)
        await a.crash()
        await b.crash()
        a.disk.latency.clear()
        with pytest.raises(DataError, match="inconsistent"):
            await b.become_primary()
        await connected(a, b)
        assert b.disk.data[:4096] == BLOCK
