"""A network in memory: connections between two nodes that can be slow, cut, half closed, silent, or full of lies."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence

import trio

from hastfs.poller import Look
from hastfs.volume import Buffer

WINDOW = 64 * 1024
"""Bytes on the way, beyond which a sender has to wait."""


class Way:
    """What happens to all that goes from one node to the other. Without `delay` and `rate`, it is there at once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.delay = 0.0
        """Seconds."""
        self.rate = 0.0
        """Bytes per second; 0: no limit."""
        self.lie: Callable[[bytes], bytes | None] | None = None
        """What is made of a message; None: not of this one. Once it has made something, the way is honest again."""
        self.lied_on: SimulatedChannel | None = None
        self.lies = 0
        self.changes = 0
        """How often it became faster or slower."""
        self._opened = trio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        """Whether anything arrives at all. What does not is late, not lost, as it is with TCP."""
        return self._opened.is_set()

    def block(self) -> None:
        """A partition, of this direction."""
        if self.is_open:
            self._opened = trio.Event()
            self.changes += 1

    def slow_down(self, delay: float, rate: float = 0.0) -> None:
        """From now on, with `delay` and `rate`."""
        self.delay, self.rate = delay, rate
        self.changes += 1

    def heal(self) -> None:
        """All as it should be."""
        self.slow_down(0.0)
        self.lie = None
        self._opened.set()

    async def opened(self) -> None:
        """Returns when there is no partition."""
        await self._opened.wait()


class SimulatedChannel:
    """One end of a connection (`hastfs.resource.channel.Channel`). `mtu`: most bytes a receive gets at a time."""

    def __init__(self, mtu: int = 1 << 30, way: Way | None = None) -> None:
        self._inbox = bytearray()
        self._mtu = mtu
        self._way = way
        self._changed = trio.Event()
        self._on_the_way: deque[tuple[float, bytes]] = deque()  # with the time of arrival; b"": the end
        self._amount = 0
        self._carried = False
        self._ended = False  # the other end sends no more
        self._finished = False
        self.peer: SimulatedChannel | None = None
        self.closed = False
        self.broken = False
        self.stalled = False
        """What is sent is lost without a word."""
        self.vanished = False
        """This end's node is without power: it does not even say that the connection is gone."""
        self.sent = bytearray()
        self.timeout = 0
        """Seconds without an acknowledgement of the other end's system; 0: any number."""

    def receive_into(self, room: memoryview) -> int:
        if self.closed or (self.broken and not self._inbox):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if self._inbox:
            count = min(len(room), len(self._inbox), self._mtu)
            room[:count] = self._inbox[:count]
            del self._inbox[:count]
            return count
        if self.peer is None or self._ended:
            return 0
        raise BlockingIOError

    def send(self, pieces: Sequence[Buffer]) -> int:
        if self.closed or self.broken or self._finished or self.peer is None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if self._is_direct and self.peer.closed and not self.peer.vanished:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        data = b"".join(bytes(piece) for piece in pieces)
        if not self._is_direct:
            if self._amount >= WINDOW:
                raise BlockingIOError
            data = data[: WINDOW - self._amount]
        self.sent += data
        if data:
            self._pass_on(self._perhaps_lie(data))
        return len(data)

    def _perhaps_lie(self, data: bytes) -> bytes:
        way = self._way
        if way is None or way.lie is None or way.lied_on is not None:
            return data
        changed = way.lie(data)
        if changed is None:
            return data
        way.lie, way.lied_on = None, self
        way.lies += 1
        return changed

    @property
    def _is_direct(self) -> bool:
        way = self._way
        return way is None or (not self._on_the_way and not way.delay and not way.rate and way.is_open)

    def _pass_on(self, data: bytes) -> None:
        """Data, or b"": the end of it."""
        assert self.peer is not None
        if self.stalled:
            return
        if self._is_direct:
            self.peer._arrived(data)
            return
        way = self._way
        assert way is not None
        begin = trio.current_time()
        if self._on_the_way and way.rate:
            begin = max(begin, self._on_the_way[-1][0] - way.delay)
        due = begin + way.delay + (len(data) / way.rate if way.rate else 0)
        self._on_the_way.append((due, data))
        self._amount += len(data)
        if not self._carried:
            self._carried = True
            way.nursery.start_soon(self._carry)

    async def _carry(self) -> None:
        assert self._way is not None
        assert self.peer is not None
        while self._on_the_way:
            await trio.sleep_until(self._on_the_way[0][0])
            with trio.move_on_after(self.timeout or float("inf")) as patience:
                await self._way.opened()
            if patience.cancelled_caught:
                self._time_out()
            elif self._on_the_way:
                _, data = self._on_the_way.popleft()
                self._amount -= len(data)
                self._wake()
                self.peer._arrived(data)
        self._carried = False

    def _arrived(self, data: bytes) -> None:
        if self.vanished:
            if self.peer is not None and self._way is not None:
                self._way.nursery.start_soon(self.peer._wait_in_vain)
            return
        if self.closed:
            if data and self.peer is not None:
                self.peer.reset()
            return
        self._deliver(data)

    async def _wait_in_vain(self) -> None:
        """For an acknowledgement."""
        await trio.sleep(self.timeout or float("inf"))
        self._time_out()

    def _time_out(self) -> None:
        self._on_the_way.clear()
        self._amount = 0
        self.reset()

    def _deliver(self, data: bytes) -> None:
        self._ended = self._ended or not data
        self._inbox += data
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def receiving(self, look: Look) -> None:
        while (worked := look()) is not None:
            if worked:
                await trio.lowlevel.checkpoint()
            else:
                await self.readable()

    async def readable(self) -> None:
        if self._inbox or self.closed or self.broken or self._ended or self.peer is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._changed.wait()

    async def writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._amount >= WINDOW and not self.closed and not self.broken:
            await self._changed.wait()

    def set_timeout(self, timeout: int) -> None:
        self.timeout = timeout

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wake()
            self._say_the_end()

    def finish(self) -> None:
        """Half a close: nothing is sent any more, what comes is received."""
        self._finished = True
        self._say_the_end()

    def _say_the_end(self) -> None:
        if self.peer is None or self.vanished or self.broken:
            return
        if self.stalled:
            self.peer._arrived(b"")
        else:
            self._pass_on(b"")

    def vanish(self) -> None:
        """The power is off."""
        self.vanished = self.closed = True
        self._on_the_way.clear()
        self._amount = 0
        self._wake()

    def reset(self) -> None:
        """This end learns that the connection is gone."""
        self.broken = True
        self._inbox.clear()
        self._wake()

    def cut(self) -> None:
        """Both ends see a reset; what is on the way is lost."""
        for end in (self, self.peer):
            if end is not None:
                end._time_out()


def connection(
    mtu: int = 1 << 30, out: Way | None = None, back: Way | None = None
) -> tuple[SimulatedChannel, SimulatedChannel]:
    """Two ends: ours, which sends by `out`, and theirs, which sends by `back`."""
    ours, theirs = SimulatedChannel(mtu, out), SimulatedChannel(mtu, back)
    ours.peer, theirs.peer = theirs, ours
    return ours, theirs
