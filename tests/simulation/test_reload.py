"""A changed configuration for engines that run: what it changes at once, and what it must not disturb."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from hastfs.address import Address
from hastfs.config.schema import ResourceConfig
from hastfs.model import Compression, Replication
from hastfs.resource.primary import Primary
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, in_sync, linked, pair, until

SLOW = 5.0
"""Seconds a write takes on the secondary of these tests."""

ELSEWHERE = Address("elsewhere", 8457, None, "elsewhere")


def running(node: Node) -> Primary:
    assert node.primary is not None
    return node.primary


def apply(node: Node, **changes: object) -> ResourceConfig:
    """To the node's running primary."""
    config = replace(running(node).config, **changes)  # type: ignore[arg-type]
    running(node).apply(config)
    return config


async def seconds(node: Node, offset: int = 0) -> float:
    """That a write takes."""
    before = trio.current_time()
    assert await node.write(offset, BLOCK) == 0
    return trio.current_time() - before


async def test_a_new_mode_counts_for_the_next_write_and_outlives_the_link(autojump_clock: MockClock) -> None:
    async with pair(replication=Replication.FULLSYNC) as (a, b):
        await connected(a, b)
        b.disk.latency["write"] = SLOW
        assert await seconds(a) == pytest.approx(SLOW)
        apply(a, replication=Replication.ASYNC)
        assert await seconds(a) < 1
        apply(a, replication=Replication.FULLSYNC)
        assert await seconds(a) >= SLOW
        apply(a, replication=Replication.ASYNC)
        assert a.events == ["connect"]
        a.cut()
        await until(lambda: a.events[-1] == "connect" and in_sync(a))
        await until(lambda: agreed(a, b))
        assert await seconds(a, EXTENT) < 1


async def test_a_new_remote_is_dialled_at_once(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        before = trio.current_time()
        apply(a, remote=ELSEWHERE)
        await until(lambda: a.events == ["connect", "disconnect", "connect"])
        assert trio.current_time() - before < 0.1
        assert await a.write(0, BLOCK) == 0
        assert b.disk.data[: len(BLOCK)] == BLOCK


async def test_a_new_source_is_a_new_link(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        apply(a, source=ELSEWHERE)
        await until(lambda: a.events == ["connect", "disconnect", "connect"])


async def test_the_same_remote_keeps_the_link(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        link = running(a).link
        apply(a, timeout=3, exec="/hook", metaflush=False)
        await trio.sleep(60)
        assert running(a).link is link
        assert a.events == ["connect"]


async def test_without_a_remote_the_primary_is_alone_and_with_one_again_it_is_not(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        remote = running(a).config.remote
        apply(a, remote=None)
        await until(lambda: not linked(a))
        assert await a.write(0, BLOCK) == 0
        await trio.sleep(60)
        assert not linked(a)
        before = trio.current_time()
        apply(a, remote=remote)
        await until(lambda: agreed(a, b))
        assert trio.current_time() - before < 1
        assert a.disk.data == b.disk.data


async def test_a_primary_that_began_without_a_remote_gets_one(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        b.become_secondary()
        remote = a.config.remote
        a.config = replace(a.config, remote=None)
        await a.become_primary()
        assert await a.write(0, BLOCK) == 0
        apply(a, remote=remote)
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_an_attempt_that_waits_is_made_at_once(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await trio.sleep(100)  # by now, there are 10 seconds between two attempts
        b.reachable = True
        before = trio.current_time()
        apply(a, timeout=7)
        await until(lambda: linked(a))
        assert trio.current_time() - before < 0.1


async def test_writes_under_way_when_the_remote_changes_are_not_lost(autojump_clock: MockClock) -> None:
    async with pair(replication=Replication.MEMSYNC) as (a, b):
        await connected(a, b)
        b.disk.latency["write"] = SLOW
        async with trio.open_nursery() as nursery:
            for extent in range(20):
                nursery.start_soon(a.write, extent * EXTENT, BLOCK)
            await trio.sleep(SLOW / 2)
            apply(a, remote=ELSEWHERE)
        await until(lambda: a.events.count("connect") == 2 and agreed(a, b))
        assert a.disk.data[: 20 * EXTENT] == BLOCK * 20
        assert b.disk.data == a.disk.data


async def test_a_resync_goes_on_over_the_new_link(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        for extent in range(40):
            await a.write(extent * EXTENT, BLOCK)
        b.disk.latency["write"] = 1.0
        b.reachable = True
        await until(lambda: "syncstart" in a.events)
        await trio.sleep(0.5)
        apply(a, remote=ELSEWHERE, replication=Replication.ASYNC)
        await until(lambda: agreed(a, b))
        assert "syncintr" in a.events
        assert b.disk.data == a.disk.data


async def test_a_new_compression_counts_for_the_next_write(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)

        async def bytes_for_zeros() -> int:
            before = sum(len(channel.sent) for channel in a.connections)
            assert await a.write(0, bytes(EXTENT)) == 0
            return sum(len(channel.sent) for channel in a.connections) - before

        assert await bytes_for_zeros() < EXTENT
        apply(a, compression=Compression.NONE)
        assert await bytes_for_zeros() > EXTENT
        apply(a, compression=Compression.HOLE)
        assert await bytes_for_zeros() < EXTENT


async def test_a_shorter_timeout_counts_for_what_is_under_way(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        apply(a, timeout=60)
        await trio.sleep(30)
        b.disk.latency["write"] = 1000.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.write, 0, BLOCK)
            await trio.sleep(1)
            started = trio.current_time()
            apply(a, timeout=5)
            assert {channel.timeout for channel in a.connections[-2:]} == {5}
            await until(lambda: not linked(a))
            assert trio.current_time() - started == pytest.approx(4, abs=0.1)


async def test_metaflush_counts_for_the_next_update(autojump_clock: MockClock) -> None:
    async with pair(keepdirty=1) as (a, b):
        await connected(a, b)
        apply(a, metaflush=False)
        await a.flush()
        before = set(a.disk.unflushed)
        await running(a).metastore.update()
        assert set(a.disk.unflushed) - before
        a.disk.flush()
        apply(a, metaflush=True)
        await running(a).metastore.update()
        assert not a.disk.unflushed


async def test_a_running_secondary_replies_as_its_new_configuration_says(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert b.secondary is not None
        a.disk.failing["read"] = 5
        await a.write(0, bytes(EXTENT))

        async def bytes_for_zeros() -> int:
            (_, replies) = (channel.peer for channel in a.connections[-2:])
            assert replies is not None
            before = len(replies.sent)
            assert await a.read(0, EXTENT) == bytes(EXTENT)
            return len(replies.sent) - before

        assert await bytes_for_zeros() < EXTENT
        b.secondary.apply(replace(b.config, compression=Compression.NONE, timeout=3, metaflush=False))
        assert await bytes_for_zeros() > EXTENT
        assert [channel.peer.timeout for channel in a.connections[-2:] if channel.peer] == [3, 3]
        assert a.events == ["connect"]
