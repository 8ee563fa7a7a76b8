"""Detaching, attaching, lost links and crashed workers in all orders: nothing acknowledged is lost, both end equal."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from hastfs.errors import ComponentError, HastError
from hastfs.model import Consistency, Replication
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.ondisk.metadata import encode
from hastfs.resource.waiting import plain_errors
from tests.simulation.node import BLOCK, EXTENT, Node, agreed, connected, linked, pair, primary_out_of_date

ONCE_FAILED = (504, 816, 850, 1156, 1257)
"""Seeds of lives that did not end well."""

EXTENTS = 12
OTHER = bytes(reversed(BLOCK))


async def until(condition: Callable[[], bool], timeout: float = 300) -> None:
    """As tests.simulation.node.until, but in larger steps: most of what is waited for here takes seconds."""
    with trio.fail_after(timeout):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.25)


def is_detached(node: Node) -> bool:
    return node.primary is not None and node.primary.detached


class Application:
    """Writes to extents of node a's disk, one at a time to each, and knows what each may hold."""

    def __init__(self, node: Node, chance: random.Random) -> None:
        self.node = node
        self.chance = chance
        self.possible = [{0} for _ in range(EXTENTS)]
        self.busy: set[int] = set()
        self.value = 0

    def write(self) -> None:
        primary = self.node.primary
        free = [extent for extent in range(EXTENTS) if extent not in self.busy]
        if primary is None or not free:
            return
        extent = self.chance.choice(free)
        self.busy.add(extent)
        discard = self.chance.random() < 0.3
        self.value = self.value % 250 + 1
        value = 0 if discard else self.value
        self.possible[extent].add(value)

        def done(error: int) -> None:
            if self.node.primary is primary:  # otherwise a killed worker's last breath
                self.busy.discard(extent)
                if not error:
                    self.possible[extent] = {value}

        if discard:
            primary.discard(extent * EXTENT, EXTENT, done)
        else:
            primary.write(extent * EXTENT, bytes([value]) * EXTENT, done)
        primary.submit()

    def flush(self) -> None:
        if self.node.primary is not None:
            self.node.primary.flush(lambda error: None)
            self.node.primary.submit()

    def read(self) -> None:
        primary = self.node.primary
        if primary is None:
            return
        extent = self.chance.randrange(EXTENTS)
        before = set(self.possible[extent])

        def done(error: int, data: object) -> None:
            if not error and self.node.primary is primary:
                content = bytes(data)  # type: ignore[call-overload]
                assert content[0] in before | self.possible[extent], (extent, content[0], before)

        primary.read(extent * EXTENT, EXTENT, done)
        primary.submit()

    async def check(self) -> None:
        for extent, values in enumerate(self.possible):
            content = await self.node.read(extent * EXTENT, EXTENT)
            assert content[0] in values, (extent, content[0], values)
            self.possible[extent] = {content[0]}


EVENTS = ("write",) * 3 + ("read", "flush", "fail", "heal", "slow", "cut", "away", "back", "crash", "attach")
KINDS = ("write", "zero", "flush", "durable", "read")


async def life(seed: int) -> None:
    """25 events, then all is repaired. A failed flush that nobody can help with ends it early, as it has to."""
    chance = random.Random(seed)
    try:
        with plain_errors():
            async with pair(replication=chance.choice(list(Replication)), size=80 * 1024) as (a, b):
                await connected(a, b)
                application = Application(a, chance)
                for _ in range(25):
                    await happens(chance.choice(EVENTS), a, b, application)
                    await trio.sleep(chance.choice((0, 0, 0.1, 0.4, 1, 3)))
                    if a.primary is None:
                        break
                await ends_well(a, b, application)
    except ComponentError as error:
        assert "Unable to flush" in str(error)


async def happens(event: str, a: Node, b: Node, application: Application) -> None:
    chance = application.chance
    match event:
        case "write":
            application.write()
        case "read":
            application.read()
        case "flush":
            application.flush()
        case "fail":
            a.disk.failing[chance.choice(KINDS)] = errno.EIO
        case "heal":
            heal(a, b)
        case "slow":
            chance.choice((a.disk, b.disk)).latency[chance.choice(KINDS)] = chance.choice((0.1, 1, 3))
        case "cut":
            a.cut()
        case "away":
            b.reachable = False
            a.cut()
        case "back":
            b.reachable = True
        case "crash" if chance.random() < 0.5:
            await restart(a, application)
        case "attach" if is_detached(a):
            await attach(a, application)


