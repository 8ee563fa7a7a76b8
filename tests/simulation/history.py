"""One life of a pair, drawn from a seed: an application, mishaps and operators, and checkers that look at all of it.

`live(seed)` is the life, `run` gives it a clock and an order of tasks from the seed too: the same seed is the same life
in any process. tests/simulation/run.py lives many, and shows one in words.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio
import trio.testing

from hastfs.model import Replication, Role
from hastfs.ondisk import ahead
from hastfs.resource import alone, primary
from hastfs.resource.events import Event
from tests.simulation.checkers import Coverage, are_strangers, check_equal, have_agreed, is_detached, no_whole_copy
from tests.simulation.client import Client
from tests.simulation.fence import Program
from tests.simulation.mishaps import Mishaps
from tests.simulation.model import CELL, CELLS, EXTENT, SIZE, Model, Violation
from tests.simulation.node import Node, pair
from tests.simulation.operators import Operator

STEPS = 30

LONGEST = 24 * 3600.0
"""Simulated seconds of a life; an engine with a mistake in it may wait for ever."""

Log = Callable[[str], None]


class History:
    """One life of the pair a, b."""

    def __init__(self, chance: random.Random, a: Node, b: Node, nursery: trio.Nursery, log: Log) -> None:
        self.chance = chance
        self.nodes = (a, b)
        self.log = log
        self.violations: list[Violation] = []
        self.model = Model(self.nodes)
        self.scope = nursery.cancel_scope
        self.model.give_up = self.scope.cancel
        self.coverage = Coverage(self.model, self.violated)
        self.coverage.durable = a.config.metaflush
        self.client = Client(chance, self.model, self.violated)
        self.mishaps = Mishaps(chance, self.nodes)
        self.operator = Operator(chance, self.model, self.coverage, self.client, nursery, metaflush=a.config.metaflush)
        self.split = False
        self.habits: list[int] = []
        for node in self.nodes:
            node.survives_failure = True
            node.notify = partial(self.notified, node)  # type: ignore[method-assign]

    def violated(self, violation: Violation) -> None:
        """The life is over."""
        if not self.scope.cancel_called:
            self.log(f"VIOLATION {violation}")
            self.violations.append(violation)
            self.scope.cancel()

    def notified(self, node: Node, event: Event) -> None:
        """What the hooks would be told, and when the claims are made that the checkers check."""
        self.log(f"{node.name}: {event.value}")
        node.events.append(event.value)
        try:
            if event is Event.CONNECT and node.role is Role.PRIMARY:
                self.model.linked(node)
            elif event is Event.DISCONNECT and node.role is Role.PRIMARY:
                self.model.unlinked(node)
            elif event is Event.SYNCDONE:
                self._sync_done(node)
            elif event is Event.SPLIT_BRAIN:
                self._split_brain()
            elif event is Event.DETACH:
                self.model.detached(node)
        except Violation as violation:
            self.violated(violation)

    def _sync_done(self, node: Node) -> None:
        if self.model.unmet:
            return  # it was done, to a component that was made anew while word of it was on the way
        target = node if self.model.target[node.name] is not None else node.other
        self.model.caught_up(target)
        self.model.agreed()

    def _split_brain(self) -> None:
        """Only of nodes of which each wrote something that the other one has not.

        Or if the applications of a primary without a component would find other data than they left.
        """
        versioned = min(node.version for node in self.nodes) >= 3
        without = any(node.engine is not None and node.engine.detached for node in self.nodes)
        if versioned and not without and not all(self.model.wrote.values()):
            raise Violation(f"a split brain of one history: {self.report()}")

    # -- one thing after the other ---------------------------------------------------------------------------------

    async def live(self) -> None:
        """All of it."""
        if self.chance.random() < 0.8:
            self.operator.follow(self.nodes[1])  # otherwise sooner or later
        await self._promote(self.nodes[0])
        for _ in range(STEPS):
            if self.split:
                return
            await self.step()
        if not self.split:
            await self.quiet()

    async def step(self) -> None:
        """Something is asked, or happens."""
        self._look()
        primaries = self.operator.primaries
        detached = [node for node in primaries if is_detached(node)]
        if not primaries:
            await self._begin_anew()
        elif detached and self.chance.random() < 0.2:
            await self.chance.choice((self._attach, self._change_primary))(self.chance.choice(detached))
        elif self.chance.random() < 0.7:
            node = self.chance.choice(primaries)
            self.log(f"{node.name}: {self.client.ask(node)}")
        else:
            await self._mishap(self.chance.choice(primaries))
        for node in self.nodes:
            if node.role is Role.INIT and self.chance.random() < 0.3:
                self.operator.follow(node)
        await trio.sleep(self.chance.choice((0, 0, 0, 0.001, 0.1, 1, 15)))
        self._look()

    def _look(self) -> None:
        for node in self.operator.primaries:
            if have_agreed(node):
                self.model.agreed()

    async def _begin_anew(self) -> None:
        if self.chance.random() < 0.7:
            self._heal()
        node = self.chance.choice(self.nodes)
        if self.chance.random() < 0.5:
            self.operator.follow(node.other)
        await self.operator.crash(node, power=False)
        await self._promote(node, force=self.chance.random() < 0.1)

    async def _promote(self, node: Node, *, force: bool = False) -> bool:
        self.log(f"{node.name}: role primary{' by force' if force else ''}")
        done = await self.operator.promote(node, force=force)
        self.log(f"{node.name}: {'is primary' if done else 'refuses'}")
        if done and node.primary is not None:  # whoever mounts it begins to read
            self.log(f"{node.name}: {self.client.read(node)}, {self.client.read(node)}")
        return done

    def _heal(self) -> None:
        self.log(self.mishaps.heal())
        self.operator.give_back_addresses()

    async def _mishap(self, node: Node) -> None:
        """Something happens to the link, to a node or to its disk; now and then, all is well for a while."""
        chance, other = self.chance, node.other
        mishaps, operator = self.mishaps, self.operator
        at_once: list[tuple[int, Callable[[], str]]] = [
            (8, mishaps.cut),
            (6, mishaps.stall),
            (6, mishaps.partition),
            (5, mishaps.half_close),
            (5, mishaps.slow_down),
            (5, mishaps.lie),
            (2, mishaps.odd_pieces),
            (7, mishaps.slow_disk),
            (7, mishaps.failing_disk),
            (5, lambda: mishaps.broken_disk(node)),
            (8, operator.reload),
            (10, lambda: operator.set_trap(chance.choice(self.nodes))),
        ]
        slowly: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (8, lambda: self._lose(other)),
            (4, lambda: self._lose(*self.nodes)),
            (10, lambda: self._change_primary(node)),
            (4, lambda: self._take_over(node)),
            (3, lambda: self._two_primaries(node)),
            (2, lambda: self._recreate(node)),
            (10, self.quiet),
        ]
        weights = [weight for weight, _ in at_once] + [weight for weight, _ in slowly]
        if not self.habits:
            # Each life has some kinds of mishap again and again, and some not at all: that gets deeper.
            self.habits = [chance.choice((0, 1, 1, 5)) for _ in weights[:-1]] + [1]
        number = chance.choices(range(len(weights)), [a * b for a, b in zip(weights, self.habits, strict=True)])[0]
        if number < len(at_once):
            self.log(at_once[number][1]())
        else:
            await slowly[number - len(at_once)][1]()

    async def _lose(self, *nodes: Node) -> None:
        power = self.chance.random() < 0.6
        self.log(f"{'power off' if power else 'kill'} {' and '.join(node.name for node in nodes)}")
        await self.operator.crash(*nodes, power=power)
        for node in nodes:
            if self.chance.random() < 0.5:
                self.operator.follow(node)

    async def _change_primary(self, node: Node) -> None:
        """It crashes or is stopped, and one of the two is primary afterwards, if it may."""
        if self.chance.random() < 0.3:
            self.log(f"{node.name}: role init, in order")
            if self.chance.random() < 0.5:
                self._heal()
            await self.operator.stop(node)
        else:
            await self._lose(node)
        successor = self.chance.choice(self.nodes)
        if successor.other.primary is None:
            await self.operator.crash(successor, power=False)
            self.operator.follow(successor.other)
        if successor.primary is None:
            await self._promote(successor, force=self.chance.random() < 0.1)

    async def _take_over(self, node: Node) -> None:
        self.log(f"{node.name}: its worker is killed, another takes over")
        self.log(f"{node.name}: {'goes on' if await self.operator.take_over(node) else 'cannot'}")

    async def _two_primaries(self, node: Node) -> None:
        """An operator does not know, or does not care, that the other one is primary."""
        if node.other.primary is None:
            await self.operator.crash(node.other, power=False)
            await self._promote(node.other, force=True)

    async def _attach(self, node: Node) -> None:
        """The disk is repaired or replaced, or the operator only hopes so."""
        dice = self.chance.random()
        if dice < 0.6:
            node.disk.faults.clear()
            self.log(f"{node.name}: its disk is repaired")
        elif dice < 0.8:
            self.operator.replace_disk(node)
            self.log(f"{node.name}: it gets a new disk")
        self.log(f"{node.name}: attach")
        self.log(f"{node.name}: {'goes on' if await self.operator.attach(node) else 'cannot'}")

    async def _recreate(self, node: Node) -> None:
        """hastctl create, mostly on the right node."""
        wrong = self.chance.random() < 0.2
        if node.primary is None or (not wrong and (node.primary.stale or node.primary.detaching)):
            return
        one = node if wrong else node.other
        self.log(f"{one.name}: create{' (the wrong one)' if wrong else ''}")
        await self.operator.recreate(one)
        self.operator.follow(one)

    # -- peace -----------------------------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """All is well again and nothing is under way: the nodes become equal, or both know that they cannot."""
        self._be_at_peace(True)
        for node in self.nodes:
            node.disk.trap = None
        self._heal()
        await self._settle_roles()
        await self._come_to_terms()
        self._be_at_peace(False)

    def _be_at_peace(self, whether: bool) -> None:
        self.operator.at_peace = whether
        for program in self.model.programs.values():
            program.at_peace = whether

    async def _come_to_terms(self) -> None:
        primaries = self.operator.primaries
        if not primaries:
            if not (self.operator.forced or (no_whole_copy(self.nodes[0]) and self.nodes[0].version < 3)):
                raise Violation(f"neither node can be primary: {self.report()}")
            self.split = True
            return
        node = primaries[0]
        self.client.flush(node)  # old versions do not notice a dead link without traffic
        await trio.sleep(0.01)  # whoever has lost his link knows it
        both_alone = all(self.model.alone.values())
        for one in self.nodes:
            one.events.clear()
        await self._until(lambda: self._is_settled(node) or is_detached(node))
        if is_detached(node) and not (await self.operator.attach(node) and not is_detached(node)):
            raise Violation(f"{node.name} does not get its component back: {self.report()}")
        if not await self._until(lambda: self._is_settled(node)):
            if node.version >= 3 or not (no_whole_copy(node) or self.model.is_half_met()):
                raise Violation(f"the nodes do not agree: {self.report()}")
            self.split = True
            return
        self.split = not have_agreed(node)
        self.log("split brain" if self.split else "the nodes agree")
        if both_alone and not self.split:
            raise Violation("two histories were mixed")
        self.coverage.check(range(CELLS * CELL // EXTENT))
        if self.split:
            await self._resolve(node)
        else:
            await self._compare(node)

    async def _settle_roles(self) -> None:
        """One is primary, the other secondary."""
        operator = self.operator
        if len(operator.primaries) == 2:
            node = self.chance.choice(self.nodes)
            self.log(f"{node.name}: role secondary")
            await operator.stop(node)
        for node in self.chance.sample(self.nodes, 2):
            if not operator.primaries:
                await operator.crash(node, power=False)
                operator.follow(node.other)
                await self._promote(node)
        for node in self.nodes:
            operator.follow(node)

    def _is_settled(self, node: Node) -> bool:
        split = any("split-brain" in one.events for one in self.nodes)
        return node.primary is None or have_agreed(node) or split or are_strangers(node)

    async def _resolve(self, node: Node) -> None:
        """The operator makes the secondary's component anew, or leaves it at that."""
        if self.chance.random() < 0.5 and node.primary is not None and not node.primary.stale:
            self.log(f"{node.other.name}: create")
            await self.operator.recreate(node.other)
            self.operator.follow(node.other)
            self.split = False

    async def _compare(self, node: Node) -> None:
        if not await self._until(lambda: not self.client.waiting):
            raise Violation(f"requests are never answered: {list(self.client.waiting)}")
        self.model.agreed()
        check_equal(self.model, node)
        if await node.read(0, CELLS * CELL) != node.disk.data[: CELLS * CELL]:
            raise Violation("a read finds something else than the disk has")
        self.client.flush(node)  # may fail to tell of a cache that was lost before
        await self._until(lambda: not self.client.waiting)
        if await node.flush():
            raise Violation("a flush fails although all is well")
        for one in self.nodes:
            self.model.observe(one)

    async def _until(self, condition: Callable[[], bool]) -> bool:
        for _ in range(800):
            if condition():
                return True
            await trio.sleep(0.25)
        return False

    def report(self) -> str:
        """How things stand."""
        parts = []
        for node in self.nodes:
            engine = node.primary and (node.primary.link, node.primary.map.pending(), node.primary.active)
            found = (engine, node.disk.metadata, node.events[-5:], node.errors[-2:])
            parts.append(f"{node.name} {node.role.word} {found}")
        return f"{'; '.join(parts)}; wrote {self.model.wrote} alone {self.model.alone}"


