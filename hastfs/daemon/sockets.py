"""The sockets hastd listens on, opened before it detaches, so that whoever starts it hears what is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from hastfs.address import Address, parse
from hastfs.errors import SystemFailure

DEFAULT_LISTEN = ("tcp4://0.0.0.0", "tcp6://[::]")
"""hast.conf(5), listen: where the kernel has the family."""

_BACKLOG = 64
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

Place: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Family and address of a listening socket, as `bind` takes it."""


def listen_tcp(
    addresses: tuple[Address, ...], have: Mapping[Place, socket.socket] = MappingProxyType({})
) -> dict[Place, socket.socket]:
    """Listening sockets for `addresses`, or for the defaults if there are none: from `have` where it has them.

    SystemFailure, with nothing opened, if one cannot be had.
    """
    places: dict[Place, Address] = {}
    for address in addresses or tuple(parse(text) for text in DEFAULT_LISTEN):
        with _saying(address):
            places |= dict.fromkeys(_places(address), address)
    leaving = [sock for place, sock in have.items() if place not in places]
    with contextlib.ExitStack() as opened:
        listeners: dict[Place, socket.socket] = {}
        for place, address in places.items():
            if place in have:
                listeners[place] = have[place]
                continue
            with _saying(address, () if addresses else _NOT_HERE):
                listeners[place] = opened.enter_context(_listen(place, leaving))
        if not listeners:
            raise SystemFailure("Unable to listen on any address: the kernel has neither IPv4 nor IPv6.")
        opened.pop_all()
    return listeners


@contextlib.contextmanager
def _saying(address: Address, harmless: tuple[int, ...] = ()) -> Iterator[None]:
    """Raises SystemFailure for an OSError, unless its number is `harmless`."""
    try:
        yield
    except OSError as error:
        if error.errno not in harmless:
            raise SystemFailure(f"Unable to listen on address {address.text}: {error.strerror}.") from error


def _places(address: Address) -> list[Place]:
    """A name may mean several: all of them. Raises OSError."""
    found = socket.getaddrinfo(
        address.host, address.port, _FAMILIES[address.family], socket.SOCK_STREAM, 0, socket.AI_PASSIVE
    )
    return [(entry[0], entry[4]) for entry in found]


def _listen(place: Place, leaving: Sequence[socket.socket]) -> socket.socket:
    """`leaving`: sockets of ours that are going to be closed, and do not count as taking the place. Raises OSError."""
    try:
        return _bind(place)
    except OSError as error:
        in_the_way = [sock for sock in leaving if sock.getsockname()[1] == place[1][1]]
        if error.errno != errno.EADDRINUSE or not in_the_way:
            raise
    # From every address to a single one, or back: the kernel lets them overlap only if both say that they share.
    for sock in in_the_way:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        return _bind(place, shared=True)
    finally:
        for sock in in_the_way:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _bind(place: Place, *, shared: bool = False) -> socket.socket:
    family, sockaddr = place
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(sockaddr)
        listener.listen(_BACKLOG)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        opened.pop_all()
    return listener


def listen_control(path: str) -> socket.socket:
    """The control socket, mode 0600. Never takes the path away from a daemon that still answers there.

    SystemFailure if there is one, or the socket cannot be made.
    """
    try:
        _remove_stale(path)
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(path)
            opened.callback(os.unlink, path)
            os.chmod(path, 0o600)  # nobody can connect before `listen`
            listener.listen(_BACKLOG)
            opened.pop_all()
    except OSError as error:
        raise SystemFailure(f"Unable to listen on control socket {path}: {error.strerror or error}.") from error
    return listener


def own_control(listener: socket.socket) -> None:
    """Makes this process, after it detached, the one that clients see at the other end (SO_PEERCRED)."""
    listener.listen(_BACKLOG)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SystemFailure(f"Unable to listen on control socket {path}: something else is there.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except TimeoutError:
            pass  # Somebody is there, if busy.
    raise SystemFailure(f"Another hastd is already running: it answers on control socket {path}.")