def heal(a: Node, b: Node) -> None:
    a.disk.failing.clear()
    for node in (a, b):
        node.disk.latency.clear()


async def ends_well(a: Node, b: Node, application: Application) -> None:
    heal(a, b)
    b.reachable = True
    await trio.sleep(1)  # until cuts are noticed
    if a.primary is None:
        await restart(a, application)
    await until(lambda: linked(a), 100)
    await application.check()
    await until(lambda: a.primary is not None and not a.primary.active)
    await until(lambda: agreed(a, b) or is_detached(a), 200)
    if is_detached(a):
        await attach(a, application)
        await until(lambda: agreed(a, b), 200)
    await application.check()
    assert a.disk.data == b.disk.data
    assert "split-brain" not in a.events


async def attach(node: Node, application: Application) -> None:
    """As a worker does that attaches: the component says itself first that it needs a resync."""
    node.disk.failing.clear()
    application.busy.clear()
    await node.crash()
    node.detached = None
    metadata = node.disk.metadata
    block = encode(replace(metadata, consistency=Consistency.INCONSISTENT, serial=metadata.serial + 1))
    for position in (SECOND_COPY, 0):
        node.disk.put(position, block)
    await node.become_primary(taking_over=True)


async def restart(node: Node, application: Application) -> None:
    failing = dict(node.disk.failing)
    application.busy.clear()
    await node.crash()
    try:
        await node.become_primary(taking_over=True)
    except HastError:
        node.disk.failing.clear()
        await node.crash()
        await node.become_primary(taking_over=True)
    node.disk.failing.update(failing)


@pytest.mark.parametrize("seed", [*range(10), *ONCE_FAILED])
async def test_nothing_is_lost_in_a_random_life(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    await life(seed)


# -- one by one -------------------------------------------------------------------------------------------------------


def write(node: Node, extent: int, answers: list[int]) -> None:
    assert node.primary is not None
    node.primary.write(extent * EXTENT, OTHER, answers.append)
    node.primary.submit()


async def joined_again(a: Node, b: Node) -> None:
    """The disk is repaired, all is quiet: both nodes are the same."""
    a.disk.failing.clear()
    for node in (a, b):
        node.disk.latency.clear()
        node.reachable = True
    await trio.sleep(1)
    await until(lambda: linked(a))
    if is_detached(a):
        await attach(a, Application(a, random.Random(0)))
    await until(lambda: agreed(a, b))
    assert a.disk.data == b.disk.data
    assert "split-brain" not in a.events + b.events


@pytest.mark.parametrize("step", [1 + x / 5 for x in range(12)])
async def test_what_is_being_written_alone_is_not_left_behind_by_a_detachment(
    autojump_clock: trio.testing.MockClock, step: float
) -> None:
    """It began without a link, and ends while the other node is told that it is the only copy."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.latency["zero"] = step
        assert a.primary is not None
        discarded: list[int] = []
        a.primary.discard(0, EXTENT, discarded.append)
        a.primary.submit()
        b.reachable = True
        await until(lambda: linked(a))
        b.disk.latency["durable"] = 1
        a.disk.failing["write"] = errno.EIO
        written: list[int] = []
        write(a, 5, written)
        await until(lambda: bool(discarded and written))
        assert discarded == [0]
        assert await a.read(0, EXTENT) == bytes(EXTENT)
        a.cut()
        await trio.sleep(0.1)
        await until(lambda: linked(a), 30)
        assert await a.read(0, EXTENT) == bytes(EXTENT)
        await joined_again(a, b)


@pytest.mark.parametrize("fails", [0, 1.5, 3, 5])
@pytest.mark.parametrize("cut", [0.5, 2, 4, 6])
async def test_a_component_fails_while_the_nodes_agree(
    autojump_clock: trio.testing.MockClock, fails: float, cut: float
) -> None:
    """This node was brought up to date, is writing that down, fails, and the link breaks: nothing is written alone."""
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 3)
        a.disk.latency["durable"] = 4
        b.disk.latency["durable"] = 1
        await a.become_primary()
        await until(lambda: a.primary is not None and a.primary.map.in_sync)
        await trio.sleep(fails)
        a.disk.failing["write"] = errno.EIO
        answers: list[list[int]] = [[], []]
        write(a, 0, answers[0])
        await trio.sleep(cut)
        b.reachable = False
        a.cut()
        a.disk.failing.clear()
        write(a, 1, answers[1])
        await trio.sleep(12)
        b.reachable = True
        await until(lambda: linked(a))
        await until(lambda: all(answers))
        for extent, (error,) in enumerate(answers):
            assert error or await a.read(extent * EXTENT, EXTENT) == OTHER
        await joined_again(a, b)


async def test_the_link_is_made_anew_while_the_component_is_being_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The other node keeps the map of what changes from then on, also over the new link."""
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 20)
        b.disk.latency["read"] = 1
        await a.become_primary()
        assert await a.write(25 * EXTENT, BLOCK) == 0
        a.disk.failing["write"] = errno.EIO
        a.disk.latency["durable"] = 6  # of its mark
        answers: list[int] = []
        write(a, 25, answers)
        await trio.sleep(1)
        a.cut()
        await until(lambda: is_detached(a) and linked(a))
        assert await a.write(30 * EXTENT, BLOCK) == 0
        await a.crash()
        await a.become_primary(taking_over=True)
        assert is_detached(a)
        await joined_again(a, b)
        assert a.disk.data[30 * EXTENT : 31 * EXTENT] == BLOCK