async def live(seed: int, log: Log = lambda _: None, fenced: bool | None = None) -> None:
    """The life of that seed; `fenced`: with a fence program (None: some are).

    Raises Violation (perhaps in a group) if a promise is broken.
    """
    chance = random.Random(seed)
    violations: list[Violation] = []
    with trio.move_on_after(LONGEST) as limit:
        sizes = {"size": SIZE, "extentsize": EXTENT, "keepdirty": chance.choice((0, 1, 3))}
        async with (
            pair(replication=chance.choice(list(Replication)), **sizes) as (a, b),
            trio.open_nursery() as nursery,
        ):
            metaflush = chance.random() < 0.9
            for node in (a, b):
                node.config = replace(node.config, metaflush=metaflush)
            programs: dict[str, Program] = {}
            if seed % 25 == 8 if fenced is None else fenced:
                for node in (a, b):
                    node.config = replace(node.config, fence="/fence")
                    programs[node.name] = Program(node, random.Random(f"{seed} {node.name}"), nursery)
            if chance.random() < 0.25:
                a.version = b.version = chance.choice((0, 1, 2))
            history = History(chance, a, b, nursery, lambda text: log(f"{trio.current_time():10.3f} {text}"))
            violations = history.violations
            history.model.programs = programs
            await history.live()
            nursery.cancel_scope.cancel()  # from now on, engines may say what they like
    if violations:
        raise violations[0]
    if limit.cancelled_caught:
        raise Violation("it hangs")


