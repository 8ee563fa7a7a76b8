"""Going on as the program that is installed now, in the same process, with all that is in service (docs/upgrading.md).

The one side, `Upgrader`: sees that nothing else is going on, that the new program can take over, and becomes it. Until
then nothing is lost if it does not come to that. Workers do not notice. The other side, `Heir`, is that program: it has
the resources as they were, puts workers of its own in the place of those it found, and answers whoever asked for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import trio

from hastfs import __version__
from hastfs.config import files
from hastfs.daemon import messages
from hastfs.daemon.adopted import reap
from hastfs.daemon.controlserver import REQUEST_WITHIN, ControlServer
from hastfs.daemon.doors import Doors
from hastfs.daemon.inheritance import Inheritance
from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.program import Program
from hastfs.daemon.reloader import Reloader
from hastfs.daemon.resources import Resources, at_once
from hastfs.errors import BusyError, HastError, SystemFailure
from hastfs.facts import about
from hastfs.model import Role
from hastfs.protocol.control import Reply, ResourceStatus

log = logging.getLogger(__name__)

QUIET_WITHIN = 30.0
"""Seconds that requests, role changes and hooks which are under way have to come to an end."""

_LAST_HOOKS_WITHIN = 1.0  # Seconds; nobody replaces a worker that dies meanwhile.
_SIGNALS_ARRIVE_WITHIN = 0.01  # Seconds from a signal to what it brings about.

_RENEWED_AT_ONCE = 2
"""More would make each pause longer: processes start one after the other on few processors."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They wait from one program to the other."""


class Upgrader:
    """One upgrade at a time; none while hastd is being configured anew."""

    def __init__(
        self,
        program: Program,
        resources: Resources,
        doors: Doors,
        control: ControlServer,
        reloader: Reloader,
    ) -> None:
        self._program = program
        self._resources = resources
        self._doors = doors
        self._control = control
        self._reloader = reloader
        self._upgrading = False

    async def upgrade(self, client: int) -> None:
        """For the request that came over the descriptor `client`. Does not return; HastError, with hastd going on as
        before, if the new program cannot take over, or if hastd is too busy to let it.
        """
        if self._upgrading:
            raise BusyError("hastd is being upgraded already.")
        self._upgrading = True
        self._control.pause()
        try:
            await self._upgrade(client)
        except HastError as error:
            log.error("%s", error)
            raise
        finally:
            self._upgrading = False
            self._control.resume()

    async def _upgrade(self, client: int) -> None:
        async with self._quiet() as config:
            version = await self._program.check(self._leave(config, client))
            async with self._last_moment():
                log.info("Version %s takes over from version %s.", version, __version__)
                await self._control.dismiss("upgrade")
                self._program.become(self._leave(config, client))

    @contextlib.asynccontextmanager
    async def _quiet(self) -> AsyncIterator[str]:
        """No role changes, no reload, no other client and no hook is running. The text of hast.conf."""
        async with contextlib.AsyncExitStack() as unchanging:
            with trio.move_on_after(QUIET_WITHIN) as patience:
                await self._control.alone()
                await unchanging.enter_async_context(self._reloader.reloading)
                for resource in self._resources.values():
                    await unchanging.enter_async_context(resource.changing)
                await self._resources.hooks.finished()
            if patience.cancelled_caught:
                raise self._busy()
            yield await trio.to_thread.run_sync(files.read, self._program.config)

    def _busy(self) -> BusyError:
        going_on = f"other requests are still being carried out after {QUIET_WITHIN:g} s"
        if self._resources.hooks.busy:
            going_on = f"hooks are still running ({', '.join(self._resources.hooks.busy)})"
        return BusyError(f"hastd goes on as it is: {going_on}. Try again later.")

    @contextlib.asynccontextmanager
    async def _last_moment(self) -> AsyncIterator[None]:
        """What was begun meanwhile is over: not even a worker is being started. What comes next comes after it."""
        async with contextlib.AsyncExitStack() as unchanging:
            for resource in self._resources.values():
                await unchanging.enter_async_context(resource.unchanging())
            with _signals_blocked():
                await trio.sleep(_SIGNALS_ARRIVE_WITHIN)
                with trio.move_on_after(_LAST_HOOKS_WITHIN):
                    await self._resources.hooks.finished()
                if self._resources.hooks.busy:
                    raise self._busy()
                if self._reloader.reloading.statistics().tasks_waiting:
                    os.kill(os.getpid(), signal.SIGHUP)  # for the next program: nobody else will remember it
                yield

    def _leave(self, config: str, client: int) -> Inheritance:
        resources = [resource.bequeath() for resource in self._resources.values()]
        now = self._resources.config
        return Inheritance(
            version=__version__,
            command=self._program.command,
            directory=self._program.directory,
            config=config,
            mountdir=now.mountdir,
            doors=self._doors.bequeath(now),
            client=client,
            resources=tuple(resource for resource in resources if resource is not None),
            helpers=tuple(self._resources.launcher.helpers),
            kept=tuple(self._resources.launcher.kept),
        )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A mask survives execve(2), and so does what waits behind it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Heir:
    """What the new program does once it has taken over."""

    def __init__(self, left: Inheritance, resources: Resources) -> None:
        self._left = left
        self._resources = resources
        self._client = socket.socket(fileno=left.client)

    async def run(self) -> None:
        """Returns when nothing of the program before is left. If cancelled, its workers stay: they are stopped like
        others.
        """
        told = about("upgrade", **{"from": self._left.version, "to": __version__})
        log.info("hastd %s took over from version %s.", __version__, self._left.version, extra=told)
        with contextlib.closing(self._client):
            await self._warm_up()
            reply = Reply(before=self._left.version, version=__version__, resources=await self._renew_all())
            await self._answer(reply)
        for fd in self._left.kept:
            os.close(fd)
        await at_once(reap, self._left.helpers)

    async def _warm_up(self) -> None:
        """First workers start slowly, and applications would wait for it."""
        try:
            await self._resources.launcher.warm_up()
        except SystemFailure as error:
            log.error("%s", error)

    async def _renew_all(self) -> list[ResourceStatus]:
        """How it went, by resource."""
        names = [resource.name for resource in self._left.resources]
        names.sort(key=lambda name: self._resources[name].role is not Role.PRIMARY)
        answers: dict[str, ResourceStatus] = {}
        places = trio.Semaphore(_RENEWED_AT_ONCE)

        async def renew(name: str) -> None:
            async with places:
                answers[name] = await _renew(self._resources[name])

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(renew, name)
                await trio.lowlevel.checkpoint()
        return [answers[resource.name] for resource in self._left.resources]

    async def _answer(self, reply: Reply) -> None:
        with contextlib.suppress(trio.TooSlowError, OSError):  # Whoever asked has given up.
            await messages.send(trio.socket.from_stdlib_socket(self._client), reply.encode(), REQUEST_WITHIN)


async def _renew(resource: ManagedResource) -> ResourceStatus:
    name = resource.config.name
    try:
        await resource.renew()
    except HastError as error:
        log.error("%s", error)
        return ResourceStatus(name, error.exit_code, str(error), role=resource.role.word)
    return ResourceStatus(name, role=resource.role.word)