async def test_a_write_that_the_other_node_fails_is_not_acknowledged_by_a_component_that_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair(replication=Replication.ASYNC) as (a, b):
        await connected(a, b)
        a.disk.failing["zero"] = errno.EIO
        b.disk.latency["durable"] = 1
        assert a.primary is not None
        a.primary.discard(0, EXTENT, lambda error: None)
        a.primary.submit()
        await trio.sleep(0.5)
        b.disk.failing["write"] = errno.EIO
        answers: list[int] = []
        write(a, 5, answers)
        await until(lambda: is_detached(a) and bool(answers))
        assert answers == [errno.EIO]


async def test_the_nodes_do_not_agree_and_part_at_the_same_time(autojump_clock: trio.testing.MockClock) -> None:
    """This node writes down that they agree, and the link breaks: nobody ends up on a line that the other left out."""
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert await a.write(0, BLOCK) == 0
        b.reachable = True
        a.disk.latency["durable"] = 5
        await until(lambda: linked(a))
        await until(lambda: b.disk.metadata.generations.base == 0 and b.disk.metadata.generations.history[0] != 0)
        await trio.sleep(1)  # now it is this node's turn to write down that they agree
        a.disk.failing["zero"] = errno.EIO
        b.disk.latency["durable"] = 1
        assert a.primary is not None
        answers: list[int] = []
        a.primary.discard(0, EXTENT, answers.append)
        a.primary.submit()
        await trio.sleep(0.5)
        b.reachable = False
        a.cut()
        await until(lambda: bool(answers))
        assert not is_detached(a) and answers == [errno.EIO]
        assert await a.write(2 * EXTENT, BLOCK) == 0
        await joined_again(a, b)


async def test_a_read_waits_for_the_other_node_when_the_component_is_given_up_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        a.disk.failing.update(read=errno.EIO, write=errno.EIO)
        b.disk.latency["read"] = 5
        got: list[tuple[int, bytes]] = []
        assert a.primary is not None
        a.primary.read(0, EXTENT, lambda error, data: got.append((error, bytes(data))))
        a.primary.submit()
        await trio.sleep(1)
        assert await a.write(8 * EXTENT, BLOCK) == 0
        assert is_detached(a)
        a.cut()
        await until(lambda: bool(got))
        assert got == [(0, BLOCK)]


async def test_a_map_that_the_only_copy_cannot_write_does_not_make_it_deaf(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hastfs.resource.secondary.MAX_BACKLOG", 4 * EXTENT)
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(0, BLOCK) == 0
        b.disk.failing["durable"] = errno.EIO
        a.events.clear()
        for _ in range(10):
            assert await a.write(EXTENT, BLOCK) == errno.EIO
        b.disk.failing.clear()
        assert await a.write(EXTENT, BLOCK) == 0
        assert not a.events, "the same link"


async def test_being_alone_is_put_on_record_later_if_the_disk_refused_it_at_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Otherwise the nodes would never agree again, though all is copied."""
    async with pair() as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.failing["durable"] = errno.EIO
        assert await a.write(0, BLOCK) == errno.EIO
        await joined_again(a, b)
        await until(lambda: a.events[-1] == "syncdone")


class Unlucky(random.Random):
    def choice(self, seq: Any) -> Any:
        return seq[0]  # no sector survives


async def test_the_only_copy_loses_what_its_cache_had_and_the_next_flush_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        assert await a.write(EXTENT, OTHER) == 0
        await b.crash()
        b.disk.lose_power(Unlucky())
        b.become_secondary()
        await until(lambda: linked(a))
        assert await a.flush() != 0 or await a.read(EXTENT, EXTENT) == OTHER
