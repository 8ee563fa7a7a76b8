"""A disk in memory with a volatile write cache: at a power loss, any of what was written since the last flush survives,
sector by sector, also of what was just being written. It can be slow, and refuse requests.
"""

from __future__ import annotations

import errno
import functools
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from hastfs.model import SECTOR_SIZE, Consistency, Generations, Role
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout
from hastfs.ondisk.metadata import Metadata, choose, encode
from hastfs.resource.component import Piece
from hastfs.volume import Buffer, Done, ReadDone

_chosen = functools.lru_cache(maxsize=64)(choose)
"""Tests ask for the metadata again and again."""


@dataclass
class Fault:
    """Requests of that kind (read, write, zero, flush, durable) that touch the place fail with `error`.

    `place`: bytes of the component, start and end (exclusive); None: all of it. `left`: how many more requests fail;
    None: all that come.
    """

    kind: str
    error: int = errno.EIO
    place: tuple[int, int] | None = None
    left: int | None = None

    def hits(self, kind: str, position: int, length: int) -> bool:
        """Whether such a request fails."""
        if kind != self.kind or self.left == 0:
            return False
        return self.place is None or (position < self.place[1] and self.place[0] < position + length)


@dataclass(eq=False)
class _UnderWay:
    """A write that the disk is busy with: some of it may be there already. `durable`: it goes through the cache."""

    position: int
    data: bytes
    durable: bool


