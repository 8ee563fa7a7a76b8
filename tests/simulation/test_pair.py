"""Two nodes on simulated disks: what a pair promises, without processes and in no time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import BusyError, DataError
from hastfs.model import Replication
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import BLOCK, EXTENT, RESOURCE, agreed, connected, in_sync, linked, pair, until


@pytest.mark.parametrize("mode", list(Replication))
async def test_a_write_is_on_both_nodes(autojump_clock: MockClock, mode: Replication) -> None:
    async with pair(replication=mode) as (a, b):
        await connected(a, b)
        assert await a.write(8192, BLOCK) == 0
        assert await a.flush() == 0
        assert a.disk.data[8192 : 8192 + 4096] == BLOCK
        assert b.disk.data == a.disk.data
        assert await a.read(8192, 4096) == BLOCK


async def test_a_write_of_odd_bytes_keeps_what_is_around_it(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        assert await a.write(1000, b"x" * 100) == 0
        expected = BLOCK[:1000] + b"x" * 100 + BLOCK[1100:]
        assert a.disk.data[:4096] == b.disk.data[:4096] == expected


async def test_the_map_is_durable_before_the_data(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.latency["durable"] = 5.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.write, 40960, BLOCK)
            await trio.sleep(4)
            assert BLOCK not in a.disk.data
            assert BLOCK not in b.disk.data
        assert BLOCK in b.disk.data


async def test_a_batch_is_on_its_way_to_the_other_node_before_it_is_written_here(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, b"old" + BLOCK[3:])  # its extent's bit is durable
        assert a.primary is not None
        answers: list[int] = []
        a.primary.write(0, BLOCK, answers.append)
        await trio.sleep(1)
        assert BLOCK not in a.disk.data, "the batch is not over"
        a.primary.submit()
        await until(lambda: answers == [0])
        assert BLOCK in a.disk.data
        assert BLOCK in b.disk.data


async def test_concurrent_writes_share_one_map_update(autojump_clock: MockClock) -> None:
    async with pair(size=4 << 20) as (a, b):
        await connected(a, b)
        a.disk.latency["durable"] = 1.0
        assert a.primary is not None
        before = a.primary.statistics.stat_activemap_update
        async with trio.open_nursery() as nursery:
            for extent in range(100):
                nursery.start_soon(a.write, extent * 4096, BLOCK)
        assert a.primary.statistics.stat_activemap_update - before <= 2


async def test_while_degraded_localcnt_is_durable_before_the_first_acknowledgement(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        counted = a.disk.metadata.localcnt
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        assert await a.write(0, BLOCK) == 0
        assert a.disk.metadata.localcnt == counted + 1
        assert await a.write(4096, BLOCK) == 0
        assert a.disk.metadata.localcnt == counted + 1


@pytest.mark.parametrize("mode", list(Replication))
async def test_a_write_in_flight_when_the_link_breaks_is_resynced(autojump_clock: MockClock, mode: Replication) -> None:
    async with pair(replication=mode) as (a, b):
        await connected(a, b)
        for channel in a.connections:
            channel.stalled = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.write, 0, BLOCK)
            await trio.sleep(1)
            assert BLOCK not in b.disk.data
            a.cut()
        await until(lambda: BLOCK in b.disk.data and in_sync(a))
        assert b.disk.data == a.disk.data


async def test_a_peer_that_does_not_answer_costs_at_most_the_timeout(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        for channel in a.connections:
            channel.stalled = True
        start = trio.current_time()
        assert await a.write(0, BLOCK) == 0
        assert trio.current_time() - start <= a.config.timeout + 0.01
        assert a.events[-1] == "disconnect"


async def test_only_dirty_extents_are_resynced(autojump_clock: MockClock) -> None:
    async with pair(size=8 << 20, keepdirty=0) as (a, b):
        await connected(a, b)
        for extent in range(0, 1000, 50):
            await a.write(extent * 4096, BLOCK)
        await a.flush()
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        await a.write(77 * 4096, BLOCK)
        b.reachable = True
        await until(lambda: in_sync(a))
        sent = sum(len(channel.sent) for channel in a.connections)
        assert sent < 4 * 4096
        assert b.disk.data == a.disk.data


async def test_counters_return_after_a_resync(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await a.write(0, BLOCK)
        assert a.disk.metadata.localcnt == 1
        b.reachable = True
        await until(lambda: in_sync(a) and a.disk.metadata.localcnt == 0)
        await until(lambda: a.disk.metadata.generations == b.disk.metadata.generations)
        assert a.events == ["connect", "disconnect", "connect", "syncstart", "syncdone"] or a.events[-1] == "syncdone"


async def test_failover_and_return(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        await a.crash()
        await b.become_primary()
        assert await b.read(0, 4096) == BLOCK
        assert await b.write(8192, BLOCK) == 0
        a.become_secondary()
        await until(lambda: in_sync(b) and a.disk.metadata.generations == b.disk.metadata.generations)
        assert a.disk.data == b.disk.data


async def test_a_primary_that_is_out_of_date_is_synced_from_the_secondary(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.crash()
        await b.become_primary()
        await b.write(8192, BLOCK)
        await b.stop()
        b.become_secondary()
        await a.become_primary()
        assert await a.read(8192, 4096) == BLOCK
        await until(lambda: in_sync(a))
        assert a.disk.data == b.disk.data
        await a.write(0, BLOCK)
        assert a.disk.data == b.disk.data
        await until(lambda: b.disk.metadata.generations == a.disk.metadata.generations)
        assert a.disk.consistent


async def test_both_primaries_that_wrote_are_a_split_brain(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.reachable = False
        a.cut()
        await a.write(0, BLOCK)
        await b.crash()
        await b.become_primary()
        await b.write(0, BLOCK[::-1])
        before = a.disk.data, b.disk.data
        await b.stop()
        b.become_secondary()
        a.reachable = True
        await until(lambda: "split-brain" in a.events)
        await trio.sleep(60)
        assert a.events.count("split-brain") == 1
        assert "split-brain" in b.events
        assert (a.disk.data, b.disk.data) == before


async def test_split_brain_after_a_sync_from_the_secondary_is_detected(autojump_clock: MockClock) -> None:
    """The original's counters miss this history (P=(0,1), S=(1,0); both restart alone and write)."""
    async with pair() as (a, b):
        await connected(a, b)
        await a.crash()
        await b.become_primary()
        await b.write(0, BLOCK)
        await b.stop()
        b.become_secondary()
        await a.become_primary()
        await until(lambda: in_sync(a) and b.disk.metadata.generations == a.disk.metadata.generations)
        await a.stop()
        await b.stop()
        await a.become_primary()
        await a.write(4096, BLOCK)
        await a.stop()
        await b.become_primary()
        await b.write(8192, BLOCK)
        a.become_secondary()
        await until(lambda: "split-brain" in b.events)
        assert a.disk.data[4096:8192] == BLOCK


