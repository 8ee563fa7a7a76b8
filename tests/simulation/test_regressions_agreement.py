"""What the nodes believe of each other: identities, verdicts, and the moment they are the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from hastfs.protocol.handshake import Terms
from hastfs.resource import admission
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import (
    BLOCK,
    EXTENT,
    RESOURCE,
    agreed,
    connected,
    in_sync,
    linked,
    pair,
    primary_out_of_date,
    until,
)


async def test_a_first_write_during_the_first_handshake_does_not_give_the_pair_a_second_identity(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b), trio.open_nursery() as nursery:
        a.disk.content[4096] = 1  # the first extent is dirty: a write to it need not wait for the map
        await a.become_primary()
        a.disk.latency["durable"] = 0.5
        b.become_secondary()
        await until(lambda: any(token for token in b._half_open))
        await until(lambda: a.primary is not None and a.primary.metastore._updating.locked())
        nursery.start_soon(a.write, 0, BLOCK)
        await until(lambda: agreed(a, b))
        assert a.disk.metadata.resuid == b.disk.metadata.resuid
        assert a.disk.data == b.disk.data
        a.cut()
        await trio.sleep(1)
        await until(lambda: agreed(a, b))


@pytest.mark.parametrize("version", [0, 1, 2, 3])
async def test_a_first_write_that_a_crash_cut_short_is_undone_by_the_next_primary(
    autojump_clock: MockClock, version: int
) -> None:
    """The node still looks as if it had never been used, but for its map."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        a.version = version
        await a.become_primary()
        a.disk.latency["durable"] = 1.0
        nursery.start_soon(a.write, 0, BLOCK)
        await until(lambda: a.disk.data.startswith(BLOCK))
        await a.crash()
        assert not a.disk.metadata.resuid
        a.become_secondary()
        await b.become_primary()
        await until(lambda: in_sync(b))
        assert a.disk.data == b.disk.data


async def test_a_secondary_that_asks_for_less_than_the_verdict_gets_everything(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[..., Terms] = admission._terms

    def lying(*facts: object, **more: object) -> Terms:
        return replace(honest(*facts, **more), map=bytes(512))

    monkeypatch.setattr(admission, "_terms", lying)
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        await b.crash()
        b.disk = SimulatedDisk(RESOURCE, 256 * 1024, EXTENT)
        b.disk.content[b.disk.layout.localoff + 5 * EXTENT] = 7  # something old
        b.become_secondary()
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_good_copy_that_cannot_flush_is_no_split_brain(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        b.become_secondary()
        await a.become_primary()
        await until(lambda: agreed(a, b))
        await a.stop()
        await b.become_primary()
        for extent in range(3):
            await b.write(extent * EXTENT, BLOCK)
        await b.stop()
        b.become_secondary()
        b.disk.failing["flush"] = 5
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        localcnt = a.disk.metadata.localcnt
        await a.flush()
        await trio.sleep(5)
        assert a.disk.metadata.localcnt == localcnt
        assert "split-brain" not in a.events


async def test_a_write_that_fails_while_the_nodes_agree_is_not_taken_for_consistent(
    autojump_clock: MockClock,
) -> None:
    """The failure and the word that both are the same cross each other on the wire."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        b.become_secondary()
        await a.become_primary()
        await until(lambda: agreed(a, b))
        b.reachable = False
        a.cut()
        await until(lambda: a.primary is not None and a.primary.link is None)
        await a.write(0, BLOCK)
        b.disk.latency["flush"] = 2.0
        b.reachable = True
        await until(lambda: a.primary is not None and a.primary.link is not None and a.primary.map.in_sync)
        b.disk.latency["write"] = 4.0
        b.disk.failing["write"] = 5
        nursery.start_soon(a.write, EXTENT, BLOCK)
        await trio.sleep(4.5)
        assert BLOCK not in b.disk.data[EXTENT:]
        assert not b.disk.consistent
        b.disk.failing.clear()
        b.disk.latency.clear()
        await until(lambda: agreed(a, b) and b.disk.consistent)
        assert a.disk.data == b.disk.data


async def test_the_only_good_copy_that_fails_a_write_stays_the_good_copy(autojump_clock: MockClock) -> None:
    """Otherwise there is none: the primary is in the middle of a resync from it."""
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 8)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        await until(lambda: linked(a))
        b.disk.failing["write"] = 5
        assert await a.write(20 * EXTENT, BLOCK) == 5
        b.disk.failing.clear()
        a.cut()
        b.disk.latency.clear()
        await until(lambda: agreed(a, b))
        assert b.disk.consistent
        assert a.disk.data == b.disk.data


async def test_a_write_that_fails_on_the_good_copy_while_the_nodes_agree_leaves_a_gap_there(
    autojump_clock: MockClock,
) -> None:
    """When its failure is heard, the primary has caught up and goes on alone with it."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 8)
        b.disk.latency["flush"] = 2.0
        await a.become_primary()
        await until(lambda: linked(a) and a.primary is not None and a.primary.map.in_sync)
        await trio.sleep(1)
        b.disk.latency["write"] = 4.0
        b.disk.failing["write"] = 5
        errors: list[int] = []

        async def write() -> None:
            errors.append(await a.write(20 * EXTENT, BLOCK))

        nursery.start_soon(write)
        await until(lambda: bool(errors))
        await trio.sleep(0.05)
        assert errors == [0]
        assert BLOCK not in b.disk.data[20 * EXTENT :]
        assert not b.disk.consistent
        b.disk.failing.clear()
        b.disk.latency.clear()
        await until(lambda: agreed(a, b) and b.disk.consistent)
        assert a.disk.data == b.disk.data


async def test_a_flush_that_the_only_good_copy_refuses_is_an_error_and_no_endless_retry(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 3)
        b.disk.failing["flush"] = 5
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        await until(lambda: linked(a))
        assert await a.flush() == 5
        connects = a.events.count("connect")
        await trio.sleep(120)
        assert a.events.count("connect") - connects <= 15  # it backs off
        b.disk.failing.clear()
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_worker_that_dies_in_a_resync_from_the_other_node_does_not_need_it_to_be_replaced(
    autojump_clock: MockClock,
) -> None:
    """As long as the other node is away requests wait, as they would have done with the worker that died."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 8)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        await until(lambda: linked(a))
        b.reachable = False
        await a.crash()
        await a.become_primary(taking_over=True)
        written: list[int] = []

        async def write() -> None:
            written.append(await a.write(20 * EXTENT, BLOCK))

        nursery.start_soon(write)
        await trio.sleep(1)
        assert not written
        b.reachable = True
        assert await a.read(0, len(BLOCK)) == BLOCK
        await until(lambda: agreed(a, b))
        assert written == [0]
        assert a.disk.data == b.disk.data


async def test_half_of_a_first_copy_that_is_forced_does_not_overwrite_the_whole_one(autojump_clock: MockClock) -> None:
    """The secondary carries the primary's generation from the first handshake on, long before it has its data."""
    async with pair() as (a, b):
        await a.become_primary()
        assert await a.write(0, BLOCK) == 0
        b.disk.latency["write"] = 10.0
        b.become_secondary()
        await until(lambda: linked(a))
        await trio.sleep(1)
        await b.crash()
        await until(lambda: not linked(a))
        assert await a.write(EXTENT, BLOCK) == 0
        await b.become_primary(force=True)
        assert await b.write(EXTENT, BLOCK[::-1]) == 0
        await a.stop()
        a.become_secondary()
        await until(lambda: "split-brain" in b.events)
        assert a.disk.data[: 2 * EXTENT] == 2 * BLOCK
