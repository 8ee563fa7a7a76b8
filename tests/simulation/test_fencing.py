"""A primary with a fence program: until somebody says that the other node is not in the way, nothing goes on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import BusyError
from hastfs.model import Replication
from hastfs.resource import fencing
from hastfs.resource.primary import Primary
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, in_sync, linked, pair, until

MODES = pytest.mark.parametrize("mode", list(Replication))


class Requests:
    """Requests of applications that nobody waits for; `answers` are their errors, by name."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.answers: dict[str, int] = {}

    def write(self, name: str, offset: int, data: bytes = BLOCK) -> None:
        self._volume.write(offset, data, partial(self.answers.__setitem__, name))
        self._volume.submit()

    def all(self) -> None:
        """One of each kind."""
        self.write("write", 0)
        self.write("part", 3 * EXTENT + 100, b"x")
        self.flush("flush")
        self._volume.discard(EXTENT, EXTENT, partial(self.answers.__setitem__, "discard"))
        self._volume.read(2 * EXTENT, EXTENT, lambda error, data: self.answers.__setitem__("read", error))
        self._volume.submit()

    def flush(self, name: str) -> None:
        self._volume.flush(partial(self.answers.__setitem__, name))
        self._volume.submit()

    @property
    def _volume(self) -> Primary:
        assert self._node.primary is not None
        return self._node.primary


@asynccontextmanager
async def fenced_pair(mode: Replication = Replication.FULLSYNC) -> AsyncIterator[tuple[Node, Node, list[bool]]]:
    """a, b, and what a asked for. a is primary and connected."""
    async with pair(replication=mode) as (a, b):
        asked: list[bool] = []
        a.asks_fence = asked.append
        for node in (a, b):
            node.config = replace(node.config, fence="/fence")
        await connected(a, b)
        assert await a.write(2 * EXTENT, BLOCK) == 0
        await a.flush()
        yield a, b, asked


async def lose(a: Node, b: Node) -> None:
    b.reachable = False
    a.cut()
    await until(lambda: a.primary is not None and a.primary.link is None)


@MODES
async def test_nothing_is_answered_or_counted_before_the_other_node_is_fenced(
    autojump_clock: MockClock, mode: Replication
) -> None:
    async with fenced_pair(mode) as (a, b, asked):
        before = a.disk.metadata
        requests = Requests(a)
        await lose(a, b)
        requests.all()
        await trio.sleep(1000)
        assert requests.answers == {}
        assert a.disk.metadata == before
        assert a.primary is not None
        assert a.primary.status().status == "held"
        assert asked == [True]
        a.fencing.answer(False, "it does not work")
        await trio.sleep(1000)
        assert requests.answers == {}
        a.fencing.answer(True, "")
        await until(lambda: len(requests.answers) == 5)
        assert set(requests.answers.values()) == {0}
        assert a.disk.metadata.localcnt == before.localcnt + 1
        assert a.primary.status().status == "degraded"


@MODES
async def test_what_was_under_way_when_the_link_broke_is_not_answered(
    autojump_clock: MockClock, mode: Replication
) -> None:
    async with fenced_pair(mode) as (a, b, _):
        before = a.disk.metadata
        requests = Requests(a)
        for channel in a.connections:
            channel.stalled = True
        if mode is not Replication.ASYNC:  # it answers as soon as it is written here
            requests.write("write", 0)
        requests.flush("flush")
        await trio.sleep(1)
        await lose(a, b)
        await trio.sleep(1000)
        assert requests.answers == {}
        assert a.disk.metadata == before
        a.fencing.answer(True, "")
        await until(lambda: len(requests.answers) == (2 if mode is not Replication.ASYNC else 1))
        assert a.disk.metadata.localcnt == before.localcnt + 1


@MODES
async def test_what_this_disk_finishes_when_the_link_is_lost_is_not_answered(
    autojump_clock: MockClock, mode: Replication
) -> None:
    """In async, and in memsync if the other node said that it was received, that would else be enough."""
    async with fenced_pair(mode) as (a, b, _):
        requests = Requests(a)
        a.disk.latency["write"] = 5.0
        b.disk.latency["write"] = 10.0
        requests.write("write", 0)
        await trio.sleep(1)
        await lose(a, b)
        await trio.sleep(1000)
        assert requests.answers == {}
        a.fencing.answer(True, "")
        await until(lambda: requests.answers == {"write": 0})


