"""What a worker process is started with. Everything in it can be handed over: values, sockets, descriptors."""

from __future__ import annotations

import importlib
import socket
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any, TypeAlias

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.logs import LogSettings
from hastfs.model import Role
from hastfs.protocol.handshake import Joining

WORKER_MODULE = "hastfs.daemon.worker"
"""Only workers load it and the engines that it imports; the supervisor needs neither."""


@dataclass(frozen=True, slots=True)
class PassedFd:
    """A descriptor that is duplicated into the worker when a job is handed over."""

    fd: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.fd),)


def _arrived(passed: Any) -> PassedFd:
    return PassedFd(passed.detach())


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
