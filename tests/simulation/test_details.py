"""What the engines tell of themselves through the life of a pair (hastfs.details)."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from hastfs.details import Details
from hastfs.model import Replication
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, linked, pair, until

MIB = 1 << 20


def details(node: Node, cells: int = 0) -> Details:
    """Of either role; what goes to JSON and back on the way to the supervisor."""
    engine = node.engine or node.secondary
    assert engine is not None
    return Details.from_plain(engine.status(cells).details.as_plain())


async def away(a: Node, b: Node) -> None:
    b.reachable = False
    a.cut()
    await until(lambda: not linked(a))


async def test_a_pair_in_sync(autojump_clock: MockClock) -> None:
    async with pair(size=MIB) as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        await a.flush()
        await until(lambda: agreed(a, b))
        seen = details(a)
        assert (seen.role, seen.connection, seen.disk, seen.peer_disk) == (
            "primary",
            "connected",
            "up-to-date",
            "up-to-date",
        )
        assert (seen.behind, seen.sync, seen.problem) == (0, None, "")
        assert None not in (seen.started, seen.connected_since, seen.last_in_sync)
        assert seen.counters["write_bytes"] == len(BLOCK)
        assert seen.counters["sent_bytes"] > len(BLOCK)
        assert (seen.counters["connects"], seen.counters["disconnects"]) == (1, 0)
        other = details(b)
        assert (other.role, other.connection, other.disk, other.peer_disk) == (
            "secondary",
            "connected",
            "up-to-date",
            "up-to-date",
        )
        assert other.counters["received_bytes"] > len(BLOCK)


async def test_a_primary_alone_and_its_resync(autojump_clock: MockClock) -> None:
    async with pair(size=4 * MIB, extentsize=32 * 1024, keepdirty=0) as (a, b):
        await connected(a, b)
        await a.flush()
        await away(a, b)
        await a.write(0, BLOCK * 256)
        seen = details(a, 4)
        assert (seen.connection, seen.peer_disk, seen.behind) == ("connecting", "outdated", MIB)
        assert seen.connected_since is None
        assert seen.last_in_sync is not None
        assert seen.dirty_map[0] > 900
        assert seen.dirty_map[1:] == (0, 0, 0)
        await trio.sleep(60)
        assert details(a).problem.startswith("No connection to peer: ")
        a.disk.latency.update(read=1.0)
        b.reachable = True
        await until(lambda: linked(a))
        await trio.sleep(2.5)
        seen, other = details(a), details(b)
        assert seen.sync is not None
        assert (seen.sync.direction, seen.sync.total) == ("to-peer", MIB)
        assert 0 < seen.sync.left < MIB
        assert seen.sync.rate > 0
        assert (seen.disk, seen.peer_disk) == ("up-to-date", "inconsistent")
        assert (other.disk, other.peer_disk) == ("inconsistent", "up-to-date")
        await until(lambda: agreed(a, b))
        seen = details(a)
        assert (seen.sync, seen.behind, seen.peer_disk) == (None, 0, "up-to-date")
        assert seen.counters["sync_bytes"] == MIB
        assert (seen.counters["connects"], seen.counters["disconnects"]) == (2, 1)


async def test_a_primary_that_is_brought_up_to_date(autojump_clock: MockClock) -> None:
    async with pair(size=MIB) as (a, b):
        await connected(a, b)
        await away(a, b)
        await a.write(0, BLOCK * 64)
        await a.stop()
        b.reachable = True
        a.become_secondary()
        a.disk.latency.update(read=1.0)
        await b.become_primary()
        await until(lambda: linked(b))
        await trio.sleep(1.5)
        seen, other = details(b), details(a)
        assert (seen.disk, seen.peer_disk, seen.behind) == ("inconsistent", "up-to-date", 0)
        assert seen.sync is not None
        assert seen.sync.direction == "from-peer"
        assert (other.disk, other.peer_disk) == ("up-to-date", "inconsistent")
        await until(lambda: agreed(b, a))


async def test_latencies_of_every_mode_count_each_write_once(autojump_clock: MockClock) -> None:
    for mode in Replication:
        async with pair(size=MIB, replication=mode) as (a, b):
            await connected(a, b)
            a.disk.latency.update(write=0.001)
            for number in range(5):
                await a.write(number * EXTENT, BLOCK)
            await until(lambda: agreed(a, b))
            await a.flush()
            await away(a, b)
            await a.write(0, BLOCK)
            await a.discard(100, 3 * EXTENT)  # its odd ends are written, but are no writes of an application
            await a.read(0, EXTENT)
            latency = details(a).latency
            counts = {name: sum(histogram.counts) for name, histogram in latency.items()}
            assert counts == {"local": 8, "remote": 5, "total": 6, "read": 1, "flush": 1}, mode
            assert details(a).gauges["requests"] == 0