class SimulatedDisk:
    """The medium: `content` is what reads see, `stable` what survives. Latencies in (simulated) seconds."""

    def __init__(self, resource: str, size: int, extentsize: int = 4096, keepdirty: int = 4) -> None:
        self.layout = Layout(size, extentsize)
        self.content = bytearray(size)
        self.failing: dict[str, int] = {}
        """Errno by kind of request: read, write, zero, flush, durable."""
        self.damage = ""
        self.boots = 1
        """How often the node was started: it is again after a loss of power."""
        self.faults: list[Fault] = []
        self.errors = 0
        """Requests that were refused so far."""
        self.update_refused_at = -math.inf
        """When that was last an update of metadata or map (trio's clock)."""
        self.latency: dict[str, float] = {}
        """By kind of request; without one, reads and writes answer at once, all else a moment later."""
        metadata = Metadata(
            resource=resource,
            datasize=self.layout.datasize,
            extentsize=extentsize,
            keepdirty=keepdirty,
            localoff=self.layout.localoff,
            resuid=0,
            localcnt=0,
            remotecnt=0,
            prevrole=Role.INIT,
            serial=1,
            generations=Generations(),
            consistency=Consistency.CONSISTENT,
        )
        block = encode(metadata)
        self.content[0:COPY_SIZE] = block
        self.content[SECOND_COPY : SECOND_COPY + COPY_SIZE] = block
        self.stable = bytearray(self.content)
        self.unflushed: dict[int, list[bytes]] = {}
        """By sector, all that was written to it since it was flushed, the oldest first."""
        self.pending: list[_UnderWay] = []
        self.durable_writes: list[Piece] = []
        self.watch: Callable[[int, int], None] | None = None
        """Is told of each change of the content: position and length."""
        self.flush_refused: Callable[[], None] = lambda: None
        """Is called when a flush failed."""
        self.trap: Callable[[int], float] | None = None
        """Is told when a piece of metadata or map is about to be written, and where; how long (seconds) it takes."""

    @property
    def metadata(self) -> Metadata:
        """As stored."""
        return _metadata(self.content)

    @property
    def stable_metadata(self) -> Metadata:
        """As a power loss would leave it."""
        return _metadata(self.stable)

    @property
    def consistent(self) -> bool:
        """Whether the data is not in the middle of a resync."""
        return self.metadata.consistency is Consistency.CONSISTENT

    @property
    def map(self) -> bytes:
        """The activemap as stored."""
        return bytes(self.content[METADATA_SIZE : METADATA_SIZE + self.layout.mapsize])

    @property
    def data(self) -> bytes:
        """The data area."""
        return bytes(self.content[self.layout.localoff :])

    def put(self, position: int, data: Buffer) -> None:
        """Writes into the cache."""
        end = position + len(data)
        self.content[position:end] = data
        for sector in range(position // SECTOR_SIZE, -(-end // SECTOR_SIZE)):
            written = bytes(self.content[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE])
            self.unflushed.setdefault(sector, []).append(written)
        if self.watch is not None:
            self.watch(position, len(data))

    def put_durable(self, position: int, data: Buffer) -> None:
        """Writes through the cache."""
        self.put(position, data)
        self.flush(_sectors(position, len(data)))

    def flush(self, sectors: Iterable[int] | None = None) -> None:
        """Sectors (default: all) go from the cache to the medium."""
        for sector in list(self.unflushed) if sectors is None else sectors:
            at = slice(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE)
            self.stable[at] = self.content[at]
            self.unflushed.pop(sector, None)

    def refusal(self, kind: str, position: int = 0, length: int = 0) -> int:
        """The errno with which the request fails, or 0. A flush is of everything: any place is hit."""
        error = self.failing.get(kind, 0)
        for fault in self.faults:
            if not error and fault.hits(kind, position, length or self.layout.mediasize):
                error = fault.error
                if fault.left is not None:
                    fault.left -= 1
        self.errors += error != 0
        if error and kind == "durable":
            self.update_refused_at = trio.current_time()
        if error and kind == "flush":
            self.flush_refused()
        return error

    def lose_power(self, chance: random.Random) -> None:
        """A sector that was not flushed holds anything that was written to it since, or what it held before."""
        self.boots += 1
        for write in self.pending:
            for sector, piece in _by_sector(write.position, write.data):
                self.unflushed.setdefault(sector, []).append(piece)
        self.pending.clear()
        for sector, versions in sorted(self.unflushed.items()):
            survivor = chance.choice((None, *versions))
            if survivor is not None:
                at = sector * SECTOR_SIZE
                self.stable[at : at + len(survivor)] = survivor
        self.unflushed.clear()
        self.content[:] = self.stable

    def lose_writer(self, chance: random.Random) -> None:
        """Who was writing was killed: of each write that is under way, some sectors from its start on are there.

        A durable one is one system call, which a signal does not end: it was made, or not.
        """
        pending, self.pending = self.pending, []
        for write in pending:
            sectors = chance.randint(0, -(-len(write.data) // SECTOR_SIZE))
            if write.durable and sectors:
                self.put_durable(write.position, write.data)
            elif sectors:
                self.put(write.position, write.data[: sectors * SECTOR_SIZE])

    def survivors(self, position: int) -> set[int]:
        """What the byte there may be after a power loss."""
        at = position % SECTOR_SIZE
        versions = self.unflushed.get(position // SECTOR_SIZE, ())
        return {self.stable[position], *(version[at] for version in versions)}


def _metadata(medium: bytearray) -> Metadata:
    return _chosen(bytes(medium[:COPY_SIZE]), bytes(medium[SECOND_COPY : SECOND_COPY + COPY_SIZE]))[0]


def _sectors(position: int, length: int) -> range:
    return range(position // SECTOR_SIZE, -(-(position + length) // SECTOR_SIZE))


def _by_sector(position: int, data: bytes) -> list[tuple[int, bytes]]:
    """Writes are of whole sectors (but for the odd end of the component)."""
    assert position % SECTOR_SIZE == 0
    first = position // SECTOR_SIZE
    return [(first + at // SECTOR_SIZE, data[at : at + SECTOR_SIZE]) for at in range(0, len(data), SECTOR_SIZE)]


class SimulatedComponent:
    """An engine's view of a disk (`hastfs.resource.component.Component`). Detached: what comes later is not done."""

    def __init__(self, disk: SimulatedDisk, nursery: trio.Nursery) -> None:
        self.path = "simulated"
        self.layout = disk.layout
        self.disk = disk
        self.attached = True
        self._nursery = nursery
        self._under_way: dict[trio.CancelScope, None] = {}

    @property
    def waiting(self) -> int:
        return len(self._under_way)

    async def _pause(self, seconds: float) -> None:
        """For as long as the disk takes, or until it is detached."""
        with trio.CancelScope(shield=True) as scope:
            self._under_way[scope] = None
            await trio.sleep(seconds)
        del self._under_way[scope]

    def _start(self, done: Done, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Nothing is done any more for an engine that has ended."""
        try:
            if self.attached:
                self._nursery.start_soon(task, *arguments)
        except RuntimeError:  # its nursery is closed
            self.attached = False
        if not self.attached:
            done(errno.EIO)

    def _later(
        self, kind: str, done: Done, position: int = 0, length: int = 0, action: Callable[[], None] | None = None
    ) -> None:
        self._start(done, self._do, kind, done, position, length, action)

    async def _do(self, kind: str, done: Done, position: int, length: int, action: Callable[[], None] | None) -> None:
        await self._pause(self.disk.latency.get(kind, 0))
        error = self.disk.refusal(kind, position, length) if self.attached else errno.EIO
        if not error and action is not None:
            action()
        done(error)

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        at = self.layout.localoff + offset

        def answer(error: int) -> None:
            done(error, b"" if error else bytes(self.disk.content[at : at + length]))

        if "read" in self.disk.latency:
            self._later("read", answer, at, length)
        else:
            answer(self.disk.refusal("read", at, length) if self.attached else errno.EIO)

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        at, content = self.layout.localoff + offset, bytes(data)
        if "write" in self.disk.latency:
            self._write_later("write", at, content, done)
            return
        error = self.disk.refusal("write", at, len(content)) if self.attached else errno.EIO
        if not error:
            self.disk.put(at, content)
        done(error)

    def zero(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        self._write_later("zero", self.layout.localoff + offset, bytes(length), done)

    def _write_later(self, kind: str, position: int, data: bytes, done: Done) -> None:
        write = _UnderWay(position, data, durable=False)
        if self.attached:
            self.disk.pending.append(write)

        def action() -> None:
            self.disk.pending.remove(write)
            self.disk.put(position, data)

        def ended(error: int) -> None:
            if error and self.attached:
                self.disk.pending.remove(write)
            done(error)

        self._later(kind, ended, position, len(data), action)

    def flush(self, done: Done, *, idle: bool = False) -> None:
        self._later("flush", done, action=self.disk.flush)

    def next_data(self, offset: int) -> int:
        at = self.layout.localoff + offset
        rest = self.disk.content[at:]
        skipped = len(rest) - len(rest.lstrip(b"\0"))
        return min(offset + skipped, self.layout.datasize)

    def write_durable(self, pieces: Sequence[Piece], done: Done, *, flush: bool = True) -> None:
        self._start(done, self._write_pieces, list(pieces), done, flush)

    async def _write_pieces(self, pieces: list[Piece], done: Done, flush: bool) -> None:
        error = 0
        for piece in pieces:
            error = error or await self._write_piece(piece, flush, self.disk.latency.get("durable", 0) / len(pieces))
        done(error)

    async def _write_piece(self, piece: Piece, flush: bool, seconds: float) -> int:
        disk, (position, data) = self.disk, piece
        if self.attached:
            write = _UnderWay(position, data, durable=flush)
            disk.pending.append(write)
            await self._pause(seconds + (disk.trap(position) if disk.trap is not None else 0))
            return self._written(write) if self.attached else errno.EIO
        return errno.EIO

    def _written(self, write: _UnderWay) -> int:
        disk = self.disk
        disk.pending.remove(write)
        error = disk.refusal("durable", write.position, len(write.data))
        if not error:
            disk.durable_writes.append((write.position, write.data))
            (disk.put_durable if write.durable else disk.put)(write.position, write.data)
        return error

    def damage(self) -> str:
        return self.disk.damage

    def let_go(self) -> Callable[[], None]:
        return lambda: None  # what is under way will be done, unless somebody is killed

    def close(self) -> None:
        self.attached = False
        for scope in list(self._under_way):
            scope.cancel()
