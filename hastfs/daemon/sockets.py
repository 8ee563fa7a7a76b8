"""The sockets hastd listens on, opened before it detaches, so that whoever starts it hears what is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from hastfs.address import Address, parse
from hastfs.errors import SystemFailure

DEFAULT_LISTEN = ("tcp4://0.0.0.0", "tcp6://[::]")
"""hast.conf(5), listen: where the kernel has the family."""

_BACKLOG = 64
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen_tcp(addresses: tuple[Address, ...]) -> list[socket.socket]:
    """Listening sockets for `addresses`, or for the defaults if there are none. SystemFailure if one cannot be had."""
    with contextlib.ExitStack() as opened:
        listeners: list[socket.socket] = []
        for address in addresses or tuple(parse(text) for text in DEFAULT_LISTEN):
            try:
                new = _listen(address)
            except OSError as error:
                if not addresses and error.errno in _NOT_HERE:
                    continue
                raise SystemFailure(f"Unable to listen on address {address.text}: {error.strerror}.") from error
            for listener in new:
                opened.callback(listener.close)
            listeners += new
        if not listeners:
            raise SystemFailure("Unable to listen on any address: the kernel has neither IPv4 nor IPv6.")
        opened.pop_all()
    return listeners


def _listen(address: Address) -> list[socket.socket]:
    """A name may mean several addresses: all of them. Raises OSError."""
    found = socket.getaddrinfo(
        address.host, address.port, _FAMILIES[address.family], socket.SOCK_STREAM, 0, socket.AI_PASSIVE
    )
    with contextlib.ExitStack() as opened:
        listeners = []
        for family, sockaddr in dict.fromkeys((entry[0], entry[4]) for entry in found):
            listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(sockaddr)
            listener.listen(_BACKLOG)
            listeners.append(listener)
        opened.pop_all()
    return listeners


def listen_control(path: str) -> socket.socket:
    """The control socket, mode 0600. Never takes the path away from a daemon that still answers there.

    SystemFailure if there is one, or the socket cannot be made.
    """
    try:
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
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
