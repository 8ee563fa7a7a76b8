"""One byte stream to the other node: the seam to the network."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Protocol

import trio

from hastfs.poller import Look, poll
from hastfs.volume import Buffer

_LONGEST_TIMEOUT = (2**31 - 1) // 1000  # seconds; the kernel counts milliseconds in a C int
_SOCKET_BUFFER = 4 << 20  # bytes; the kernel may grant less (net.core.rmem_max)


class Channel(Protocol):
    """Non-blocking, ordered, reliable. Every call may raise OSError when the connection is broken."""

    def receive_into(self, room: memoryview) -> int:
        """Bytes received, 0 at the end of the stream. BlockingIOError when there is nothing yet."""

    def send(self, pieces: Sequence[Buffer]) -> int:
        """How many bytes of the pieces (at most 1024) were taken. BlockingIOError when none fits now."""

    async def readable(self) -> None:
        """Returns when `receive_into` is worth trying again."""

    async def receiving(self, look: Look) -> None:
        """Calls `look` whenever `receive_into` may be worth trying, until it returns None; raises what it raises."""

    async def writable(self) -> None:
        """Returns when `send` is worth trying again."""

    def set_timeout(self, timeout: int) -> None:
        """Seconds without an acknowledgement of sent data that break the connection, from now on. Never raises."""

    def close(self) -> None: ...


class SocketChannel:
    """A connected TCP socket. `timeout` seconds without an acknowledgement of sent data break the connection."""

    def __init__(self, sock: socket.socket, timeout: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        self._socket = sock
        self.set_timeout(timeout)

    def receive_into(self, room: memoryview) -> int:
        return self._socket.recv_into(room)

    def send(self, pieces: Sequence[Buffer]) -> int:
        return self._socket.sendmsg(pieces)

    async def readable(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)

    async def receiving(self, look: Look) -> None:
        await poll(self._socket, look)

    async def writable(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    def set_timeout(self, timeout: int) -> None:
        with contextlib.suppress(OSError):  # It is closed: who uses it is about to find out.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(timeout, _LONGEST_TIMEOUT) * 1000)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
