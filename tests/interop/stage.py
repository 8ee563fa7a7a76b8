"""A node of ours whose other node is played by the test: hastd with resource `test`, and connections to talk over."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hastfs.protocol.frame import HEAD
from tests.interop.component import EXTENTSIZE, KEEPDIRTY, MEDIASIZE, Found, State, look
from tests.interop.original import number
from tests.kernel import machine
from tests.kernel.node import Node, Options

Value = TypeVar("Value")

PATIENCE = 20.0
"""Seconds until somebody who says nothing counts as stuck; no step of a replay waits for a clock that long."""


@dataclass(frozen=True, slots=True)
class Setting:
    """hast.conf of the node; `remote` is the address of the other one, `timeout` in seconds."""

    replication: str = "fullsync"
    checksum: str = "none"
    compression: str = "none"
    remote: str = "127.0.0.1"
    timeout: int = 10


class Stage(Node):
    """The node. `remote_port` is where the test may listen when the node is primary."""

    resource = "test"

    def __init__(self, root: Path, setting: Setting) -> None:
        options = Options(
            replication=setting.replication,
            checksum=setting.checksum,
            compression=setting.compression,
            timeout=setting.timeout,
            mediasize=MEDIASIZE,
            extentsize=EXTENTSIZE,
            keepdirty=KEEPDIRTY,
        )
        super().__init__(root, "ours", "test", options)
        self.setting = setting
        self.remote_port = machine.free_port()
        self.write_config(self.remote_port)

    def write_config(self, remote_port: int) -> None:
        super().write_config(remote_port)
        there = f"remote tcp4://127.0.0.1:{remote_port}"
        text = self.config.read_text().replace(there, f"remote tcp4://{self.setting.remote}:{remote_port}")
        self.config.write_text(text)

    def begin(self, state: State) -> None:
        """The component as the original left it, hastd running, role init."""
        state.write(self.component)
        self.start()

    def found(self) -> Found:
        return look(self.component)

    @contextlib.contextmanager
    def meanwhile(self, call: Callable[[], Value]) -> Iterator[Future[Value]]:
        """Does `call`, which waits for what the test plays; if the test fails, the node is killed to end the wait."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call)
            try:
                yield future
                future.result(timeout=PATIENCE)
            except BaseException:
                machine.kill_sessions(self.sessions)
                raise

    def becoming_primary(self) -> AbstractContextManager[Future[None]]:
        """`hastctl role primary`, which waits for the test to play the other node."""
        return self.meanwhile(lambda: self.role("primary"))


class Line:
    """A TCP connection as a sequence of messages, bytes as they are."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def hear(self) -> bytes:
        """The next message, its data included. ConnectionError when the other side closes instead."""
        head = self._exactly(HEAD.size)
        raw = head + self._exactly(HEAD.unpack(head)[1])
        return raw + self._exactly(number(raw, "size") or 0)

    def _exactly(self, length: int) -> bytes:
        got = bytearray()
        while len(got) < length:
            piece = self._socket.recv(length - len(got))
            if not piece:
                raise ConnectionError(f"closed, {len(got)} of {length} bytes came before")
            got += piece
        return bytes(got)

    def is_closed(self) -> bool:
        """Waits for the other side to hang up; False if it says something instead."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def hang_up(self) -> None:
        """Says nothing more, and can still hear."""
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Ends the connection in both directions; whoever hears is told that it is closed."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


def call(port: int, *, source: str = "127.0.0.1") -> Line:
    """Opens a connection to the node, as its primary does."""
    return Line(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0)))


class Lines(dict[int, Line]):
    """The connections of a conversation by their number; closed together."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.values():
            line.close()


class Peer:
    """The other node's port, where the test plays a secondary."""

    def __init__(self, stage: Stage) -> None:
        self._listener = socket.create_server((stage.setting.remote, stage.remote_port))
        self._listener.settimeout(PATIENCE)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def accept(self) -> Line:
        """The next connection of the primary."""
        return Line(self._listener.accept()[0])


_libc = ctypes.CDLL(None, use_errno=True)
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01  # linux/falloc.h


def punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(2). (The program of that name flushes, too.)"""
    failed = _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length))
    assert not failed, os.strerror(ctypes.get_errno())


def read_directly(image: Path, offset: int, length: int) -> bytes:
    """Without the page cache, which would ask for whole pages."""
    fd = os.open(image, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as buffer:
            assert os.preadv(fd, [buffer], offset) == length
            return bytes(buffer[:length])
    finally:
        os.close(fd)
