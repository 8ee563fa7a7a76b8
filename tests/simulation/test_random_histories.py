"""Random lives of a pair: writes, flushes, cuts, crashes, power losses, changes of role and configuration, components
made anew, before the first connection and after it, in any version of the protocol; drawn from one seed.

A model knows which bytes a read may return, and which node has acknowledged something that the other never got. The
rest is asked of the disks: they are equal when all is quiet, and whenever they differ, a map on disk says where.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hastfs.address import Address
from hastfs.errors import HastError
from hastfs.model import Checksum, Compression, Consistency, Replication, Role
from hastfs.resource.events import Event
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import RESOURCE, Node, pair

CELL = 256
"""Bytes; the model's grain, and half a sector: writes of half sectors are completed by the engine."""

EXTENT = 2048
CELLS = 96
SIZE = 4096 + 512 + CELLS * CELL + 100  # 12 extents and an odd end
STEPS = 30

PLACES = [Address(name, 8457, None, name) for name in ("peer", "somewhere")]
"""Names of the other node: it is reached by either."""


class Disk:
    """What the disk of one line of history may hold. Values are bytes that fill a cell."""

    def __init__(self, content: Sequence[int], stable: Sequence[int]) -> None:
        self.possible = [{content[cell * CELL]} for cell in range(CELLS)]
        # Possible at some time since the last flush:
        self.recent = [{content[cell * CELL], stable[cell * CELL]} for cell in range(CELLS)]
        self.outstanding: list[Change] = []
        self.apart = False  # whether some of it may be on a node that the primary does not reach
        self.touched: dict[int, int] = {}  # cell -> number of the last change that was begun
        self.number = 0

    def flushed(self, began: int, busy: set[int]) -> None:
        """A flush succeeded that was asked for before change `began`, when the cells `busy` were being written."""
        for cell in range(CELLS):
            if cell not in busy and self.touched.get(cell, -1) < began:
                self.recent[cell] = set(self.possible[cell])

    def lost_power(self) -> None:
        self.possible = [set(values) for values in self.recent]


class Change:
    """A write or discard that is under way."""

    def __init__(self, disk: Disk, first: int, count: int, value: int) -> None:
        self.disk = disk
        self.cells = range(first, first + count)
        self.value = value
        self.others: dict[int, set[int]] = {cell: set() for cell in self.cells}
        disk.number += 1
        for other in disk.outstanding:
            for cell in self.cells:
                if cell in other.cells:
                    self.others[cell].add(other.value)
                    other.others[cell].add(value)
        for cell in self.cells:
            disk.possible[cell].add(value)
            disk.recent[cell].add(value)
            disk.touched[cell] = disk.number
        disk.outstanding.append(self)

    def ended(self, error: int) -> None:
        if self not in self.disk.outstanding:
            return  # what a primary says that was killed since
        self.disk.outstanding.remove(self)
        if not error:
            for cell in self.cells:
                self.disk.possible[cell] = {self.value} | self.others[cell]


