"""What random histories of failing disks (test_detach_histories.py) found: the smallest case of each."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest
import trio
import trio.testing

from tests.simulation.node import BLOCK, EXTENT, agreed, connected, linked, pair, until

OTHER = bytes(reversed(BLOCK))


class NothingSurvives(random.Random):
    """The worst luck at a loss of power."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


async def test_a_stint_alone_that_could_not_be_recorded_is_when_the_disk_is_well_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nobody writes alone any more, so nobody else asks for the record that the end of the resync waits for."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.failing["durable"] = errno.EIO
        assert await a.write(0, OTHER) == errno.EIO
        a.disk.failing.clear()
        b.reachable = True
        await until(lambda: a.events[-1] == "syncdone", 60)
        assert agreed(a, b) and b.disk.consistent


async def test_a_stint_alone_that_cannot_be_recorded_does_not_hold_up_the_resync(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When all is copied there is nothing to be recorded: then the other node can do without this one's disk."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.failing["durable"] = errno.EIO
        assert await a.write(0, OTHER) == errno.EIO
        b.reachable = True
        await until(lambda: a.events[-1] in ("syncdone", "detach"), 60)
        assert await a.write(EXTENT, BLOCK) == 0
        assert a.primary is not None and a.primary.detached


async def test_a_flush_alone_after_a_crash_counts(autojump_clock: trio.testing.MockClock) -> None:
    """What the crashed worker had written may be nowhere else: whoever lacks it must not be the one that is copied."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        await a.crash()
        await b.crash()
        b.disk.lose_power(NothingSurvives())
        await a.become_primary()
        assert await a.flush() == 0
        await a.stop()
        await b.become_primary()
        assert await b.write(EXTENT, BLOCK) == 0
        a.become_secondary()
        await until(lambda: "split-brain" in b.events, 60)
        assert a.disk.data[:EXTENT] == BLOCK


async def test_a_flush_alone_after_a_takeover_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        await a.crash()
        a.disk.lose_power(NothingSurvives())
        assert a.disk.data[:EXTENT] == bytes(EXTENT)
        await b.crash()
        await b.become_primary()
        assert await b.flush() == 0
        await b.crash()
        b.become_secondary()
        await a.become_primary()
        await until(lambda: agreed(a, b))
        assert await a.read(0, EXTENT) == BLOCK


async def test_the_only_copy_comes_and_goes_and_requests_are_answered(autojump_clock: trio.testing.MockClock) -> None:
    """A link that is lost again at once must not begin their time anew."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(0, BLOCK) == 0
        b.disk.failing["durable"] = errno.EIO
        b.cut()
        b.disk.damage = "was deleted"
        primary, errors = a.primary, list[int]()
        assert primary is not None
        primary.write(EXTENT, BLOCK, errors.append)
        primary.flush(errors.append)
        primary.read(0, EXTENT, lambda error, content: errors.append(error))
        await until(lambda: errors == 3 * [errno.EIO], 2 * a.config.timeout)


async def test_what_cannot_be_read_is_asked_for_also_when_a_write_detached_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        a.disk.failing.update(read=errno.EIO, write=errno.EIO)
        a.disk.latency["write"] = 1
        errors: list[int] = []
        got: list[bytes] = []
        assert a.primary is not None
        a.primary.write(0, OTHER, errors.append)
        a.primary.read(0, EXTENT, lambda error, content: got.append(bytes(content)))
        a.primary.submit()
        await until(lambda: bool(got))
        assert (errors, got) == ([0], [OTHER])


@pytest.mark.parametrize("step", [x / 4 for x in range(12)])
async def test_the_other_node_keeps_the_map_also_on_a_link_made_before_the_component_was_given_up(
    autojump_clock: trio.testing.MockClock, step: float
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.latency["durable"] = 4
        a.disk.failing["write"] = errno.EIO
        errors: list[int] = []
        assert a.primary is not None
        a.primary.write(EXTENT, BLOCK, errors.append)
        a.primary.submit()
        await until(lambda: a.primary is not None and a.primary.detaching)
        b.disk.latency["durable"] = 0.5
        await trio.sleep(1 + step)
        a.cut()
        await until(lambda: errors == [0])
        assert a.primary.detached
        assert await a.write(7 * EXTENT, BLOCK) == 0
        assert int.from_bytes(b.disk.map, "little") >> 7 & 1


async def test_what_was_written_alone_is_recorded_when_the_disk_is_well_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Otherwise this node would say for ever that it has just been written to alone, and never who is right."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await b.crash()
        await b.become_primary()
        assert await b.write(0, BLOCK) == 0
        await b.stop()
        a.disk.failing["durable"] = errno.EIO
        assert await a.write(0, OTHER) == errno.EIO
        a.disk.failing.clear()
        b.become_secondary()
        b.reachable = True
        await until(lambda: "split-brain" in a.events, 60)


@pytest.mark.parametrize("begin", [1, 5, 11.5])
async def test_a_write_alone_that_ends_while_the_component_is_given_up_does_not_part_the_nodes(
    autojump_clock: trio.testing.MockClock, begin: float
) -> None:
    """As long as the other node lacks it, the component is the only good copy, and stays."""
    async with pair() as (a, b):
        await connected(a, b)
        for extent in (0, 5):
            assert await a.write(extent * EXTENT, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.latency["write"] = 12
        errors: list[int] = []
        primary = a.primary
        assert primary is not None
        primary.write(0, OTHER, errors.append)
        b.reachable = True
        await trio.sleep(begin)
        a.disk.latency["durable"] = 5
        a.disk.failing["zero"] = errno.EIO
        primary.discard(5 * EXTENT, EXTENT, errors.append)
        primary.submit()
        await until(lambda: len(errors) == 2)
        assert sorted(errors) == [0, errno.EIO] and not primary.detached
        a.disk.failing.clear()
        await until(lambda: agreed(a, b))
        assert not primary.writing_alone
        assert await a.read(0, EXTENT) == OTHER
        assert a.disk.data == b.disk.data


async def test_an_engine_that_ends_while_its_component_fails_answers_who_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        b.disk.latency["durable"] = 100
        a.disk.failing["flush"] = errno.EIO
        primary = a.primary
        assert primary is not None
        errors: list[int] = []
        primary.flush(errors.append)
        primary.submit()
        await trio.sleep(1)
        with trio.fail_after(5):
            await a.crash()
        assert errors == [errno.EIO]


async def test_a_primary_ends_also_while_it_gives_its_component_up(autojump_clock: trio.testing.MockClock) -> None:
    """The cleaner's flush had failed, and waits to hear how to go on from somebody who has ended."""
    async with pair(size=1 << 20) as (a, b):
        await connected(a, b)
        for extent in range(100):
            assert await a.write(extent * EXTENT, BLOCK) == 0
        a.disk.failing["flush"] = errno.EIO
        a.disk.latency["durable"] = 15
        primary = a.primary
        assert primary is not None
        await until(lambda: primary.detaching)
        await trio.sleep(1)
        await a.crash()
        assert a.primary is None and not primary.detached