async def test_a_link_that_comes_back_lets_everything_go_on_at_once(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        requests = Requests(a)
        await lose(a, b)
        requests.all()
        await trio.sleep(30)
        assert asked == [True]
        b.reachable = True
        await until(lambda: len(requests.answers) == 5)
        assert set(requests.answers.values()) == {0}
        await until(lambda: agreed(a, b))
        assert asked == [True, False]
        assert a.disk.data == b.disk.data


async def test_a_node_that_is_back_at_once_is_not_fenced(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        a.cut()
        assert await a.write(0, BLOCK) == 0
        await until(lambda: in_sync(a))
        await trio.sleep(100)
        assert asked == []
        assert a.disk.data == b.disk.data


async def test_an_answer_counts_for_one_loss_only(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        await lose(a, b)
        await until(lambda: asked == [True])
        a.fencing.answer(True, "")
        assert await a.write(0, BLOCK) == 0
        b.reachable = True
        await until(lambda: agreed(a, b))
        a.fencing.answer(True, "")  # too late: nobody asks
        requests = Requests(a)
        await lose(a, b)
        requests.write("write", 0)
        await trio.sleep(100)
        assert requests.answers == {}
        assert asked == [True, False, True]
        a.fencing.answer(True, "")


async def test_an_answer_does_not_count_if_the_link_came_and_went_before_anybody_looked(
    autojump_clock: MockClock,
) -> None:
    asked: list[bool] = []
    one = fencing.Fencing(asked.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.hold()
        await until(lambda: asked == [True])
        one.release()
        one.hold()
        one.answer(True, "")
        await trio.sleep(fencing.GRACE + 1)
        assert (one.held, asked) == (True, [True, False, True])
        one.answer(True, "")
        assert not one.held
        nursery.cancel_scope.cancel()


async def test_a_link_that_comes_while_a_start_waits_ends_the_question(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        await a.stop()
        b.reachable = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.become_primary)
            await until(lambda: asked == [True])
            b.reachable = True
        assert linked(a)
        assert asked == [True, False]


@pytest.mark.parametrize("answer", [True, False])
async def test_a_primary_that_starts_alone_asks_first(autojump_clock: MockClock, answer: bool) -> None:
    async with fenced_pair() as (a, b, _):
        await a.stop()
        b.reachable = False
        counted = a.disk.metadata.localcnt

        def ask(wanted: bool) -> None:
            if wanted:
                trio.lowlevel.spawn_system_task(reply)

        async def reply() -> None:
            a.fencing.answer(answer, "The fence program says no.")

        a.asks_fence = ask
        if answer:
            await a.become_primary()
            assert await a.write(0, BLOCK) == 0
            assert a.disk.metadata.localcnt == counted + 1
        else:
            with pytest.raises(BusyError, match="says no"):
                await a.become_primary()


async def test_by_force_a_primary_starts_without_asking(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        await a.stop()
        b.reachable = False
        await a.become_primary(force=True)
        assert await a.write(0, BLOCK) == 0
        assert asked == []


async def test_the_role_can_be_left_while_requests_are_held(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, _):
        requests = Requests(a)
        for channel in a.connections:
            channel.stalled = True
        requests.write("under way", 4 * EXTENT)
        await trio.sleep(1)
        await lose(a, b)
        requests.all()
        for number in range(300):
            requests.write(f"over {number}", 0)
        await trio.sleep(10)
        before = a.disk.metadata
        await a.stop()
        assert set(requests.answers.values()) == {5}, "errors for all"
        assert len(requests.answers) == 306
        assert a.disk.metadata.generations == before.generations


@MODES
@pytest.mark.parametrize("slow", ["network", "flush", "write"])
async def test_a_link_that_is_lost_while_the_role_is_left_fences_nobody_and_is_not_waited_for(
    autojump_clock: MockClock, mode: Replication, slow: str
) -> None:
    async with fenced_pair(mode) as (a, b, asked):
        requests = Requests(a)
        before = a.disk.metadata
        if slow == "network":
            for channel in a.connections:
                channel.stalled = True
        else:  # what the role waits for takes longer than a fence program is put off
            a.disk.latency[slow] = 2 * fencing.GRACE
        for number in range(3):  # the others wait for the first one's range
            requests.write(f"write {number}", 0, bytes([number]) * EXTENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.stop)
            nursery.cancel_scope.deadline = trio.current_time() + 100
            await trio.sleep(0.1)
            assert a.primary is not None
            acknowledged = dict(requests.answers)
            b.reachable = False
            a.cut()
            began = trio.current_time()
        assert trio.current_time() - began <= (0.1 if slow == "network" else 3 * 2 * fencing.GRACE)
        assert asked == []
        assert a.disk.metadata.generations == before.generations
        assert requests.answers == dict.fromkeys([f"write {number}" for number in range(3)], 5) | acknowledged
        b.config = replace(b.config, fence=None)
        await b.become_primary()
        assert await b.write(EXTENT, BLOCK) == 0
        b.reachable = True
        a.become_secondary()
        await until(lambda: agreed(b, a))
        assert "split-brain" not in a.events + b.events
        assert a.disk.data == b.disk.data


async def test_a_held_primary_whose_other_node_went_on_rejoins_without_a_split_brain(
    autojump_clock: MockClock,
) -> None:
    async with fenced_pair() as (a, b, _):
        requests = Requests(a)
        for channel in a.connections:
            channel.stalled = True
        requests.write("under way", 0, b"a" * EXTENT)
        await trio.sleep(1)
        await lose(a, b)
        await trio.sleep(30)
        b.config = replace(b.config, fence=None)
        await b.become_primary()
        assert await b.write(0, BLOCK) == 0
        await b.write(EXTENT, BLOCK)
        await a.stop()
        assert requests.answers == {"under way": 5}
        a.become_secondary()
        b.reachable = True
        await until(lambda: agreed(b, a))
        assert "split-brain" not in a.events + b.events
        assert a.disk.data == b.disk.data
        assert b.disk.data[:EXTENT] == BLOCK


@pytest.mark.parametrize("change", [{"fence": None}, {"remote": None}])
async def test_without_a_program_or_another_node_in_the_configuration_everything_goes_on(
    autojump_clock: MockClock, change: dict[str, None]
) -> None:
    async with fenced_pair() as (a, b, _):
        requests = Requests(a)
        await lose(a, b)
        requests.all()
        await trio.sleep(30)
        assert requests.answers == {}
        assert a.primary is not None
        a.primary.apply(replace(a.config, **change))  # type: ignore[arg-type]
        await until(lambda: len(requests.answers) == 5)
        assert set(requests.answers.values()) == {0}


async def test_the_good_copy_is_not_fenced_off_by_one_that_needs_it(autojump_clock: MockClock) -> None:
    async with fenced_pair() as (a, b, asked):
        await a.stop()
        await b.become_primary(force=True)
        for extent in range(40):
            await b.write(extent * EXTENT, BLOCK)
        await b.stop()
        b.become_secondary()
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        await trio.sleep(2)
        assert a.primary is not None
        assert a.primary.stale
        await lose(a, b)
        asked.clear()
        with pytest.raises(OSError, match="read"):
            await a.read(39 * EXTENT, EXTENT)
        await trio.sleep(100)
        assert asked == []


@pytest.mark.parametrize("seed", range(40))
async def test_in_whatever_order_things_happen_nothing_is_acknowledged_without_leave_and_nothing_is_lost(
    autojump_clock: MockClock, seed: int
) -> None:
    chance = random.Random(seed)
    mode = chance.choice(list(Replication))
    async with fenced_pair(mode) as (a, b, _):
        requests = Requests(a)
        written = 0
        for _ in range(25):
            await trio.sleep(chance.choice((0.0, 0.001, 0.5, fencing.GRACE, 7.0)))
            match chance.randrange(6):
                case 0:
                    b.reachable = False
                    a.cut()
                case 1:
                    b.reachable = True
                case 2:
                    a.fencing.answer(chance.random() < 0.5, "no")
                case 3:
                    requests.flush(f"flush {written}")
                case _:
                    written += 1
                    requests.write(f"write {written}", written * EXTENT, bytes([written]) * EXTENT)
            if a.fencing.held:
                await trio.testing.wait_all_tasks_blocked()
                held = dict(requests.answers)
                recorded = a.disk.metadata.localcnt
                await trio.sleep(0.0001)
                if a.fencing.held:
                    assert requests.answers == held
                    assert a.disk.metadata.localcnt == recorded
        if chance.random() < 0.5:
            await a.stop()
            assert all(name in requests.answers for name in (f"write {n}" for n in range(1, written + 1)))
            b.reachable = True
            a.fencing.granted = False
            await a.become_primary()
        b.reachable = True
        await until(lambda: linked(a) and agreed(a, b))
        await until(lambda: len([name for name in requests.answers if name.startswith("write")]) == written)
        assert a.disk.data == b.disk.data
        for number in range(1, written + 1):
            if requests.answers[f"write {number}"] == 0:
                assert a.disk.data[number * EXTENT : (number + 1) * EXTENT] == bytes([number]) * EXTENT
