"""Two nodes in one process: the production engines over simulated disks and network."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from hastfs.address import Address
from hastfs.config.schema import ResourceConfig
from hastfs.errors import HastError
from hastfs.model import Checksum, Compression, Consistency, Replication, Role
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.ondisk.metadata import Metadata, encode
from hastfs.protocol.frame import FrameReader, for_version
from hastfs.protocol.handshake import Hello, Joining, Refusal, Welcome, acts_as, decode_opening, negotiate
from hastfs.resource import secondary
from hastfs.resource.component import Absent
from hastfs.resource.connecting import Dial, receive_frame, send_frame
from hastfs.resource.connector import Connector
from hastfs.resource.events import Event
from hastfs.resource.fencing import Fencing
from hastfs.resource.primary import Primary
from hastfs.resource.remotecache import Risk
from hastfs.resource.secondary import Secondary
from hastfs.resource.waiting import data_of, finished, plain_errors
from tests.simulation.disk import SimulatedComponent, SimulatedDisk
from tests.simulation.network import SimulatedChannel, Way, connection

RESOURCE = "test"

BLOCK = bytes(range(256)) * 16
"""What tests write: 4096 bytes."""

EXTENT = 4096
"""Bytes; the extent size of `pair` unless told otherwise."""


def resource_config(replication: Replication = Replication.FULLSYNC, timeout: int = 20) -> ResourceConfig:
    """What hast.conf would say."""
    return ResourceConfig(
        name=RESOURCE,
        provider=RESOURCE,
        local="/simulated",
        remote=Address("peer", 8457, None, "peer"),
        source=None,
        replication=replication,
        checksum=Checksum.NONE,
        compression=Compression.HOLE,
        timeout=timeout,
        exec=None,
        metaflush=True,
        device=False,
    )


class Died(HastError):
    """The node was killed before it was what it was to become."""


class _Start:
    """Passes on that a primary has started, and remembers it."""

    def __init__(self, status: trio.TaskStatus[Primary]) -> None:
        self._status = status
        self.is_over = False

    def started(self, value: Any = None) -> None:
        self.is_over = True
        self._status.started(value)


class Node:
    """One node: a disk, a role, and the connections made to it. `other` and `out`, its way there, are set by `pair`."""

    out: Way | None = None

    def __init__(self, name: str, disk: SimulatedDisk, config: ResourceConfig, nursery: trio.Nursery) -> None:
        self.name = name
        self.disk = disk
        self.config = config
        self.role = Role.INIT
        self.reachable = True
        self.version = 3
        self.mtu = 1 << 30
        self.events: list[str] = []
        self.errors: list[Exception] = []
        self.engine: Primary | None = None
        """The primary from its first instant on, also while it asks the other node whether it may be."""
        self.primary: Primary | None = None
        self.secondary: Secondary | None = None
        self.detached: Metadata | None = None
        """What the supervisor knows of a component that the primary's worker had to part with."""
        self.risk = Risk()
        """What the supervisor knows of what only the other node's cache may have."""
        self.asks_fence: Callable[[bool], None] = lambda wanted: None
        """What the supervisor is told of the wish to have the other node fenced."""
        self.may_be_alone: Callable[[], bool] = lambda: False
        """Whether the supervisor knows that a worker which takes over may go on without the other node."""
        self.fencing = Fencing()
        self.connections: list[SimulatedChannel] = []
        self.deaths = 0
        self.survives_failure = False
        """Whether an engine that ends by itself with an error only ends its role, or the test too."""
        self.engine_ended: Callable[[], None] = lambda: None
        """Is called when a primary is none any more, for whatever reason."""
        self.other: Node
        self._nursery = nursery
        self._work: trio.CancelScope | None = None
        self._component: SimulatedComponent | None = None
        self._ended = trio.Event()
        self._tokens = 0
        self._half_open: dict[bytes, tuple[SimulatedChannel, int]] = {}

    def notify(self, event: Event) -> None:
        """What the hooks would be told."""
        self.events.append(event.value)

    # -- the primary's side ----------------------------------------------------------------------------------------

    async def become_primary(self, *, force: bool = False, taking_over: bool = False) -> Primary:
        """Raises what `hastctl role primary` would report; `taking_over`: it is the successor of a worker that died.

        Only such a one knows of a component that this node has parted with.
        """
        self.role = Role.PRIMARY
        if not taking_over:
            self.detached = None
            self.risk = Risk()
        try:
            primary: Primary = await self._nursery.start(self._run_primary, force, taking_over)
            if self.engine is not primary:
                raise Died
            self.primary = primary
        except HastError:
            if self.role is Role.PRIMARY:
                self.role = Role.INIT
            raise
        return primary

    async def _run_primary(
        self, force: bool, taking_over: bool, task_status: trio.TaskStatus[Primary] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._ended = trio.Event()
        start = _Start(task_status)
        try:
            with plain_errors():
                async with trio.open_nursery() as nursery:
                    self._work = nursery.cancel_scope
                    self._component = component = SimulatedComponent(self.disk, nursery)
                    risk = self.risk if taking_over else None
                    self.fencing = Fencing(self.asks_fence, granted=force or (taking_over and self.may_be_alone()))
                    rest: dict[str, Any] = {"risk": risk, "fencing": self.fencing}
                    if self.detached is not None:
                        absent = Absent(component.path, component.layout)
                        primary = Primary(self.config, absent, self.detached, b"", detached=True, **rest)
                    else:
                        primary = Primary(self.config, component, self.disk.metadata, self.disk.map, **rest)
                    self.engine = primary
                    connector = Connector(primary, self._make_dial, self.notify, force=force)
                    await primary.serve(
                        connector,
                        force=force,
                        taking_over=taking_over,
                        detached=self._detach,
                        at_risk=self._at_risk,
                        task_status=start,
                    )
                component.close()
        except HastError as error:
            if self._component is not None and not self._component.attached:
                pass  # that is how a crash looks from inside
            elif start.is_over and self.survives_failure:
                self.errors.append(error)
                self.role = Role.INIT
            else:
                raise
        finally:
            if self._component is not None:
                self._component.close()
            self._work = self.primary = self.engine = None
            self._ended.set()
            self.engine_ended()
        if not start.is_over:
            raise Died

    def _detach(self, metadata: Metadata) -> None:
        self.detached = metadata
        self.notify(Event.DETACH)

    def _at_risk(self, risk: Risk) -> None:
        self.risk = risk

    async def attach(self) -> Primary:
        """hastctl attach: a new worker takes over, with the component, unless that still fails."""
        await self.crash()
        await self.mend_component()
        return await self.become_primary(taking_over=True)

    async def mend_component(self) -> bool:
        """What `provision.attach_component` does before the component is used again: false if it still fails."""
        left, found = self.detached, self.disk.metadata
        assert left is not None
        marked = replace(
            found,
            consistency=Consistency.INCONSISTENT,
            resuid=found.resuid or left.resuid,
            serial=found.serial + 1,
        )
        pieces = [(position, encode(marked)) for position in (SECOND_COPY, 0)]
        async with trio.open_nursery() as nursery:
            self._component = component = SimulatedComponent(self.disk, nursery)
            error = await finished(lambda done: component.write_durable(pieces, done))
            component.close()
        if not error:
            self.detached = None
        return not error

    def _make_dial(self, config: ResourceConfig) -> Dial | None:
        return self._dial if config.remote is not None else None

    async def _dial(self) -> SimulatedChannel:
        await trio.lowlevel.checkpoint()
        if not (self.reachable and self.other.reachable):
            raise ConnectionRefusedError("connection refused")
        back = self.other.out if self.out is not None else None
        for way in (self.out, back):
            if way is not None:
                await trio.sleep(way.delay)
                await way.opened()
        ours, theirs = connection(self.mtu, self.out, back)
        ours.timeout = theirs.timeout = self.config.timeout
        self.connections.append(ours)
        self._nursery.start_soon(self.other.accept, theirs)
        return ours

    # -- the secondary's side --------------------------------------------------------------------------------------

    async def accept(self, channel: SimulatedChannel) -> None:
        """What hastd's listener does with a connection."""
        try:
            await self._open(channel)
        except (HastError, OSError):
            channel.close()

    async def _open(self, channel: SimulatedChannel) -> None:
        frame = await receive_frame(channel, FrameReader(4096, 0))
        opening = decode_opening(frame)
        if frame.version > self.version:
            channel.close()
        elif self.role is not Role.SECONDARY:
            await send_frame(channel, Refusal(acts_as(self.role), wait=self.role is Role.PRIMARY).encode())
            channel.close()
        elif isinstance(opening, Hello):
            version = min(self.version, negotiate(opening.version))
            self._tokens += 1
            token = self._tokens.to_bytes(16, "big")
            self._half_open[token] = (channel, version)
            await send_frame(channel, for_version(Welcome(version, token).encode(), version))
        elif opening.token in self._half_open:
            await self._run_secondary(*self._half_open.pop(opening.token), channel, opening)
        else:
            channel.close()

    async def _run_secondary(
        self, outgoing: SimulatedChannel, version: int, incoming: SimulatedChannel, joining: Joining
    ) -> None:
        while self._work is not None:  # another connection may have been faster
            self._work.cancel()
            await self._ended.wait()
            if self.role is not Role.SECONDARY:
                outgoing.close()
                incoming.close()
                return
        self._ended = trio.Event()
        try:
            with plain_errors():
                async with trio.open_nursery() as nursery:
                    self._work = nursery.cancel_scope
                    self._component = component = SimulatedComponent(self.disk, nursery)
                    self.secondary = Secondary(
                        self.config,
                        component,
                        self.disk.metadata,
                        self.disk.map,
                        outgoing=outgoing,
                        incoming=incoming,
                        version=version,
                        boot=self.disk.boots,
                    )
                    await secondary.serve(self.secondary, joining, self.notify)
                component.close()
        except HastError as error:
            self.errors.append(error)
        finally:
            self._work = self.secondary = None
            self._ended.set()
            outgoing.close()
            incoming.close()

    # -- both ------------------------------------------------------------------------------------------------------

    def become_secondary(self) -> None:
        """From now on, a primary is let in."""
        self.role = Role.SECONDARY

    async def stop(self) -> None:
        """Leaves its role in order, unless somebody kills it meanwhile."""
        if self.primary is not None:
            with plain_errors():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.primary.stop)
                    await self._ended.wait()
                    nursery.cancel_scope.cancel()
        await self.crash()

    async def crash(self) -> None:
        """kill -9: whatever was under way is not done."""
        self.die()
        await self.is_dead()

    def die(self, chance: random.Random | None = None) -> None:
        """kill -9, from this instant on: no more gets to the disk (by chance, a part of what was being written)."""
        self.role = Role.INIT
        self.deaths += 1
        if chance is not None:
            self.disk.lose_writer(chance)
        self.disk.pending.clear()
        if self._component is not None:
            self._component.close()
        self.primary = self.engine = self.secondary = None
        if self._work is not None:
            self._work.cancel()

    async def is_dead(self) -> None:
        """Returns when nothing runs there any more."""
        while self._work is not None:
            await self._ended.wait()

    def lose_power(self, chance: random.Random) -> None:
        """From this instant on; `is_dead` waits for the rest. The other node does not hear of it."""
        for channel in (*self.connections, *(end.peer for end in self.other.connections)):
            if channel is not None:
                channel.vanish()
        self._half_open.clear()
        self.disk.lose_power(chance)
        self.die()

    def power_up(self) -> None:
        """Who still talks to it hears that nobody is there."""
        for channel in (*self.connections, *(end.peer for end in self.other.connections)):
            if channel is not None:
                channel.vanished = False

    def cut(self) -> None:
        """All connections from and to this node break."""
        for channel in (*self.connections, *self.other.connections):
            channel.cut()
        self.connections.clear()
        self.other.connections.clear()

    # -- an application --------------------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes) -> int:
        """Through the primary; the errno."""
        primary = self.primary
        assert primary is not None
        return await finished(lambda done: _submitted(primary, lambda: primary.write(offset, data, done)))

    async def flush(self) -> int:
        """Through the primary; the errno."""
        primary = self.primary
        assert primary is not None
        return await finished(lambda done: _submitted(primary, lambda: primary.flush(done)))

    async def discard(self, offset: int, length: int) -> int:
        """Through the primary; the errno."""
        primary = self.primary
        assert primary is not None
        return await finished(lambda done: _submitted(primary, lambda: primary.discard(offset, length, done)))

    async def read(self, offset: int, length: int) -> bytes:
        """Through the primary; OSError."""
        primary = self.primary
        assert primary is not None
        error, data = await data_of(lambda done: _submitted(primary, lambda: primary.read(offset, length, done)))
        if error:
            raise OSError(error, "read")
        return bytes(data)


