"""A disk in memory with a volatile write cache: what was not flushed may be lost, sector by sector, at a power loss."""

from __future__ import annotations

import errno
import functools
import random
from collections.abc import Callable, Sequence

import trio

from hastfs.model import SECTOR_SIZE, Consistency, Generations, Role
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout
from hastfs.ondisk.metadata import Metadata, choose, encode
from hastfs.resource.component import Piece
from hastfs.volume import Buffer, Done, ReadDone

_chosen = functools.lru_cache(maxsize=64)(choose)
"""Tests ask for the metadata again and again."""


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
        self.unflushed: set[int] = set()
        self.durable_writes: list[Piece] = []

    @property
    def metadata(self) -> Metadata:
        """As stored."""
        return _chosen(bytes(self.content[:COPY_SIZE]), bytes(self.content[SECOND_COPY : SECOND_COPY + COPY_SIZE]))[0]

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
        self.content[position : position + len(data)] = data
        self.unflushed.update(range(position // SECTOR_SIZE, -(-(position + len(data)) // SECTOR_SIZE)))

    def flush(self, sectors: Sequence[int] | None = None) -> None:
        """Sectors (default: all) go from the cache to the medium."""
        for sector in list(self.unflushed) if sectors is None else sectors:
            at = slice(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE)
            self.stable[at] = self.content[at]
            self.unflushed.discard(sector)

    def lose_power(self, chance: random.Random) -> None:
        """Of what was not flushed, any subset of sectors survives."""
        self.boots += 1
        self.flush([sector for sector in sorted(self.unflushed) if chance.random() < 0.5])
        self.content[:] = self.stable
        self.unflushed.clear()


class SimulatedComponent:
    """An engine's view of a disk (`hastfs.resource.component.Component`). Detached: what comes later is not done."""

    def __init__(self, disk: SimulatedDisk, nursery: trio.Nursery) -> None:
        self.path = "simulated"
        self.layout = disk.layout
        self.disk = disk
        self.attached = True
        self._nursery = nursery

    def _later(self, kind: str, action: object, done: Done) -> None:
        self._nursery.start_soon(self._do, kind, action, done)

    async def _do(self, kind: str, action: object, done: Done) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self.disk.latency.get(kind, 0))
        error = self.disk.failing.get(kind, 0) if self.attached else errno.EIO
        if not error and callable(action):
            action()
        done(error)

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        def answer(error: int) -> None:
            at = self.layout.localoff + offset
            done(error, b"" if error else bytes(self.disk.content[at : at + length]))

        if "read" in self.disk.latency:
            self._later("read", None, answer)
        else:
            answer(self.disk.failing.get("read", 0))

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        content = bytes(data)

        def action() -> None:
            self.disk.put(self.layout.localoff + offset, content)

        if "write" in self.disk.latency:
            self._later("write", action, done)
            return
        error = self.disk.failing.get("write", 0)
        if not error:
            action()
        done(error)

    def zero(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        self._later("zero", lambda: self.disk.put(self.layout.localoff + offset, bytes(length)), done)

    def flush(self, done: Done) -> None:
        self._later("flush", self.disk.flush, done)

    def next_data(self, offset: int) -> int:
        at = self.layout.localoff + offset
        rest = self.disk.content[at:]
        skipped = len(rest) - len(rest.lstrip(b"\0"))
        return min(offset + skipped, self.layout.datasize)

    def write_durable(self, pieces: Sequence[Piece], done: Done, *, flush: bool = True) -> None:
        def action() -> None:
            for position, data in pieces:
                self.disk.put(position, data)
                self.disk.durable_writes.append((position, data))
                if flush:
                    self.disk.flush(range(position // SECTOR_SIZE, -(-(position + len(data)) // SECTOR_SIZE)))

        self._later("durable", action, done)

    def damage(self) -> str:
        return self.disk.damage

    def let_go(self) -> Callable[[], None]:
        self.attached = False
        return self.close

    def close(self) -> None:
        self.attached = False
