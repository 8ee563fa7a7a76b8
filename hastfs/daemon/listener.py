"""Where primaries come in: steps 1 to 3 of the handshake (hast.md, protocol), before a worker takes over.

Each connection has its own task and its own time limits, so a client that says nothing keeps nobody waiting. Who is
not the `remote` of any resource is closed without a word, and before a byte of it is read.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import trio

from hastfs.address import Address
from hastfs.config.schema import ResourceConfig
from hastfs.daemon import answering, messages
from hastfs.daemon.accepting import Accepting
from hastfs.errors import HastError, ProtocolError, one_line, plain
from hastfs.model import Role
from hastfs.protocol import handshake
from hastfs.protocol.frame import MAX_NV, for_version
from hastfs.protocol.handshake import Hello, Joining, Refusal, Welcome
from hastfs.protocol.probe import Probe

log = logging.getLogger(__name__)

OPENING_WITHIN = 10.0
"""Seconds a client has for its first message, and to take our answer."""

MAX_HALF_OPEN = 64
"""Connections that have not become part of a link yet; there are two per resource and moment at most."""


@dataclass(frozen=True, slots=True)
class IncomingLink:
    """Both connections of a primary; step 4 is next, on `first`. Whoever takes it closes the sockets."""

    first: socket.socket
    second: socket.socket
    joining: Joining
    version: int

    def close(self) -> None:
        self.first.close()
        self.second.close()


class Acceptor(Protocol):
    """What the listener needs of a resource."""

    @property
    def config(self) -> ResourceConfig: ...

    @property
    def role(self) -> Role: ...

    async def drop_link(self) -> None:
        """Ends the worker of the link before, if there is one: its primary has come anew."""

    async def accept_link(self, link: IncomingLink) -> None:
        """Starts a worker. The link is the resource's from now on, whatever comes of it."""


class _Refused(HastError):
    """What the client is told before its connection is closed."""

    def __init__(self, errmsg: str, reason: str, *, wait: bool = False) -> None:
        super().__init__(one_line(reason))
        self.refusal = Refusal(errmsg, wait)


class _HalfOpen:
    """A first connection that waits for its second."""

    def __init__(self, sock: trio.socket.SocketType, version: int) -> None:
        self.sock = sock
        self.version = version
        self.token = secrets.token_bytes(handshake.TOKEN_SIZE)
        self.scope = trio.CancelScope()
        self.joined = False