async def test_a_node_in_the_middle_of_a_resync_is_not_made_primary(autojump_clock: MockClock) -> None:
    async with pair(size=1 << 20) as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        for extent in range(200):
            await a.write(extent * 4096, BLOCK)
        b.disk.latency["write"] = 1.0
        b.reachable = True
        await until(lambda: not b.disk.consistent)
        await a.crash()
        await b.crash()
        with pytest.raises(DataError, match="inconsistent"):
            await b.become_primary()
        await b.become_primary(force=True)
        del b.disk.latency["write"]
        assert await b.write(0, BLOCK) == 0


async def test_a_write_that_fails_on_the_secondary_is_sent_again(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.disk.failing["write"] = 5
        assert await a.write(0, BLOCK) == 0
        assert not b.disk.consistent
        assert a.primary is not None
        assert a.primary.map.pending() == 1
        del b.disk.failing["write"]
        await until(lambda: in_sync(a))
        assert b.disk.data == a.disk.data
        await until(lambda: b.disk.consistent)


async def test_a_write_that_fails_locally_is_an_error_and_stays_out_of_sync(autojump_clock: MockClock) -> None:
    """Where the other node cannot go on alone; where it can, see test_detach."""
    async with pair() as (a, b):
        b.version = 2
        b.become_secondary()
        await a.become_primary()
        await until(lambda: in_sync(a))
        a.disk.failing["write"] = 28
        assert await a.write(0, BLOCK) == 28
        del a.disk.failing["write"]
        await until(lambda: in_sync(a))
        assert a.disk.data == b.disk.data


async def test_a_read_that_fails_locally_is_served_by_the_other_node(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        a.disk.failing["read"] = 5
        assert await a.read(100, 3000) == BLOCK[100:3100]
        await b.crash()
        with pytest.raises(OSError, match="5"):
            await a.read(0, 4096)


async def test_the_other_node_still_being_primary_refuses_the_role(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await a.become_primary()
        start = trio.current_time()
        with pytest.raises(BusyError, match="still is primary"):
            await b.become_primary()
        assert trio.current_time() - start <= b.config.timeout + 2
        await b.become_primary(force=True)


async def test_overlapping_writes_reach_both_nodes_in_the_same_order(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.latency["write"] = 0.5
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(a.write, 512 * (number % 3), bytes([number]) * 2048)
        assert a.disk.data == b.disk.data


async def test_only_overlapping_requests_wait_for_a_range(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(65536, BLOCK)
        b.disk.latency["write"] = 10.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.write, 0, BLOCK)
            await trio.sleep(0.1)
            start = trio.current_time()
            assert await a.read(65536, 4096) == BLOCK
            assert trio.current_time() == start
            nursery.cancel_scope.cancel()


async def test_discarded_ranges_read_as_zeros_on_both_nodes(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK * 4)
        assert await a.discard(4096, 8192) == 0
        assert await a.discard(100, 50) == 0
        expected = bytearray(BLOCK * 4)
        expected[4096 : 4096 + 8192] = bytes(8192)
        expected[100:150] = bytes(50)
        assert a.disk.data[: len(expected)] == b.disk.data[: len(expected)] == bytes(expected)


async def test_a_full_sync_brings_a_secondary_that_was_made_anew_up_to_date(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(12288, BLOCK)
        await b.crash()
        b.disk = SimulatedDisk(RESOURCE, 256 * 1024, EXTENT, 4)
        b.disk.content[b.disk.layout.localoff + 512] = 7  # something old
        b.become_secondary()
        await until(lambda: agreed(a, b))
        assert b.disk.data == a.disk.data


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_primary_that_wrote_before_it_ever_connected_sends_what_it_wrote(
    autojump_clock: MockClock, restarted: bool
) -> None:
    """The original does the same: both components are fresh, and the map has all that happened since."""
    async with pair() as (a, b):
        await a.become_primary()
        await a.write(12288, BLOCK)
        if restarted:
            await a.crash()
            await a.become_primary()
            await a.write(20480, BLOCK)
        b.become_secondary()
        await until(lambda: agreed(a, b))
        assert b.disk.data == a.disk.data
        assert b.secondary is not None
        assert b.secondary.status().stats["stat_write"] == (2 if restarted else 1)


async def test_a_fresh_node_that_did_not_get_all_of_the_first_sync_is_not_made_primary(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b):
        await a.become_primary()
        await a.write(12288, BLOCK)
        b.disk.latency["write"] = 5.0
        b.become_secondary()
        await until(lambda: linked(a))
        a.reachable = False
        await a.crash()
        await b.crash()
        b.disk.latency.clear()
        with pytest.raises(DataError, match="inconsistent"):
            await b.become_primary()
        a.reachable = True
        b.become_secondary()
        await a.become_primary()
        await until(lambda: agreed(a, b))
        assert b.disk.data == a.disk.data
        assert await a.read(12288, 4096) == BLOCK


async def test_two_nodes_that_both_wrote_before_they_ever_connected_refuse_each_other(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b):
        await b.become_primary()
        await b.write(0, BLOCK)
        await b.stop()
        b.become_secondary()
        await a.become_primary()
        await a.write(12288, BLOCK)
        await trio.sleep(30)
        assert not linked(a)
        assert "Resource unique ID mismatch" in str(b.errors[-1])


async def test_a_clean_stop_leaves_a_clean_map(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        assert any(a.disk.map)
        await a.stop()
        assert not any(a.disk.map)
        assert a.disk.data == b.disk.data


async def test_at_most_keepdirty_extents_and_a_batch_stay_dirty(autojump_clock: MockClock) -> None:
    async with pair(size=8 << 20) as (a, b):
        await connected(a, b)
        for extent in range(500):
            await a.write(extent * 4096, BLOCK)
        await trio.sleep(30)
        assert int.from_bytes(a.disk.map, "little").bit_count() <= 4 + 64


async def test_a_peer_of_version_2_works_without_our_extensions(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        b.version = 2
        b.become_secondary()
        await a.become_primary()
        await until(lambda: in_sync(a))
        await a.write(0, BLOCK)
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        await a.write(8192, BLOCK)
        b.reachable = True
        await until(lambda: in_sync(a) and a.disk.metadata.localcnt == 0)
        assert a.disk.data == b.disk.data
        sent = b"".join(bytes(channel.sent) for channel in a.connections)
        assert b"generation" not in sent


async def test_messages_in_odd_pieces_are_put_together(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        a.mtu = 7
        await connected(a, b)
        await a.write(0, BLOCK * 2)
        assert a.disk.data == b.disk.data
