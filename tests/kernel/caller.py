"""Whoever calls a node's port: a connection that can say anything, and a primary played by the test."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from hastfs.model import ORIGINAL_VERSION, Checksum, Command, Compression
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.handshake import Hello, Joining, Refusal, Terms, Welcome
from hastfs.protocol.payload import pack
from hastfs.protocol.replication import Reply, decode_reply, encode_request
from hastfs.volume import Buffer
from tests.kernel.node import MIB, RESOURCE, Node

BLOCK = bytes(range(256)) * 16

RESUID = 7
"""Of the pair that a played primary belongs to."""


class Talk:
    """A connection that can say anything."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._reader = FrameReader(64 * 1024, MIB)

    def say(self, message: list[Buffer] | bytes) -> None:
        for part in [message] if isinstance(message, bytes) else message:
            self.socket.sendall(part)

    def hear(self) -> Frame:
        """The next message; ConnectionError when the node closes instead."""
        while (frame := self._reader.next()) is None:
            count = self.socket.recv_into(self._reader.buffer())
            if count == 0:
                raise ConnectionError("closed without an answer")
            self._reader.received(count)
        return frame

    def is_closed(self) -> bool:
        """Waits for the node to hang up; False if it says something instead."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def drain(self) -> None:
        """Hears everything, until the node hangs up."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 16):
                pass


class Caller(Talk):
    """A connection to a node's port."""

    def __init__(self, node: Node, *, source: str = "127.0.0.1") -> None:
        super().__init__(socket.create_connection(("127.0.0.1", node.port), timeout=30, source_address=(source, 0)))

    def refusal(self, message: list[Buffer]) -> Refusal:
        """Says `message` and returns the refusal that has to come."""
        self.say(message)
        return Refusal.decode(self.hear())

    def token(self, resource: str = RESOURCE) -> bytes:
        """Steps 1 and 2 of the handshake, which have to go well."""
        self.say(Hello(resource, ORIGINAL_VERSION).encode())
        return self.welcome()

    def welcome(self) -> bytes:
        """The token of step 2, which has to come."""
        welcome = Welcome.decode(self.hear())
        assert isinstance(welcome, Welcome), welcome
        assert welcome.version == ORIGINAL_VERSION
        return welcome.token


@contextlib.contextmanager
def call(node: Node, *, source: str = "127.0.0.1") -> Iterator[Caller]:
    caller = Caller(node, source=source)
    with caller.socket:
        yield caller


class PlayedPrimary:
    """Both connections of a primary of version 2."""

    def __init__(self, first: Caller, second: Caller, *, resource: str = RESOURCE, resuid: int = RESUID) -> None:
        self.first = first
        self.second = second
        self._resource = resource
        self._resuid = resuid

    def open(self, *, virgin: bool = False) -> Terms:
        """The handshake, which has to go well."""
        return self.join(self.first.token(self._resource), virgin=virgin)

    def join(self, token: bytes, *, virgin: bool = False) -> Terms:
        """Steps 3 and 4."""
        self.second.say(Joining(self._resource, token, virgin, self._resuid, 0, 0, None).encode())
        terms = Terms.decode(self.first.hear(), MIB)
        assert isinstance(terms, Terms), terms
        return terms

    def write(self, seq: int, offset: int, data: bytes = BLOCK) -> None:
        """Without waiting for the answer."""
        packed = pack(data, Compression.NONE, Checksum.NONE)
        self.first.say(encode_request(Command.WRITE, seq, offset, len(data), packed=packed))

    def read(self, seq: int, offset: int) -> bytes:
        self.first.say(encode_request(Command.READ, seq, offset, len(BLOCK)))
        payload = self.reply().payload
        assert payload is not None
        return bytes(len(BLOCK)) if payload.data is None else bytes(payload.data)

    def reply(self) -> Reply:
        return decode_reply(self.second.hear(), MIB)


@contextlib.contextmanager
def played_primary(node: Node, *, resource: str = RESOURCE, resuid: int = RESUID) -> Iterator[PlayedPrimary]:
    """Not linked yet."""
    with call(node) as first, call(node) as second:
        yield PlayedPrimary(first, second, resource=resource, resuid=resuid)
