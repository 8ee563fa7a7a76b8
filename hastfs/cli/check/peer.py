"""Asks the other node's listener, over a connection of its own that ends with the answer."""

from __future__ import annotations

import errno
import secrets
import socket
import time
from dataclasses import dataclass

import trio

from hastfs.address import Address
from hastfs.cli.check.findings import Finding, ok, problem, warning
from hastfs.config.schema import ResourceConfig
from hastfs.daemon import messages
from hastfs.errors import ProtocolError, plain
from hastfs.protocol.frame import MAX_NV
from hastfs.protocol.handshake import TOKEN_SIZE, Refusal
from hastfs.protocol.probe import Answer, Probe

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}


@dataclass(frozen=True, slots=True)
class Asked:
    """`answer` is None if there is none; then the findings say why."""

    findings: list[Finding]
    answer: Answer | Refusal | None = None
    here: str = ""
    """The address from which this node asked."""
    ahead: float = 0.0
    """Seconds by which the other node's clock is, if it said its time."""


async def ask(config: ResourceConfig, within: float) -> Asked:
    """Bounded: `within` seconds in all. Never raises."""
    if config.remote is None:
        return Asked([warning("peer", "`remote none`: this node has no other one for this resource yet.")])
    findings: list[Finding] = []
    with trio.move_on_after(within):
        return await _ask(config, config.remote, findings)
    text = f"No answer from {config.remote.text} within {within:g} s: it is off, or a firewall is between."
    return Asked([*findings, problem("peer", text)])


async def _ask(config: ResourceConfig, remote: Address, findings: list[Finding]) -> Asked:
    try:
        found = await trio.socket.getaddrinfo(remote.host, remote.port, _FAMILIES[remote.family], socket.SOCK_STREAM)
    except OSError as error:
        return Asked([problem("address", f"{remote.host} cannot be looked up: {plain(error)}.")])
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    stands = "an address" if addresses == [remote.host] else ", ".join(addresses)
    findings.append(ok("address", f"{remote.host} is {stands}."))
    why: OSError | None = None
    for family, _, protocol, _, target in found:
        with trio.socket.socket(family, socket.SOCK_STREAM, protocol) as sock:
            try:
                if config.source is not None:
                    await sock.bind((config.source.host, 0))
            except OSError as error:
                text = f"source {config.source.text if config.source else ''} is not this node's: {plain(error)}."
                return Asked([*findings, problem("source", text)])
            try:
                await sock.connect(target)
            except OSError as error:
                why = error
                continue
            return await _exchange(sock, config, remote, findings)
    return Asked([*findings, problem("peer", _unreachable(remote, why))])


def _unreachable(remote: Address, why: OSError | None) -> str:
    if why is not None and why.errno == errno.ECONNREFUSED:
        return f"Nobody listens on {remote.text}: hastd does not run there, or has another `listen`."
    return f"{remote.text} cannot be reached: {'no address' if why is None else plain(why)}."


async def _exchange(
    sock: trio.socket.SocketType, config: ResourceConfig, remote: Address, findings: list[Finding]
) -> Asked:
    here = str(sock.getsockname()[0])
    asked_at = time.time()
    try:
        for buffer in Probe(config.name, secrets.token_bytes(TOKEN_SIZE)).encode():
            rest = memoryview(buffer)
            while rest:
                rest = rest[await sock.send(rest) :]
        answer = Answer.decode(await messages.receive_only(sock, MAX_NV))
    except (ProtocolError, OSError) as error:
        closed = isinstance(error, OSError) or "closed" in str(error)
        reason = f"{here}, this node's address, is not `remote` of any resource there" if closed else str(error)
        return Asked([*findings, problem("peer", f"{remote.text} does not answer: {reason}.")])
    ahead = answer.time - (asked_at + time.time()) / 2 if isinstance(answer, Answer) else 0.0
    return Asked(findings, answer, here, ahead)
