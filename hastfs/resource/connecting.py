"""The primary's side of the handshake: from two fresh connections to a link's terms (docs/protocol.md)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio

from hastfs.address import Address
from hastfs.config.schema import ResourceConfig
from hastfs.errors import HastError, ProtocolError, one_line, plain
from hastfs.model import PROTOCOL_VERSION
from hastfs.protocol.frame import Frame, FrameReader, for_version
from hastfs.protocol.handshake import Hello, Joining, Refusal, Terms, Welcome
from hastfs.resource.channel import Channel, SocketChannel
from hastfs.resource.link import LinkLost
from hastfs.resource.waiting import plain_errors
from hastfs.volume import Buffer

Dial: TypeAlias = Callable[[], Awaitable[Channel]]
"""Opens one more connection to the other node. Raises OSError."""

MakeDial: TypeAlias = Callable[[ResourceConfig], Dial | None]
"""How a configuration says to reach the other node; None: there is none (remote none)."""

_MAX_NV = 4096  # bytes of a handshake message's list


class NotAnswered(LinkLost):
    """The other node closed the connection instead of answering step 1: it does not know us, or not this version."""


class Refused(HastError):
    """The other node says no. `wait`: because it is primary itself."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(one_line(refusal.errmsg))
        self.wait = refusal.wait


@dataclass(frozen=True, slots=True)
class Connected:
    """Both connections, and what each side said of itself."""

    outgoing: Channel
    incoming: Channel
    version: int
    joining: Joining
    terms: Terms


async def connect(
    dial: Dial, resource: str, prepare: Callable[[int, bytes], Awaitable[Joining]], *, known: int, max_map: int
) -> Connected:
    """Steps 1 to 4. `prepare(version, token)` says what we are in step 3; `max_map` bounds the peer's map (bytes).

    `known`: the version that the peer is known to speak; it is the head's version byte until the peer has answered.
    Raises Refused, ProtocolError, NotAnswered, LinkLost (closed later), OSError. Closes what it opened if it fails.
    """
    outgoing = await dial()
    incoming: Channel | None = None
    try:
        await send_frame(outgoing, for_version(Hello(resource, PROTOCOL_VERSION).encode(), known))
        reader = FrameReader(_MAX_NV, max_map)
        welcome = Welcome.decode(await _first_answer(outgoing, reader))
        if isinstance(welcome, Refusal):
            raise Refused(welcome)
        joining = await prepare(welcome.version, welcome.token)
        incoming = await dial()
        await send_frame(incoming, for_version(joining.encode(), welcome.version))
        terms = await _hear_terms(outgoing, incoming, reader, max_map)
        if isinstance(terms, Refusal):
            raise Refused(terms)
        if reader.pending:
            raise ProtocolError("data on the first connection after the handshake")
    except BaseException:
        outgoing.close()
        if incoming is not None:
            incoming.close()
        raise
    return Connected(outgoing, incoming, welcome.version, joining, terms)


async def _first_answer(outgoing: Channel, reader: FrameReader) -> Frame:
    try:
        return await receive_frame(outgoing, reader)
    except (LinkLost, ConnectionResetError) as error:  # TCP's end is a reset if not all that we said was read
        raise NotAnswered("closed by the other node during the handshake") from error


async def _hear_terms(outgoing: Channel, incoming: Channel, reader: FrameReader, max_map: int) -> Terms | Refusal:
    """Step 4 from the first connection, or what comes over the second before it: only the refusal of our token does."""
    answer: Terms | Refusal | None = None
    with plain_errors():
        async with trio.open_nursery() as nursery:

            async def hear_refusal() -> None:
                nonlocal answer
                try:
                    answer = Refusal.decode(await receive_frame(incoming, FrameReader(_MAX_NV, 0)))
                except (LinkLost, OSError):
                    return  # The first connection tells why.
                nursery.cancel_scope.cancel()

            nursery.start_soon(hear_refusal)
            answer = Terms.decode(await receive_frame(outgoing, reader), max_map)
            nursery.cancel_scope.cancel()
    assert answer is not None
    return answer


async def send_frame(channel: Channel, frame: list[Buffer]) -> None:
    """Sends one message, waiting as long as it takes."""
    rest = memoryview(b"".join(frame))
    while rest:
        try:
            rest = rest[channel.send([rest]) :]
        except BlockingIOError:
            await channel.writable()


async def receive_frame(channel: Channel, reader: FrameReader) -> Frame:
    """The next message. Raises LinkLost at the end of the stream."""
    while (frame := reader.next()) is None:
        try:
            count = channel.receive_into(reader.buffer())
        except BlockingIOError:
            await channel.readable()
            continue
        if not count:
            raise LinkLost("closed by the other node during the handshake")
        reader.received(count)
    return frame


def dialer(config: ResourceConfig) -> Dial | None:
    """A Dial over TCP to `remote`, from `source` if given, with `timeout` for unacknowledged data."""
    remote, source = config.remote, config.source
    if remote is None:
        return None

    async def dial() -> Channel:
        family = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}[remote.family]
        found = await trio.socket.getaddrinfo(remote.host, remote.port, family, socket.SOCK_STREAM)
        failure: OSError = OSError(f"{remote.text} has no address")
        for kind, _, protocol, _, target in found:
            sock = trio.socket.socket(kind, socket.SOCK_STREAM, protocol)
            try:
                if source is not None:
                    await _bind(sock, source)
                await sock.connect(target)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return SocketChannel(detached(sock), config.timeout)
        raise failure

    return dial


async def _bind(sock: trio.socket.SocketType, source: Address) -> None:
    """Raises OSError that names the source: otherwise it would look as if something were wrong with `remote`."""
    try:
        await sock.bind((source.host, source.port))
    except OSError as error:
        raise OSError(f"source {source.text}: {plain(error)}") from error


def detached(sock: trio.socket.SocketType) -> socket.socket:
    """The same connection as a socket of the standard library."""
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
