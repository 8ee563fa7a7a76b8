"""The other node has the only good copy and loses its cache: applications hear of it whichever worker serves them then,
and only if something may be lost.
"""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio.testing

from tests.simulation.disk import Fault
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, in_sync, linked, pair, until

OTHER = bytes(reversed(BLOCK))


class NothingSurvives(random.Random):
    """The worst luck at a loss of power."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


@asynccontextmanager
async def only_copy_on_b() -> AsyncIterator[tuple[Node, Node]]:
    """a has parted with its component, and nothing was flushed since."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, OTHER) == 0
        assert a.primary is not None and a.primary.detached
        yield a, b


async def lose_power(node: Node) -> None:
    """It stays away until `come_back`."""
    await node.crash()
    node.disk.lose_power(NothingSurvives())


async def come_back(node: Node) -> None:
    node.become_secondary()
    await until(lambda: linked(node.other))


async def another_worker(node: Node, *, attach: bool = False) -> None:
    if attach:
        node.disk.failing.clear()
        await node.attach()
    else:
        await node.crash()
        await node.become_primary(taking_over=True)


@pytest.mark.parametrize("attach", [False, True])
async def test_a_worker_that_comes_while_the_only_copy_is_without_power_says_what_is_lost(
    autojump_clock: trio.testing.MockClock, attach: bool
) -> None:
    async with only_copy_on_b() as (a, b):
        await lose_power(b)
        await until(lambda: not linked(a))
        await another_worker(a, attach=attach)
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) != OTHER
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


@pytest.mark.parametrize("attach", [False, True])
async def test_a_worker_says_what_the_one_before_had_no_time_to_say(
    autojump_clock: trio.testing.MockClock, attach: bool
) -> None:
    async with only_copy_on_b() as (a, b):
        await lose_power(b)
        await come_back(b)
        await another_worker(a, attach=attach)
        await until(lambda: linked(a))
        await another_worker(a)
        await until(lambda: linked(a))
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_a_worker_knows_that_the_one_before_may_have_acknowledged_what_is_lost_now(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with only_copy_on_b() as (a, b):
        await another_worker(a)
        await until(lambda: linked(a))
        await lose_power(b)
        await come_back(b)
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_the_flush_that_is_to_say_it_says_it_also_if_it_ends_without_the_other_node(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with only_copy_on_b() as (a, b):
        await lose_power(b)
        await come_back(b)
        await another_worker(a, attach=True)
        await until(lambda: in_sync(a) and agreed(a, b))
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_a_worker_says_it_once_only_whoever_follows(autojump_clock: trio.testing.MockClock) -> None:
    async with only_copy_on_b() as (a, b):
        await lose_power(b)
        await come_back(b)
        assert await a.flush() == errno.EIO
        await another_worker(a)
        await until(lambda: linked(a))
        assert await a.flush() == 0


@pytest.mark.parametrize("attach", [False, True])
async def test_of_a_cache_in_which_nothing_was_nobody_speaks(
    autojump_clock: trio.testing.MockClock, attach: bool
) -> None:
    async with only_copy_on_b() as (a, b):
        assert await a.flush() == 0
        await lose_power(b)
        await until(lambda: not linked(a))
        await another_worker(a, attach=attach)
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) == OTHER
        assert await a.flush() == 0


async def test_a_node_that_has_caught_up_does_not_mind_what_the_other_one_loses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not even if it wrote its metadata when the link broke, and nothing was flushed since."""
    async with only_copy_on_b() as (a, b):
        assert await a.flush() == 0
        await another_worker(a, attach=True)
        primary = a.primary
        assert primary is not None
        a.disk.latency["durable"] = 5
        await until(lambda: primary.link is not None and primary.map.in_sync)
        assert await a.write(EXTENT, BLOCK) == 0
        assert primary.stale
        await lose_power(b)
        await until(lambda: not linked(a))
        await until(lambda: not primary.stale)
        a.disk.latency.clear()
        await come_back(b)
        await until(lambda: in_sync(a) and agreed(a, b))
        assert await a.read(EXTENT, EXTENT) == BLOCK
        assert await a.flush() == 0


@asynccontextmanager
async def only_b_is_up_to_date(*, flush_takes: float = 50) -> AsyncIterator[tuple[Node, Node]]:
    """b wrote alone, was killed (its page cache was not) before it flushed, and is secondary of a, which reads that."""
    async with pair() as (a, b):
        await connected(b, a)
        assert await b.write(EXTENT, BLOCK) == 0
        assert await b.flush() == 0
        await a.crash()
        assert await b.write(EXTENT, OTHER) == 0
        await b.crash()
        b.become_secondary()
        b.disk.latency["flush"] = flush_takes
        b.disk.faults.append(Fault("read", left=1))  # the resync waits for a second before it tries again
        await a.become_primary()
        yield a, b


@pytest.mark.parametrize("copied", [False, True])
async def test_who_has_read_what_the_good_copy_loses_hears_of_it(
    autojump_clock: trio.testing.MockClock, copied: bool
) -> None:
    """Whoever wrote it: what an application has seen, and what a flush succeeded after, is there."""
    async with only_b_is_up_to_date() as (a, b):
        primary = a.primary
        assert primary is not None
        if copied:
            await until(lambda: primary.map.in_sync)
        assert primary.stale
        assert await a.read(EXTENT, EXTENT) == OTHER
        await lose_power(b)
        await until(lambda: not linked(a))
        b.disk.latency.clear()
        b.disk.faults.clear()
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) == BLOCK
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_of_what_was_flushed_since_the_link_was_made_nothing_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The engine sees to that by itself."""
    async with only_b_is_up_to_date(flush_takes=0.5) as (a, b):
        primary = a.primary
        assert primary is not None
        await trio.sleep(0.7)
        assert primary.stale
        assert await a.read(EXTENT, EXTENT) == OTHER
        await lose_power(b)
        await until(lambda: not linked(a))
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) == OTHER
        assert await a.flush() == 0


