"""What a worker process is started with. Everything in it can be handed over: values, sockets, descriptors."""

from __future__ import annotations

import importlib
import io
import pickle
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.logs import LogSettings
from hastfs.model import Role
from hastfs.protocol.handshake import Joining
from hastfs.resource.remotecache import Risk

WORKER_MODULE = "hastfs.daemon.worker"
"""Only workers load it and the engines that it imports; the supervisor needs neither."""


@dataclass(frozen=True, slots=True)
class PassedFd:
    """A descriptor that is duplicated into the worker when a job is handed over."""

    fd: int


@dataclass(frozen=True, slots=True)
class PrimaryJob:
    """Serve the image behind the /dev/fuse descriptor `fuse`."""

    config: ResourceConfig
    logs: LogSettings
    link: socket.socket
    fuse: PassedFd
    force: bool
    taking_over: bool
    """A worker served this descriptor before."""
    in_order: bool
    """It left no request unanswered."""
    alone: bool = False
    """It had no link to the other node."""
    detached: bytes | None = None
    """It had parted with its component and left this metadata (hastfs.resource.detaching)."""
    attaching: bool = False
    """The component is to be used again nevertheless."""
    risk: Risk | None = None
    """What it said last of what only the other node's cache may have; None if there was none before."""
    fenced: bool = False
    """It was allowed to be without the other node (hast.conf(5), fence)."""

    @property
    def role(self) -> Role:
        return Role.PRIMARY


@dataclass(frozen=True, slots=True)
class SecondaryJob:
    """Serve the primary at the other end of the two connections, from step 4 of the handshake on."""

    config: ResourceConfig
    logs: LogSettings
    link: socket.socket
    first: socket.socket
    second: socket.socket
    joining: Joining
    version: int

    @property
    def role(self) -> Role:
        return Role.SECONDARY


Job: TypeAlias = PrimaryJob | SecondaryJob


def do_nothing(_: None) -> None:
    """The entry of a process that only shows that processes can be started."""


def work(job: Job) -> None:
    """The worker process's entry."""
    importlib.import_module(WORKER_MODULE).main(job)


def pack(target: Callable[[Any], None], argument: object) -> tuple[bytes, list[int]]:
    """A call in bytes, and the descriptors to send along. Sockets and PassedFds are handed over by descriptor."""
    packer = _Packer(buffer := io.BytesIO())
    packer.dump((target, argument))
    return buffer.getvalue(), packer.fds


def unpack(data: bytes, fds: Sequence[int]) -> tuple[Callable[[Any], None], Any]:
    """In the other process, where the descriptors arrived in the same order. Only for what `pack` of hastd made."""
    return _Unpacker(data, fds).load()  # type: ignore[no-any-return]


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.fds: list[int] = []

    def persistent_id(self, thing: Any) -> tuple[bool, int] | None:
        match thing:
            case socket.socket():
                self.fds.append(thing.fileno())
            case PassedFd():
                self.fds.append(thing.fd)
            case _:
                return None
        return isinstance(thing, socket.socket), len(self.fds) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, data: bytes, fds: Sequence[int]) -> None:
        super().__init__(io.BytesIO(data))
        self._fds = fds

    def persistent_load(self, which: Any) -> socket.socket | PassedFd:
        is_socket, index = which
        return socket.socket(fileno=self._fds[index]) if is_socket else PassedFd(self._fds[index])
