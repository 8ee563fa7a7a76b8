"""Addresses of hast.conf(5): where to listen, whom to connect to, where the control socket is. Nothing is looked up."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

DEFAULT_PORT = 8457
"""TCP port of hastd(8)."""

MAX_SOCKET_PATH = 107
"""Bytes; the longest path of a Unix socket (unix(7): 108 with the closing NUL)."""

Family: TypeAlias = Literal[4, 6]

_SCHEMES: dict[str, Family | None] = {"tcp": None, "tcp4": 4, "tcp6": 6}
_CONTROL_SCHEMES = ("uds://", "unix://")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_HOST = 253  # characters of a host name (RFC 1035, in text form)


@dataclass(frozen=True, slots=True)
class Address:
    """One TCP address.

    `host` is a host name, or an IP address in its canonical form and without brackets. `family` is None when both
    kinds of address will do for the name. `text` is what was configured: status and list print that.
    """

    host: str
    port: int
    family: Family | None
    text: str


def parse(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """`HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address, each with an optional `tcp://`, `tcp4://` or
    `tcp6://` before it (hast.conf(5), listen). Two or more colons without brackets are an IPv6 address without a port.

    Raises ValueError with the reason.
    """
    rest, family = _split_scheme(text)
    name, port = _split_port(rest, default_port)
    host, literal = _read_host(name)
    if family and literal and family != literal:
        raise ValueError(f"{name} is not an IPv{family} address")
    return Address(host, port, family or literal, text)


def parse_control(text: str) -> str:
    """The path in `/path`, `uds:///path` or `unix:///path` (hast.conf(5), control). Raises ValueError."""
    path = text
    for scheme in _CONTROL_SCHEMES:
        if text.lower().startswith(scheme):
            path = text[len(scheme) :]
    if not path.startswith("/"):
        raise ValueError("expected an absolute path, as in /path, uds:///path or unix:///path")
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
    return path


def _split_scheme(text: str) -> tuple[str, Family | None]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text, None
    # The original does not mind the case of a scheme either.
    if scheme.lower() not in _SCHEMES:
        raise ValueError(f"unknown kind of address {scheme}:// (expected tcp://, tcp4:// or tcp6://)")
    return rest, _SCHEMES[scheme.lower()]


def _split_port(rest: str, default_port: int) -> tuple[str, int]:
    """The host as written (an IPv6 address keeps its brackets) and the port."""
    if rest.startswith("["):
        name, bracket, port = rest.partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError("expected [IPV6] or [IPV6]:PORT")
        return name + bracket, _read_port(port[1:]) if port else default_port
    if rest.count(":") == 1:
        name, _, port = rest.partition(":")
        return name, _read_port(port)
    return rest, default_port


def _read_port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"port {text!r} is not a number from 1 to 65535")


def _read_host(name: str) -> tuple[str, Family | None]:
    """The host in its canonical form, and its family if it is an IP address."""
    if not name:
        raise ValueError("the host is missing")
    if "/" in name:
        raise ValueError("expected the address of one host, without / and a prefix length or path")
    if name.startswith("[") or ":" in name:
        try:
            return str(ipaddress.IPv6Address(name.removeprefix("[").removesuffix("]"))), 6
        except ValueError:
            raise ValueError(f"{name} is not an IPv6 address") from None
    if re.fullmatch(r"[0-9.]+", name):
        try:
            return str(ipaddress.IPv4Address(name)), 4
        except ValueError:
            raise ValueError(f"{name} is not an IPv4 address") from None
    # What passes here is what a resolver takes without an exception of its own.
    if len(name) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in name.removesuffix(".").split(".")):
        raise ValueError(f"{name!r} is not a host name")
    return name, None
