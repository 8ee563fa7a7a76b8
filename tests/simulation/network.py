"""A network in memory: pairs of channels that can be cut, and a listener that plays the secondary's daemon."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import trio

from hastfs.volume import Buffer


class SimulatedChannel:
    """One end of a connection (`hastfs.resource.channel.Channel`). `mtu`: most bytes a receive gets at a time."""

    def __init__(self, mtu: int = 1 << 30) -> None:
        self._inbox = bytearray()
        self._mtu = mtu
        self._changed = trio.Event()
        self.peer: SimulatedChannel | None = None
        self.closed = False
        self.broken = False
        self.stalled = False
        self.sent = bytearray()
        self.timeout = 0

    def receive_into(self, room: memoryview) -> int:
        if self.closed or (self.broken and not self._inbox):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if self._inbox:
            count = min(len(room), len(self._inbox), self._mtu)
            room[:count] = self._inbox[:count]
            del self._inbox[:count]
            return count
        if self.peer is None or self.peer.closed:
            return 0
        raise BlockingIOError

    def send(self, pieces: Sequence[Buffer]) -> int:
        if self.closed or self.broken or self.peer is None or self.peer.closed:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        data = b"".join(bytes(piece) for piece in pieces)
        self.sent += data
        if not self.stalled:
            self.peer._deliver(data)
        return len(data)

    def _deliver(self, data: bytes) -> None:
        self._inbox += data
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def readable(self) -> None:
        if not self._inbox and not self.closed and not self.broken and self.peer is not None and not self.peer.closed:
            await self._changed.wait()
        else:
            await trio.lowlevel.checkpoint()

    async def writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def set_timeout(self, timeout: int) -> None:
        self.timeout = timeout

    def close(self) -> None:
        self.closed = True
        self._wake()
        if self.peer is not None:
            self.peer._wake()

    def cut(self) -> None:
        """Both ends see a reset; what is on the way is lost."""
        for end in (self, self.peer):
            if end is not None:
                end.broken = True
                end._inbox.clear()
                end._wake()


def connection(mtu: int = 1 << 30) -> tuple[SimulatedChannel, SimulatedChannel]:
    """Two ends."""
    ours, theirs = SimulatedChannel(mtu), SimulatedChannel(mtu)
    ours.peer, theirs.peer = theirs, ours
    return ours, theirs
