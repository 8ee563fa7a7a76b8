"""What operators do, also what they should not: roles, power switches, hastctl create, hast.conf."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from hastfs.address import Address
from hastfs.errors import HastError
from hastfs.model import Checksum, Compression, Replication, Role
from hastfs.ondisk.layout import METADATA_SIZE
from tests.simulation.checkers import Coverage
from tests.simulation.client import Client
from tests.simulation.disk import SimulatedDisk
from tests.simulation.model import Model, Violation
from tests.simulation.node import RESOURCE, Node

PLACES = [Address(name, 8457, None, name) for name in ("peer", "somewhere")]
"""Names of the other node: it is reached by either."""


class Operator:
    """Each act returns what it was, in words, or logs it by itself if it takes time."""

    def __init__(
        self,
        chance: random.Random,
        model: Model,
        coverage: Coverage,
        client: Client,
        nursery: trio.Nursery,
        *,
        metaflush: bool,
    ) -> None:
        self._chance = chance
        self._model = model
        self._coverage = coverage
        self._client = client
        self._nursery = nursery
        self._metaflush = metaflush
        self.nodes = model.nodes
        self.at_peace = False
        """Whether traps do not kill anybody any more."""
        self.forced = False
        """Whether half of a copy was made primary by force."""
        for node in self.nodes:
            node.engine_ended = partial(client.drop, node)

    @property
    def primaries(self) -> list[Node]:
        """Those that serve."""
        return [node for node in self.nodes if node.primary is not None]

    # -- the end of a node -----------------------------------------------------------------------------------------

    def kill(self, *nodes: Node, power: bool) -> None:
        """At this instant: the power of all of them goes, or only their workers are killed."""
        before = {node.name: node.disk.metadata for node in nodes}
        for node in nodes:
            self._client.drop(node)
            if power and self._metaflush:
                node.lose_power(self._chance)
                node.disk.faults.clear()
                node.disk.latency.clear()
            else:
                node.die(self._chance)
        for node in nodes:
            if power and self._metaflush:
                self._model.lost_power(node)
                if node.disk.metadata != before[node.name]:
                    self._model.state_survived(node, before[node.name])  # it was just being written

    async def bury(self, *nodes: Node) -> None:
        """Returns when nothing of them runs any more; they could start again."""
        for node in nodes:
            await node.is_dead()

    async def crash(self, *nodes: Node, power: bool) -> None:
        """Both."""
        self.kill(*nodes, power=power)
        await self.bury(*nodes)

    def set_trap(self, node: Node) -> str:
        """The power goes, here or there or both, or the worker is killed, in the middle of writing metadata or map.

        Often in the middle of an agreement: when the primary, linked, writes its metadata.
        """
        left = self._chance.choice((1, 1, 2, 2, 3, 4, 6))
        victims = self._chance.choice(((node,), (node,), (node.other,), self.nodes))
        power = self._chance.random() < 0.7
        agreement = self._chance.random() < 0.4
        disk = node.disk

        def trap(position: int) -> float:
            nonlocal left
            if agreement and (position >= METADATA_SIZE or node.engine is None or node.engine.link is None):
                return 0.0
            left -= 1
            if left:
                return 0.0
            disk.trap = None
            self._nursery.start_soon(self._spring, victims, power)
            return 0.001

        disk.trap = trap
        what = "metadata while linked" if agreement else "metadata or map"
        names = " and ".join(victim.name for victim in victims)
        return f"{'power off' if power else 'kill'} {names} at update {left} of {node.name}'s {what}"

    async def _spring(self, victims: tuple[Node, ...], power: bool) -> None:
        if not self.at_peace:
            self.kill(*victims, power=power)
        await trio.lowlevel.checkpoint()

    async def take_over(self, node: Node, between: Callable[[], Awaitable[bool]] | None = None) -> bool:
        """The primary's worker is killed, another one takes its place on the same image. Returns whether it could.

        `between` comes between the two, and says whether the other one may.
        """
        left = self._client.forget(node)
        self._model.replaced[node.name] = node.engine
        node.die(self._chance)
        await node.is_dead()
        # What was not answered is still being asked: its values may be anywhere as before.
        taken = (between is None or await between()) and await self.promote(node, taking_over=True)
        del self._model.replaced[node.name]
        if taken:
            self._model.lost_cache[node.name].taken_over()
            self._client.ask_again(left)
        else:
            for request, _ in left:
                if request in self._model.writes:
                    self._model.lost(request)
        return taken

    async def attach(self, node: Node) -> bool:
        """hastctl attach: a worker with the component takes over, or one without it. Returns whether there is one."""
        deaths = node.deaths + 1
        return await self.take_over(node, lambda: self._mend(node, deaths))

    async def _mend(self, node: Node, deaths: int) -> bool:
        if await node.mend_component():
            self._model.attached(node)
        return node.deaths == deaths

    # -- roles -----------------------------------------------------------------------------------------------------

    async def promote(self, node: Node, *, force: bool = False, taking_over: bool = False) -> bool:
        """hastctl role primary; whether it could be."""
        await node.is_dead()
        node.power_up()
        if force and (self._model.half[node.name] or not node.disk.consistent):
            self.forced = True
            self._model.forced(node)
        if not taking_over:
            self._model.applications_begin(node)
        program = self._model.programs.get(node.name)
        if program is not None and not taking_over:
            program.begin(force=force)
        try:
            await node.become_primary(force=force, taking_over=taking_over)
        except HastError:
            return False
        if node.primary is None:
            return False
        if program is not None:
            program.promoted()
        self._model.promoted(node)
        return True

    async def stop(self, node: Node) -> None:
        """hastctl role init, under load: it ends what it has begun, but for what is held."""
        with trio.move_on_after(300) as patience:
            try:
                self._model.leaves(node)
                await node.stop()
            except HastError:
                await node.crash()  # its disk fails; hastd takes the role away all the same
        self._model.leaving = ""
        if patience.cancelled_caught:
            raise Violation(f"{node.name} does not stop")

    # -- components and configuration ------------------------------------------------------------------------------

    async def recreate(self, node: Node) -> None:
        """hastctl create: what it had is gone."""
        await self.crash(node, power=False)
        self.replace_disk(node)
        for one in self.nodes:
            one.events.clear()

    def replace_disk(self, node: Node) -> None:
        """Nobody uses it. There is a new one in its place, and hastctl create was done."""
        layout, keepdirty = node.disk.layout, node.disk.metadata.keepdirty
        node.disk = SimulatedDisk(RESOURCE, layout.mediasize, layout.extentsize, keepdirty)
        self._model.made_anew(node)
        self._coverage.watch(node)

    def reload(self) -> str:
        """hast.conf is another one: on both nodes, or on one."""
        nodes = self._chance.choice((self.nodes, self.nodes[:1], self.nodes[1:]))
        kind = self._chance.choice(("replication", "remote", "timeout", "wire"))
        for node in nodes:
            if kind == "replication":
                self.configure(node, replication=self._chance.choice(list(Replication)))
            elif kind == "remote":
                self.configure(node, remote=self._chance.choice((None, *PLACES)))
            elif kind == "timeout":
                self.configure(node, timeout=self._chance.choice((5, 20, 60)))
            else:
                compression, checksum = self._chance.choice(list(Compression)), self._chance.choice(list(Checksum))
                self.configure(node, compression=compression, checksum=checksum)
        return f"reload: another {kind} on {' and '.join(node.name for node in nodes)}"

    def configure(self, node: Node, **changes: object) -> None:
        """What a reload does: whoever is at work hears of it, and the next one begins with it."""
        before = node.config
        node.config = replace(before, **changes)  # type: ignore[arg-type]
        if node.config.remote is None and node.name in self._model.programs:
            self._model.programs[node.name].allowed = True  # nobody is there
        for write in self._model.writes:
            if write.node is node:
                write.modes.add(node.config.replication)
        if node.primary is not None:
            node.primary.apply(node.config)
        elif node.secondary is not None and before.remote == node.config.remote:
            node.secondary.apply(node.config)

    def give_back_addresses(self) -> None:
        """No node is without a `remote`."""
        for node in self.nodes:
            if node.config.remote is None:
                self.configure(node, remote=PLACES[0])

    def follow(self, node: Node) -> None:
        """hastctl role secondary, if it has no role."""
        if node.role is Role.INIT:
            node.power_up()
            node.become_secondary()