class History:
    """One life of the pair a, b."""

    def __init__(self, seed: int, a: Node, b: Node, nursery: trio.Nursery) -> None:
        self.chance = random.Random(seed)
        self.nodes = (a, b)
        self.nursery = nursery
        self.value = 0
        self.disk = self._disk_of(a)
        self.wrote = {a.name: False, b.name: False}  # anything at all since the nodes last agreed
        self.alone = {a.name: False, b.name: False}  # acknowledged, and surely not on the other node
        self.split = False
        self.unmet = False  # the secondary was made anew, and no map says yet that all is to be copied to it
        self.modes = {a.config.replication}  # in which what is under way may have been written
        for node in self.nodes:
            node.notify = partial(self.notified, node)  # type: ignore[method-assign]

    def notified(self, node: Node, event: Event) -> None:
        node.events.append(event.value)
        if event is Event.SYNCDONE:
            self.agree(node)

    def agree(self, primary: Node) -> None:
        """The nodes are the same, but for what is being written."""
        for name in self.wrote:
            self.wrote[name] = self.alone[name] = False
        self.wrote[primary.name] = bool(self.disk.outstanding)
        self.unmet = False

    @staticmethod
    def _disk_of(node: Node) -> Disk:
        return Disk(node.disk.data, node.disk.stable[node.disk.layout.localoff :])

    @property
    def primary(self) -> Node | None:
        return next((node for node in self.nodes if node.primary is not None), None)

    # -- an application --------------------------------------------------------------------------------------------

    def start_change(self, node: Node) -> None:
        primary = node.primary
        assert primary is not None
        first = self.chance.randrange(CELLS)
        count = self.chance.randint(1, min(20, CELLS - first))
        discard = self.chance.random() < 0.2
        self.value = 0 if discard else self.value % 250 + 1
        change = Change(self.disk, first, count, 0 if discard else self.value)
        self.wrote[node.name] = True

        def done(error: int) -> None:
            change.ended(error)
            if not error and node.primary is primary and primary.link is None:
                self.alone[node.name] = True

        if discard:
            primary.discard(first * CELL, count * CELL, done, allocated=self.chance.random() < 0.5)
        else:
            primary.write(first * CELL, bytes([self.value]) * (count * CELL), done)
        primary.submit()

    def start_flush(self, node: Node) -> None:
        primary, disk = node.primary, self.disk
        assert primary is not None
        began = disk.number + 1
        busy = {cell for change in disk.outstanding for cell in change.cells}

        link = primary.link

        def done(error: int) -> None:
            if not error and not (disk.apart and (link is None or link is not primary.link)):
                disk.flushed(began, busy)

        primary.flush(done)
        primary.submit()

    def start_read(self, node: Node) -> None:
        primary, disk = node.primary, self.disk
        assert primary is not None
        first = self.chance.randrange(CELLS)
        count = self.chance.randint(1, CELLS - first)
        allowed = [set(values) for values in disk.possible[first : first + count]]
        during: list[Change] = list(disk.outstanding)
        number = disk.number

        def done(error: int, data: object) -> None:
            if error or disk is not self.disk:
                return
            content = bytes(data)  # type: ignore[call-overload]
            for at, values in enumerate(allowed):
                cell = first + at
                if disk.touched.get(cell, 0) <= number:
                    found = content[at * CELL : (at + 1) * CELL]
                    assert found[0] in values | disk.possible[cell], (cell, found[0], values, during)
                    assert len(set(found)) == 1 or len(values) > 1

        primary.read(first * CELL, count * CELL, done)
        primary.submit()

    # -- what happens to the nodes ---------------------------------------------------------------------------------

    def heal(self) -> None:
        for node in self.nodes:
            if node.config.remote is None:
                self.configure(node, remote=PLACES[0])
            node.reachable = True
            node.disk.latency.clear()
            node.disk.failing.clear()
            for channel in node.connections:
                if channel.stalled:
                    self.nodes[0].cut()
                    break

    def cut(self) -> None:
        self.nodes[0].cut()
        if self.chance.random() < 0.5:
            self.nodes[self.chance.randrange(2)].reachable = False

    def stall(self) -> None:
        for node in self.nodes:
            for channel in node.connections:
                channel.stalled = True

    def trouble(self) -> None:
        """Slow disks on either node; a secondary's may fail, a primary's may fail to read."""
        node = self.nodes[self.chance.randrange(2)]
        kind = self.chance.choice(("read", "write", "zero", "flush", "durable"))
        if self.chance.random() < 0.7:
            node.disk.latency[kind] = self.chance.choice((0.01, 0.3, 2.0, 25.0))
        elif node.primary is None and kind != "durable":
            node.disk.failing[kind] = 5

    def reload(self) -> None:
        """hast.conf is another one: on both nodes, or on one."""
        for node in self.chance.choice((self.nodes, self.nodes[:1], self.nodes[1:])):
            kind = self.chance.choice(("replication", "remote", "timeout", "wire"))
            if kind == "replication":
                mode = self.chance.choice(list(Replication))
                self.modes.add(mode)
                self.configure(node, replication=mode)
            elif kind == "remote":
                self.configure(node, remote=self.chance.choice((None, *PLACES)))
            elif kind == "timeout":
                self.configure(node, timeout=self.chance.choice((5, 20, 60)))
            else:
                compression = self.chance.choice(list(Compression))
                self.configure(node, compression=compression, checksum=self.chance.choice(list(Checksum)))

    @staticmethod
    def configure(node: Node, **changes: object) -> None:
        """What a reload does: whoever is at work hears of it, and the next one begins with it."""
        before = node.config
        node.config = replace(before, **changes)  # type: ignore[arg-type]
        if node.primary is not None:
            node.primary.apply(node.config)
        elif node.secondary is not None and before.remote == node.config.remote:
            node.secondary.apply(node.config)

    async def recreate(self, node: Node) -> None:
        """hastctl create on the secondary: what it had is gone."""
        other = node.other
        await other.crash()
        layout, keepdirty = other.disk.layout, other.disk.metadata.keepdirty
        other.disk = SimulatedDisk(RESOURCE, layout.mediasize, layout.extentsize, keepdirty)
        other.role = Role.SECONDARY
        self.wrote[other.name] = self.alone[other.name] = False
        self.unmet = True
        for one in self.nodes:
            one.events.clear()

    async def crash(self, node: Node) -> bool:
        """Returns whether what only its cache had may be lost."""
        primary = node.other.primary
        equal = primary is not None and primary.link is not None and primary.map.in_sync and not primary.stale
        await node.crash()
        node.disk.failing.clear()
        node.disk.latency.clear()
        without_power = self.chance.random() < 0.5
        if without_power:
            node.disk.lose_power(self.chance)
            if not equal:
                self.disk.lost_power()  # it may be the one that has the good copy
        return without_power

    async def change_primary(self, node: Node) -> None:
        """Crash or stop, and one of the two is primary afterwards, if it may."""
        other = node.other
        primary = node.primary
        assert primary is not None
        stale = primary.stale
        complete = primary.link is not None and primary.map.in_sync and not stale
        complete = complete and other.disk.metadata.consistency is Consistency.CONSISTENT
        complete = complete and not other.disk.failing and self.replicates_before_ack(other) and not self.unmet
        if self.chance.random() < 0.3:
            self.heal()
            await node.stop()
            complete = False
        elif await self.crash(node):
            self.disk.lost_power()
        successor = self.chance.choice(self.nodes)
        if successor is other:
            await other.crash()
            if self.chance.random() < 0.2 and await self.crash(other):
                self.disk.lost_power()
            if not complete:
                self.either(other)
        elif stale:
            self.either(node)
        self.disk.outstanding.clear()
        successor.other.role = Role.SECONDARY
        await self.promote(successor)

    def either(self, node: Node) -> None:
        """What is right may be on this node, or still turn out to be on the one that was primary before."""
        disk, before = self._disk_of(node), self.disk
        disk.apart = True
        disk.possible = [new | old for new, old in zip(disk.possible, before.possible, strict=True)]
        disk.recent = [new | old for new, old in zip(disk.recent, before.recent, strict=True)]
        self.disk = disk

    def replicates_before_ack(self, secondary: Node) -> bool:
        safe = {Replication.FULLSYNC} if secondary.disk.latency else {Replication.FULLSYNC, Replication.MEMSYNC}
        return self.modes <= safe

    async def promote(self, node: Node) -> None:
        node.disk.failing.clear()
        try:
            primary = await node.become_primary()
        except HastError:
            return
        if primary.stale:
            self.either(node.other)

    async def step(self) -> None:
        node = self.primary
        if node is None:
            self.heal()
            node = self.chance.choice(self.nodes)
            node.other.role = Role.SECONDARY
            if node.other.disk.metadata.consistency is Consistency.CONSISTENT:
                self.either(node)
            await node.crash()
            await self.promote(node)
            return
        if self.chance.random() < 0.7:
            self.application(node)
        else:
            await self.mishap(node)
        await trio.sleep(self.chance.choice((0, 0, 0, 0.001, 0.1, 1, 15)))

    def application(self, node: Node) -> None:
        """Something is asked of the primary."""
        dice = self.chance.random()
        if dice < 0.7:
            for _ in range(self.chance.randint(1, 4)):
                self.start_change(node)
        elif dice < 0.85:
            self.start_flush(node)
        else:
            self.start_read(node)

    async def mishap(self, node: Node) -> None:
        """Something happens to the link or to a node; now and then, all is well for a while."""
        if node.primary is not None and node.primary.link is not None and node.primary.map.in_sync:
            for name in self.alone:
                self.alone[name] = False  # the other node may have been told already that it has everything
        dice = self.chance.random()
        if dice < 0.15:
            self.cut()
        elif dice < 0.25:
            self.stall()
        elif dice < 0.4:
            self.trouble()
        elif dice < 0.5:
            self.reload()
        elif dice < 0.52 and node.primary is not None and not node.primary.stale:
            await self.recreate(node)
        elif dice < 0.65:
            await self.crash(node.other)
            node.other.role = Role.SECONDARY
            await trio.sleep(0.01)  # both nodes at the same instant would be more than is promised
        elif dice < 0.85:
            await self.change_primary(node)
        else:
            await self.quiet()

    # -- what must be true -----------------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """All is well again and nothing is under way: the nodes become equal, or both know that they cannot."""
        self.heal()
        node = self.primary
        if node is None:
            return
        self.check_maps(node)
        node.other.role = Role.SECONDARY
        await trio.sleep(0.01)  # whoever has lost his link knows it
        both = all(self.alone.values())
        wrote = all(self.wrote.values())
        if not await self.wait(lambda: self.agreed(node) or self.split_brain(node) or self.strangers(node)):
            assert self.no_whole_copy(node), self.report(node)
            self.split = True
            return
        self.split = not self.agreed(node)
        assert not (both and not self.split), "two histories were mixed"
        assert not (self.split and not wrote) or self.strangers(node), (
            f"a split brain of one history {self.report(node)}"
        )
        self.check_maps(node)
        if self.split:
            if self.chance.random() < 0.5 and node.primary is not None and not node.primary.stale:
                await self.recreate(node)
                self.split = False
            return
        await self.wait(lambda: not self.disk.outstanding)
        assert not self.disk.outstanding
        different = [cell for cell in range(CELLS) if self.cell(node, cell) != self.cell(node.other, cell)]
        assert not different, f"cells {different} differ: {self.report(node)}"
        for cell, values in enumerate(self.disk.possible):
            content = self.cell(node, cell)
            assert content[0] in values, f"cell {cell} holds {content[0]}, not one of {values}"
            assert len(set(content)) == 1 or len(values) > 1
        assert await node.read(0, CELLS * CELL) == node.disk.data[: CELLS * CELL]
        await node.flush()
        self.disk = self._disk_of(node)
        self.modes = {node.config.replication}
        self.agree(node)

    @staticmethod
    def cell(node: Node, number: int) -> bytes:
        return node.disk.data[number * CELL : (number + 1) * CELL]

    async def wait(self, condition: Callable[[], bool]) -> bool:
        for _ in range(800):
            if condition():
                return True
            await trio.sleep(0.25)
        return False

    def agreed(self, node: Node) -> bool:
        primary = node.primary
        if primary is None or primary.link is None or primary.active:
            return False
        linked = primary.map.in_sync and not primary.stale
        ours, theirs = node.disk.metadata, node.other.disk.metadata
        if node.other.version < 3:
            same = (ours.localcnt, ours.remotecnt) == (theirs.remotecnt, theirs.localcnt)
        else:
            same = ours.generations == theirs.generations and ours.consistency is theirs.consistency
        return linked and same and not self.disk.outstanding

    @staticmethod
    def no_whole_copy(node: Node) -> bool:
        """A write failed on the good copy, in a resync over an old version: nobody there can say that all is well."""
        return node.other.version < 3 and not node.disk.consistent and not node.other.disk.consistent

    def split_brain(self, node: Node) -> bool:
        return "split-brain" in node.events

    @staticmethod
    def strangers(node: Node) -> bool:
        """The nodes began to write before they ever met, each on its own: two pairs with one node each."""
        ours, theirs = node.disk.metadata, node.other.disk.metadata
        return bool(ours.resuid and theirs.resuid and ours.resuid != theirs.resuid)

    def check_maps(self, node: Node) -> None:
        """Wherever the disks differ and nothing is being written, a map on disk says so (promise 3)."""
        if self.unmet:
            return
        maps = int.from_bytes(node.disk.map, "little") | int.from_bytes(node.other.disk.map, "little")
        for extent in range(0, CELLS * CELL // EXTENT):
            part = slice(extent * EXTENT, (extent + 1) * EXTENT)
            if node.disk.data[part] != node.other.disk.data[part]:
                assert maps >> extent & 1, f"extent {extent} differs and is clean"

    def report(self, node: Node) -> str:
        primary = node.primary
        return (
            f"primary {node.name}: {primary and (primary.link, primary.map.pending(), primary.stale, primary.active)} "
            f"outstanding {len(self.disk.outstanding)} a {self.nodes[0].disk.metadata} b {self.nodes[1].disk.metadata} "
            f"events {node.events[-5:]} errors {self.nodes[0].errors[-2:]} {self.nodes[1].errors[-2:]}"
        )


async def live(seed: int) -> None:
    chance = random.Random(-seed)
    replication = chance.choice(list(Replication))
    async with pair(replication=replication, size=SIZE, extentsize=EXTENT, keepdirty=chance.choice((0, 1, 3))) as nodes:
        a, b = nodes
        if chance.random() < 0.25:
            a.version = b.version = chance.choice((0, 1, 2))
        async with trio.open_nursery() as nursery:
            history = History(seed, a, b, nursery)
            if chance.random() < 0.8:
                b.become_secondary()  # otherwise sooner or later
            await a.become_primary()
            for _ in range(STEPS):
                if history.split:
                    break
                await history.step()
            if not history.split:
                await history.quiet()


def run(main: Callable[[], Awaitable[None]], seed: int) -> None:
    """On a simulated clock, and with trio's order of tasks from the seed too."""
    # What pytest-trio does for tests with hypothesis; there is no public way.
    setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010
    trio._core._run._r.seed(seed)
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_a_pair_survives_any_history(seed: int) -> None:
    async def main() -> None:
        await live(seed)

    run(main, seed)