async def _here(function: Callable[..., object], *arguments: object) -> object:
    """In place of `trio.to_thread.run_sync`: when a thread is done, no seed says."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


class _Secrets:
    """In place of the module `secrets`."""

    def __init__(self, seed: int) -> None:
        self.randbits = random.Random(seed).getrandbits


def run(seed: int, log: Log = lambda _: None, *, fenced: bool | None = None) -> None:
    """Lives that life on a simulated clock, with trio's order of tasks and all identities from the seed."""
    # What pytest-trio does for tests with hypothesis; there is no public way.
    setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010
    trio._core._run._r.seed(seed)
    secrets = alone.random_id.__globals__["secrets"]
    alone.random_id.__globals__["secrets"] = _Secrets(seed)
    in_thread, trio.to_thread.run_sync = trio.to_thread.run_sync, _here  # type: ignore[assignment]
    batch, primary.CLEAN_BATCH = primary.CLEAN_BATCH, 0  # there are but 12 extents
    interval, primary.CLEAN_INTERVAL = primary.CLEAN_INTERVAL, 0.5
    share, smallest = ahead.GROUP_SHARE, ahead.SMALLEST
    if seed % 2:
        ahead.GROUP_SHARE, ahead.SMALLEST = 3, 0  # 4 of them are marked at a time
    try:
        trio.run(live, seed, log, fenced, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        alone.random_id.__globals__["secrets"] = secrets
        trio.to_thread.run_sync = in_thread
        primary.CLEAN_BATCH, primary.CLEAN_INTERVAL = batch, interval
        ahead.GROUP_SHARE, ahead.SMALLEST = share, smallest