def _submitted(primary: Primary, call: object) -> None:
    assert callable(call)
    call()
    primary.submit()


@asynccontextmanager
async def pair(
    *,
    replication: Replication = Replication.FULLSYNC,
    size: int = 256 * 1024,
    extentsize: int = 4096,
    keepdirty: int = 4,
) -> AsyncIterator[tuple[Node, Node]]:
    """Two fresh nodes, in role init, that can reach each other."""
    async with trio.open_nursery() as nursery:
        config = resource_config(replication)
        nodes = [Node(name, SimulatedDisk(RESOURCE, size, extentsize, keepdirty), config, nursery) for name in "ab"]
        for node, other in (nodes, nodes[::-1]):
            node.other, node.out = other, Way(nursery)
        try:
            yield nodes[0], nodes[1]
        finally:
            for node in nodes:
                await node.crash()
            nursery.cancel_scope.cancel()


async def until(condition: object, timeout: float = 300) -> None:
    """Waits (in simulated time) until the condition holds."""
    assert callable(condition)
    with trio.fail_after(timeout):
        while not condition():  # noqa: ASYNC110 (conditions of many kinds, and sleeping costs nothing here)
            await trio.sleep(0.01)


def linked(node: Node) -> bool:
    """The primary is connected to the other node."""
    return node.primary is not None and node.primary.link is not None


def in_sync(node: Node) -> bool:
    """The primary is connected and has nothing left to copy."""
    primary = node.primary
    return primary is not None and primary.link is not None and primary.map.in_sync and not primary.stale


def agreed(a: Node, b: Node) -> bool:
    """Primary a is in sync with b, and both have written that down."""
    return in_sync(a) and a.disk.metadata.generations == b.disk.metadata.generations


async def connected(a: Node, b: Node) -> None:
    """a becomes primary, b secondary; returns when they agree."""
    b.become_secondary()
    await a.become_primary()
    await until(lambda: agreed(a, b))


async def primary_out_of_date(a: Node, b: Node, extents: int) -> None:
    """The nodes were in sync, then b wrote `extents` extents alone; b is secondary now, a is in role init."""
    await connected(a, b)
    await a.stop()
    await b.become_primary()
    for extent in range(extents):
        await b.write(extent * EXTENT, BLOCK)
    await b.stop()
    b.become_secondary()