async def test_who_has_read_nothing_hears_of_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Nor whose read is answered only after the loss."""
    async with only_b_is_up_to_date() as (a, b), trio.open_nursery() as nursery:
        b.disk.faults.clear()
        b.disk.latency["read"] = 5
        nursery.start_soon(a.read, EXTENT, EXTENT)
        await trio.sleep(1)
        b.lose_power(NothingSurvives())  # without a last word
        await b.is_dead()
        b.power_up()
        await until(lambda: not linked(a))
        b.disk.latency.clear()
        b.disk.faults.clear()
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) == BLOCK
        assert await a.flush() == 0


async def test_a_flush_that_the_only_copy_refuses_the_engine_is_told_to_applications(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A disk says only once that it has lost something: it is not enough that the engine knows."""
    async with only_copy_on_b() as (a, b):
        b.disk.faults.append(Fault("flush", left=1))
        a.cut()
        await until(lambda: not linked(a))
        await until(lambda: linked(a))
        await trio.sleep(1)
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_a_flush_that_a_source_refuses_the_resync_is_told_to_applications(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with only_b_is_up_to_date(flush_takes=0) as (a, b):
        await trio.sleep(0.1)
        assert await a.write(3 * EXTENT, BLOCK) == 0
        assert a.primary is not None
        assert a.primary.stale
        b.disk.faults.append(Fault("flush", left=1))
        await until(lambda: agreed(a, b))
        assert [await a.flush(), await a.flush()] == [errno.EIO, 0]


async def test_what_a_worker_took_over_counts_until_the_other_node_has_flushed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with only_copy_on_b() as (a, b):
        assert await a.flush() == 0
        await another_worker(a)
        await until(lambda: linked(a))
        await trio.sleep(1)
        await lose_power(b)
        await until(lambda: not linked(a))
        await come_back(b)
        assert await a.read(EXTENT, EXTENT) == OTHER
        assert await a.flush() == 0
