"""hastd's main program: resources, and the doors through which orders come: listeners, control socket, signals."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import trio

from hastfs.config.schema import Config
from hastfs.daemon.controlserver import ControlServer
from hastfs.daemon.export import Export
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.launcher import Launcher
from hastfs.daemon.listener import Listener
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.roles import busy
from hastfs.errors import BusyError, HastError
from hastfs.model import Role
from hastfs.protocol.control import ALL, ERROR_NO_RESOURCE, Reply, Request, ResourceStatus

log = logging.getLogger(__name__)

_HOOKS_FINISH_WITHIN = 10.0
"""Seconds that hooks have after everything else has ended; what still runs then is killed."""

_T = TypeVar("_T")
_Do = Callable[[ManagedResource], Awaitable[ResourceStatus]]


class Supervisor:
    """Everything hastd does once it is set up."""

    def __init__(self, config: Config, launcher: Launcher, logs: LogSettings) -> None:
        self._hooks = Hooks()
        self._resources = {
            name: ManagedResource(resource, launcher, self._hooks, logs, partial(Export, config.mountdir, resource))
            for name, resource in config.resources.items()
        }
        self._ending = trio.Event()
        self._stopping = False  # An orderly stop is under way: no new roles.

    async def run(
        self, listeners: Sequence[socket.socket], control: socket.socket, serving: Callable[[], None]
    ) -> None:
        """Runs until a signal or `end`; calls `serving` when everything can be reached. Closes the sockets."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hooks.run)
            await nursery.start(self._obey_signals)
            async with trio.open_nursery() as resources:
                for resource in self._resources.values():
                    await resources.start(resource.run)
                async with trio.open_nursery() as doors:
                    doors.start_soon(Listener(self._resources).run, listeners)
                    doors.start_soon(ControlServer(self).run, control)
                    serving()
                    await self._ending.wait()
                    doors.cancel_scope.cancel()
                await self._leave_all(force=True)
                resources.cancel_scope.cancel()
            with trio.move_on_after(_HOOKS_FINISH_WITHIN):
                await self._hooks.finished()
            nursery.cancel_scope.cancel()

    async def _obey_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    log.warning("SIGHUP ignored: a changed configuration takes effect when hastd is started again.")
                else:
                    log.info("Termination signal received, exiting.")
                    self._ending.set()

    async def set_role(self, request: Request) -> Reply:
        """Of all resources that are asked for, at the same time."""
        role = request.role
        assert role is not None, "protocol.control checks that"
        if self._stopping:
            raise BusyError("hastd is stopping.")

        async def change(resource: ManagedResource) -> ResourceStatus:
            try:
                before = await resource.set_role(role, force=request.force)
            except HastError as error:
                return ResourceStatus(resource.config.name, error.exit_code, str(error), role=resource.role.word)
            return ResourceStatus(resource.config.name, role=before.word)

        return await self._for_each(request.resources, change)

    async def status(self, request: Request) -> Reply:
        """Of all resources that are asked for, at the same time."""
        return await self._for_each(request.resources, ManagedResource.status)

    async def stop(self, request: Request) -> Reply:
        """Puts all resources out of service. BusyError, with none of them touched, if one is in use: unless forced."""
        if not request.force:
            await self._refuse_if_held()
        self._stopping = True
        try:
            await self._leave_all(force=request.force)
        except BusyError:
            self._stopping = False
            raise
        return Reply()

    def end(self) -> None:
        """Makes `run` return; what is still in service is taken out of it."""
        self._ending.set()

    async def _refuse_if_held(self) -> None:
        held = {name: await resource.holders() for name, resource in self._resources.items()}
        if any(held.values()):
            raise BusyError(" ".join(busy(name, holders) for name, holders in held.items() if holders))

    async def _leave_all(self, *, force: bool) -> None:
        """Every resource to `init`. The first error is raised when all have been tried."""
        errors: list[HastError] = []

        async def leave(resource: ManagedResource) -> None:
            try:
                await resource.set_role(Role.INIT, force=force)
            except HastError as error:
                log.error("%s", error)
                errors.append(error)

        await _at_once(leave, self._resources.values())
        if errors and not force:
            raise errors[0]

    async def _for_each(self, names: Sequence[str], do: _Do) -> Reply:
        """One answer per name, in order; a name that is not configured has error 1."""
        wanted = tuple(self._resources) if tuple(names) == (ALL,) else tuple(names)
        answers: dict[str, ResourceStatus] = {}

        async def answer(name: str) -> None:
            resource = self._resources.get(name)
            answers[name] = ResourceStatus(name, ERROR_NO_RESOURCE) if resource is None else await do(resource)

        await _at_once(answer, dict.fromkeys(wanted))
        return Reply(resources=[answers[name] for name in wanted])


async def _at_once(do: Callable[[_T], Awaitable[None]], items: Iterable[_T]) -> None:
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(do, item)
