"""hastd's main program: resources, and the doors through which orders come: listeners, control socket, signals."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hastfs.config.schema import Config
from hastfs.daemon.autorole import AutoRole
from hastfs.daemon.controlserver import ControlServer
from hastfs.daemon.doors import Doors
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.inheritance import Inheritance
from hastfs.daemon.launcher import Launcher
from hastfs.daemon.listener import Listener
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.newsroom import Newsroom
from hastfs.daemon.notify import Notifier
from hastfs.daemon.program import Program
from hastfs.daemon.reloader import Reloader
from hastfs.daemon.resources import Resources, at_once
from hastfs.daemon.upgrader import SIGNALS, Heir, Upgrader
from hastfs.errors import BusyError, HastError
from hastfs.facts import about
from hastfs.model import Role
from hastfs.protocol.control import ALL, ERROR_NO_RESOURCE, Reply, Request, ResourceStatus
from hastfs.resource.waiting import Wakeup

if TYPE_CHECKING:
    from hastfs.daemon.metrics.endpoint import Endpoint

log = logging.getLogger(__name__)

_HOOKS_FINISH_WITHIN = 10.0
"""Seconds that hooks have after everything else has ended; what still runs then is killed."""

_Do = Callable[[ManagedResource], Awaitable[ResourceStatus]]


def _unheard(_number: int, _frame: object) -> None:
    """Not SIG_IGN, which processes that are started would inherit."""


class Supervisor:
    """Everything hastd does once it is set up."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        doors: Doors,
        launcher: Launcher,
        logs: LogSettings,
        *,
        program: Program,
        left: Inheritance | None = None,
    ) -> None:
        """`read`: gives the configuration anew; HastError if it cannot be used. `left`: what there is to go on with."""
        self._left = left
        self._hooks = Hooks()
        self._newsroom = Newsroom(lambda: self._resources)
        self._resources = Resources(config, launcher, self._hooks, logs, tell=self._newsroom.happened)
        self._doors = doors
        self._listener = Listener(self._resources)
        self._control = ControlServer(self, self._newsroom)
        self._reloader = Reloader(self._resources, doors, read, self._serve_doors)
        self._upgrader = Upgrader(program, self._resources, doors, self._control, self._reloader)
        self._metrics: Endpoint | None = None
        self._serving: trio.Nursery
        self._autorole = AutoRole(self._resources, lambda: self._resources.config)
        self._notifier = Notifier(program.environment)
        self._hangup = Wakeup()
        self._ending = trio.Event()
        self._stopping = False  # An orderly stop is under way: no new roles.

    async def run(self, serving: Callable[[], None]) -> None:
        """Runs until a signal or `end`; calls `serving` when everything can be reached. Closes the doors' sockets.

        Signals that come later than that are ignored: the process has to end anyway, and in order.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hooks.run)
            nursery.start_soon(self._notifier.run, self._summary)
            await nursery.start(self._obey_signals)
            async with trio.open_nursery() as resources:
                await resources.start(self._resources.run)
                if self._left is not None:
                    self._resources.inherit(self._left)
                async with trio.open_nursery() as doors:
                    doors.start_soon(self._listener.run, self._doors.listeners)
                    doors.start_soon(self._newsroom.run)
                    doors.start_soon(self._control.run, self._doors.control)
                    self._serving = doors
                    self._serve_metrics()
                    doors.start_soon(self._reload_on_hangup)
                    if self._left is not None:
                        doors.start_soon(Heir(self._left, self._resources).run)
                    doors.start_soon(self._autorole.run)
                    serving()
                    self._notifier.ready()
                    await self._ending.wait()
                    self._notifier.stopping()
                    await self._control.dismiss("stop")
                    doors.cancel_scope.cancel()
                await self._leave_all(force=True)
                resources.cancel_scope.cancel()
            with trio.move_on_after(_HOOKS_FINISH_WITHIN):
                await self._hooks.finished()
            nursery.cancel_scope.cancel()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Python's own end puts back the default for handlers of its own

    async def _obey_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for each in SIGNALS:
            signal.signal(each, _unheard)  # what is in force again after the receiver's end
        with trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the program before may have left them waiting
            async for number in signals:
                if number == signal.SIGHUP:
                    self._hangup.set()
                elif not self._ending.is_set():
                    log.info("Termination signal received, exiting.", extra=about("stop"))
                    self._ending.set()

    async def _reload_on_hangup(self) -> None:
        while True:
            await self._hangup.wait()
            with contextlib.suppress(HastError):  # The log says it; there is nobody else to tell.
                await self._reload(force=False)

    def _serve_doors(self) -> None:
        self._listener.listen_on(self._doors.listeners)
        self._control.listen_on(self._doors.control)
        self._serve_metrics()

    def _serve_metrics(self) -> None:
        """Its libraries are loaded only if somebody wants metrics."""
        sockets = self._doors.metrics
        if self._metrics is not None:
            self._metrics.listen_on(sockets)
        elif sockets:
            from hastfs.daemon.metrics.endpoint import Endpoint  # noqa: PLC0415

            self._metrics = Endpoint(self._resources)
            self._serving.start_soon(self._metrics.run, sockets)

    async def reload(self, request: Request) -> Reply:
        """Reads the configuration again. HastError if it is not in force then, or cost a resource its role."""
        await self._reload(force=request.force)
        return Reply()

    async def _reload(self, *, force: bool) -> None:
        if self._stopping:
            raise BusyError("hastd is stopping.")
        self._notifier.reloading()
        try:
            await self._reloader.reload(force=force)
            await self._autorole.remember()
        finally:
            self._notifier.ready()
            self._newsroom.configured()

    def _summary(self) -> str:
        """For `systemctl status`."""
        roles = [resource.role for resource in self._resources.values()]
        counts = (f"{roles.count(role)} {role.word}" for role in (Role.PRIMARY, Role.SECONDARY, Role.INIT))
        return f"Resources: {', '.join(counts)}."

    async def upgrade(self, client: int) -> Reply:
        """Goes on as the program that is installed now, which answers over the descriptor `client`. HastError if it
        cannot, and this one goes on.
        """
        if self._stopping:
            raise BusyError("hastd is stopping.")
        await self._upgrader.upgrade(client)
        return Reply()

    async def set_role(self, request: Request) -> Reply:
        """Of all resources that are asked for, at the same time."""
        role = request.role
        assert role is not None, "protocol.control checks that"
        if self._stopping:
            raise BusyError("hastd is stopping.")

        self._autorole.decided(self._names(request.resources))

        async def change(resource: ManagedResource) -> ResourceStatus:
            try:
                before = await resource.set_role(role, force=request.force)
            except HastError as error:
                return ResourceStatus(resource.config.name, error.exit_code, str(error), role=resource.role.word)
            return ResourceStatus(resource.config.name, role=before.word)

        reply = await self._for_each(request.resources, change)
        await self._autorole.remember()
        return reply

    async def attach(self, request: Request) -> Reply:
        """The components of all resources that are asked for, at the same time."""
        if self._stopping:
            raise BusyError("hastd is stopping.")

        async def attach(resource: ManagedResource) -> ResourceStatus:
            try:
                await resource.attach()
            except HastError as error:
                return ResourceStatus(resource.config.name, error.exit_code, str(error), role=resource.role.word)
            return ResourceStatus(resource.config.name, role=resource.role.word)

        return await self._for_each(request.resources, attach)

    async def status(self, request: Request) -> Reply:
        """Of all resources that are asked for, at the same time."""

        async def look(resource: ManagedResource) -> ResourceStatus:
            status = await resource.status()
            if request.details:
                status.details = await resource.details(request.cells)
            return status

        return await self._for_each(request.resources, look)

    async def log_level(self, request: Request) -> Reply:
        """What is logged about the resources that are asked for, and if that is all, about everything else."""
        level, of_all = request.level, request.resources == (ALL,)
        if level is not None and of_all:
            self._resources.log_as(replace(self._resources.logs, chosen=level))

        async def tell(resource: ManagedResource) -> ResourceStatus:
            name = resource.config.name
            if level is not None and not of_all:
                self._resources.log_as(replace(resource.log_settings, chosen=level), [name])
            return ResourceStatus(name, loglevel=resource.log_settings.level.value)

        reply = await self._for_each(request.resources, tell)
        if of_all:
            reply.loglevel = self._resources.logs.level.value
        return reply

    async def stop(self, request: Request) -> Reply:
        """Puts all resources out of service. BusyError, with none of them touched, if one is in use: unless forced."""
        if not request.force:
            await self._resources.refuse_if_held(self._resources)
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

    async def _leave_all(self, *, force: bool) -> None:
        """Every resource to `init`. The first error is raised when all have been tried."""
        errors: list[HastError] = []

        async def leave(resource: ManagedResource) -> None:
            try:
                await resource.set_role(Role.INIT, force=force, wanted=False)
            except HastError as error:
                log.error("%s", error)
                errors.append(error)

        await at_once(leave, self._resources.values())
        if errors and not force:
            raise errors[0]

    def _names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Without the word that stands for all."""
        return tuple(self._resources) if tuple(names) == (ALL,) else tuple(names)

    async def _for_each(self, names: Sequence[str], do: _Do) -> Reply:
        """One answer per name, in order; a name that is not configured has error 1."""
        wanted = self._names(names)
        answers: dict[str, ResourceStatus] = {}

        async def answer(name: str) -> None:
            resource = self._resources.get(name)
            answers[name] = ResourceStatus(name, ERROR_NO_RESOURCE) if resource is None else await do(resource)

        await at_once(answer, dict.fromkeys(wanted))
        return Reply(resources=[answers[name] for name in wanted])
