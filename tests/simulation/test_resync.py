"""The resync as applications and the network see it: it yields, and a hole costs next to nothing."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from hastfs.model import MAX_REQUEST
from hastfs.resource.pacing import BITE
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, in_sync, linked, pair, until

MIB = 1 << 20


async def away(a: Node, b: Node) -> None:
    """b cannot be reached any more, and a knows."""
    b.reachable = False
    a.cut()
    await until(lambda: not linked(a))


def sent(node: Node) -> int:
    """Bytes to the other node, over all connections that there are."""
    return sum(len(channel.sent) for channel in node.connections)


async def test_a_hole_over_a_thousand_extents_goes_over_in_a_few_messages(autojump_clock: MockClock) -> None:
    async with pair(size=64 * MIB, extentsize=32 * 1024, keepdirty=0) as (a, b):
        await connected(a, b)
        await a.write(20 * MIB, b"x" * MIB)
        await a.write(50 * MIB, BLOCK)
        await a.flush()
        await away(a, b)
        await a.discard(0, 40 * MIB)
        b.reachable = True
        await until(lambda: agreed(a, b))
        assert sent(a) < 8 * 1024
        assert b.disk.data == a.disk.data
        assert BLOCK in b.disk.data


async def test_what_is_in_sync_is_not_told_of_with_the_hole_around_it(autojump_clock: MockClock) -> None:
    """Promise 2: the bit of an extent is durable before anything is done to it on either node."""
    async with pair(size=MIB, keepdirty=0) as (a, b):
        await connected(a, b)
        await away(a, b)
        for extent in (*range(10), *range(11, 20)):
            await a.discard(extent * EXTENT, EXTENT)
        changed: list[range] = []
        base = b.disk.layout.localoff
        b.disk.watch = lambda at, length: changed.append(range(at - base, at - base + length))
        b.reachable = True
        await until(lambda: agreed(a, b))
        touched = {place // EXTENT for places in changed for place in (places.start, places.stop - 1)}
        assert 10 not in touched
        assert touched & {0, 9, 11, 19} == {0, 9, 11, 19}


async def test_a_hole_that_an_application_fills_meanwhile_is_none(autojump_clock: MockClock) -> None:
    """Its write is under way when the resync comes to the hole, and must not be zeroed on the other node."""
    async with pair(size=MIB) as (a, b):
        await connected(a, b)
        await away(a, b)
        await a.write(0, BLOCK * 8)
        await a.discard(8 * EXTENT, 100 * EXTENT)
        a.disk.latency.update(read=5.0, write=30.0)
        b.reachable = True
        await until(lambda: linked(a))
        await a.write(20 * EXTENT, BLOCK)
        await until(lambda: agreed(a, b))
        assert a.disk.data[20 * EXTENT : 21 * EXTENT] == BLOCK
        assert b.disk.data == a.disk.data


async def test_a_hole_that_the_other_node_cannot_make_is_tried_again_until_it_can(autojump_clock: MockClock) -> None:
    async with pair(size=MIB) as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK * 16)
        await away(a, b)
        await a.discard(0, 64 * EXTENT)
        b.disk.failing["zero"] = 5
        b.reachable = True
        await until(lambda: linked(a))
        await trio.sleep(10)
        assert not in_sync(a)
        b.disk.failing.clear()
        await until(lambda: agreed(a, b))
        assert b.disk.data == a.disk.data


async def test_an_older_node_is_sent_zeros(autojump_clock: MockClock) -> None:
    """To the original, a DELETE is no more than a hint."""
    async with pair(size=MIB) as (a, b):
        b.version = 2
        b.become_secondary()
        await a.become_primary()
        await until(lambda: in_sync(a))
        await a.write(0, BLOCK * 16)
        await away(a, b)
        await a.discard(0, 64 * EXTENT)
        b.reachable = True
        await until(lambda: in_sync(a))
        await until(lambda: b.disk.data == a.disk.data)


async def test_while_an_application_works_there_is_one_small_piece_at_a_time(autojump_clock: MockClock) -> None:
    async with pair(size=32 * MIB, extentsize=2 * MIB) as (a, b):
        await connected(a, b)
        await away(a, b)
        for extent in range(13):
            await a.write(extent * 2 * MIB, BLOCK * (2 * MIB // len(BLOCK)))
        for node in (a, b):
            assert node.out is not None
            node.out.slow_down(0.001)
        b.reachable = True
        await until(lambda: linked(a))
        primary = a.primary
        assert primary is not None and primary.link is not None
        link = primary.link

        async def most_under_way(seconds: float, *, working: bool) -> int:
            most = 0
            end = trio.current_time() + seconds
            while trio.current_time() < end:
                if working:
                    await a.read(30 * MIB, 4096)
                most = max(most, link.unanswered)
                await trio.sleep(0.0003)
            return most

        await most_under_way(0.5, working=True)  # what was under way when it began
        assert await most_under_way(0.5, working=True) == BITE
        assert not in_sync(a)
        assert await most_under_way(1, working=False) >= 2 * MAX_REQUEST
        await until(lambda: agreed(a, b))
        assert b.disk.data == a.disk.data