class Listener:
    """Accepts connections for `resources` while `run` is running."""

    def __init__(self, resources: Mapping[str, Acceptor]) -> None:
        self._resources = resources
        self._accepting = Accepting(self._serve)
        self._half_open: dict[str, _HalfOpen] = {}
        self._places = trio.Semaphore(MAX_HALF_OPEN)

    async def run(self, sockets: Collection[socket.socket]) -> None:
        """Runs until cancelled; closes the sockets."""
        await self._accepting.run(sockets)

    def listen_on(self, sockets: Collection[socket.socket]) -> None:
        """On these from now on, instead of those that `run` began with. Links and half of links go on."""
        self._accepting.listen_on(sockets)

    async def _serve(self, stream: trio.SocketStream) -> None:
        sock = stream.socket
        peer = "a client that is gone"
        try:
            peer = sock.getpeername()[0]
            self._places.acquire_nowait()
        except OSError:
            sock.close()
            return
        except trio.WouldBlock:
            log.warning("Connection from %s closed: %d others are waiting.", peer, MAX_HALF_OPEN)
            sock.close()
            return
        try:
            await self._admit(sock, peer)
        except trio.TooSlowError:
            log.warning("Connection from %s closed: it does not take our answer.", peer)
        except (HastError, OSError) as error:
            log.warning("Connection from %s closed: %s", peer, plain(error))
        finally:
            sock.close()
            self._places.release()

    async def _admit(self, sock: trio.socket.SocketType, peer: str) -> None:
        with trio.move_on_after(OPENING_WITHIN) as opening:
            if not await _is_one_of(peer, {resource.config.remote for resource in self._resources.values()}):
                raise ProtocolError("it is not the remote address of any resource.")
            frame = await messages.receive_only(sock, MAX_NV)
            message = Probe.decode(frame) or handshake.decode_opening(frame)
            remote = await self._remote(message.resource, peer)
        if opening.cancelled_caught:
            raise ProtocolError(f"it said nothing for {OPENING_WITHIN:g} s.")
        version = message.version if isinstance(message, Hello) else frame.version
        try:
            if isinstance(message, Probe):
                await self._answer(sock, message, remote)
                return
            resource = self._find(message, remote)
            if isinstance(message, Hello):
                await self._open(sock, resource, message, remote)
            else:
                await self._join(sock, resource, message)
        except _Refused as refused:
            await messages.send(sock, for_version(refused.refusal.encode(), version), OPENING_WITHIN)
            raise

    async def _remote(self, name: str, peer: str) -> Address | None:
        """The resource's `remote` if that is `peer`, an IP address."""
        resource = self._resources.get(name)
        remote = None if resource is None else resource.config.remote
        return remote if await _is_one_of(peer, {remote}) else None

    async def _answer(self, sock: trio.socket.SocketType, probe: Probe, remote: Address | None) -> None:
        """To a check, whatever the role is; nothing else changes by it."""
        resource = self._known(probe.resource, remote)
        answer = await answering.answer(resource.config, resource.role)
        await messages.send(sock, answer.encode(), OPENING_WITHIN)

    def _find(self, message: Hello | Joining, remote: Address | None) -> Acceptor:
        """The resource, if it takes a primary from `remote`."""
        name = message.resource
        resource = self._known(name, remote)
        if resource.role is not Role.SECONDARY:
            reason = f"we act as {resource.role.word} for resource {name} and not as secondary."
            raise _Refused(handshake.acts_as(resource.role), reason, wait=resource.role is Role.PRIMARY)
        return resource

    def _known(self, name: str, remote: Address | None) -> Acceptor:
        """The resource, if `remote` is its other node: it may have been configured anew since that was found."""
        resource = self._resources.get(name)
        if resource is None:
            raise _Refused(handshake.NOT_CONFIGURED, f"resource {name} is not configured here.")
        if remote is None or remote != resource.config.remote:
            raise _Refused(handshake.NO_ACCESS, f"it is not the remote address of resource {name}.")
        return resource

    async def _open(
        self, sock: trio.socket.SocketType, resource: Acceptor, hello: Hello, remote: Address | None
    ) -> None:
        """Steps 1 and 2; then the connection waits for its second one, whose task takes it away."""
        name = hello.resource
        half = _HalfOpen(sock, handshake.negotiate(hello.version))
        if (before := self._half_open.get(name)) is not None:
            before.scope.cancel()
        self._half_open[name] = half
        try:
            with half.scope:
                await resource.drop_link()
                self._find(hello, remote)  # The role may have changed meanwhile.
                welcome = Welcome(half.version, half.token).encode()
                await messages.send(sock, for_version(welcome, half.version), OPENING_WITHIN)
                await trio.sleep(resource.config.timeout)
                raise ProtocolError(f"resource {name}: no second connection came for {resource.config.timeout} s.")
        finally:
            if self._half_open.get(name) is half:
                del self._half_open[name]
        if not half.joined:
            raise ProtocolError(f"resource {name}: a newer connection takes its place.")

    async def _join(self, sock: trio.socket.SocketType, resource: Acceptor, joining: Joining) -> None:
        """Step 3: the second connection finds its first."""
        name = joining.resource
        half = self._half_open.get(name)
        if half is None or not hmac.compare_digest(half.token, joining.token):
            raise _Refused(handshake.BAD_TOKEN, f"resource {name}: its token does not match.")
        del self._half_open[name]
        half.joined = True
        half.scope.cancel()
        await resource.accept_link(IncomingLink(_take(half.sock), _take(sock), joining, half.version))


def _take(sock: trio.socket.SocketType) -> socket.socket:
    """The socket, away from trio; closing trio's object does not close it any more."""
    return socket.socket(fileno=sock.detach())


async def _is_one_of(peer: str, remotes: Collection[Address | None]) -> bool:
    """Whether the IP address `peer` is one of `remotes`. Names are looked up anew each time, all at once, and only if
    `peer` is not given as a number: a name server that does not answer is nothing to resources that need none.
    """
    names: list[Address] = []
    for remote in filter(None, remotes):
        try:
            if _canonical(remote.host) == _canonical(peer):
                return True
        except ValueError:
            names.append(remote)
    found = False
    async with trio.open_nursery() as nursery:

        async def look_up(remote: Address) -> None:
            nonlocal found
            if _canonical(peer) in await _addresses(remote):
                found = True
                nursery.cancel_scope.cancel()

        for name in names:
            nursery.start_soon(look_up, name)
    return found


async def _addresses(name: Address) -> set[str]:
    try:
        found = await trio.socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("Unable to look up remote address %s: %s.", name.text, error.strerror)
        return set()
    return {_canonical(str(entry[4][0])) for entry in found}


def _canonical(host: str) -> str:
    """One spelling per address; an interface (fe80::1%eth0) is not part of it. ValueError if it is a name."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
