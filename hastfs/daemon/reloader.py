"""Reading hast.conf again: all of it takes effect, or nothing and whoever asked hears why.

Everything that can fail is tried first: reading the file, the doors, the components of resources that are to be
restarted, whether those to be stopped are in use. Leaving their roles is the last that can be refused, and is undone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

import trio

from hastfs.config.schema import Config
from hastfs.daemon.doors import Doors
from hastfs.daemon.managed import check_component
from hastfs.daemon.reload import Plan, compare
from hastfs.daemon.resources import Resources, at_once
from hastfs.errors import HastError
from hastfs.facts import about
from hastfs.model import Role

log = logging.getLogger(__name__)


class RoleLost(HastError):
    """The configuration is in force, but a resource did not get its role again; has the exit code of the reason."""

    def __init__(self, name: str, role: Role, reason: HastError) -> None:
        super().__init__(f"Configuration reloaded, but resource {name} is not {role.word} any more: {reason}")
        self.exit_code = reason.exit_code


class Reloader:
    """Reloads one at a time. `read`: gives the new configuration, may block; `serve`: called when the doors changed."""

    def __init__(
        self, resources: Resources, doors: Doors, read: Callable[[], Config], serve: Callable[[], None]
    ) -> None:
        self._resources = resources
        self._doors = doors
        self._read = read
        self._serve = serve
        self.reloading = trio.Lock()
        """Held meanwhile."""

    async def reload(self, *, force: bool) -> None:
        """HastError, with nothing changed, if the new configuration cannot be had: BusyError if a resource that it
        would stop is in use, unless `force`. RoleLost if it is in force, but not all is as it was. The log says it too.
        """
        async with self.reloading:
            try:
                lost = await self._reload(force=force)
            except HastError as error:
                log.error("Configuration not reloaded: %s", error, extra=about("reload-failed"))
                raise
            log.info("Configuration reloaded successfully.", extra=about("reload"))
        if lost:
            raise lost[0]

    async def _reload(self, *, force: bool) -> list[RoleLost]:
        config = await trio.to_thread.run_sync(self._read)
        plan = compare(self._resources.config, config)
        async with contextlib.AsyncExitStack() as unchanging:
            for name in plan.stopped + plan.applied:
                await unchanging.enter_async_context(self._resources[name].changing)
            await self._try(config, plan, force=force)
            opened = await trio.to_thread.run_sync(self._doors.open_for, config)
            try:
                had = await self._leave(plan.stopped, force=force)
                await trio.lowlevel.checkpoint_if_cancelled()  # hastd may be ending: nobody serves new doors then
            except BaseException:
                self._doors.refuse(opened)
                raise
            self._doors.take(opened)
            self._serve()
            await self._resources.become(config, plan)
            for warning in config.warnings:
                log.warning("%s", warning)
            return await self._enter({name: had[name] for name in plan.restarted})

    async def _try(self, config: Config, plan: Plan, *, force: bool) -> None:
        if not force:
            await self._resources.refuse_if_held(plan.stopped)
        for name in plan.restarted:
            if self._resources[name].role is not Role.INIT:
                await trio.to_thread.run_sync(check_component, config.resources[name])

    async def _leave(self, names: Iterable[str], *, force: bool) -> dict[str, Role]:
        """The roles that they had. If one cannot leave, the others get theirs again, and its error is raised."""
        had: dict[str, Role] = {}
        errors: list[HastError] = []

        async def leave(name: str) -> None:
            try:
                had[name] = await self._resources[name].leave(force=force)
            except HastError as error:
                errors.append(error)

        await at_once(leave, names)
        if errors:
            await self._enter(had)
            raise errors[0]
        return had

    async def _enter(self, had: Mapping[str, Role]) -> list[RoleLost]:
        lost: list[RoleLost] = []

        async def enter(name: str) -> None:
            try:
                await self._resources[name].enter(had[name])
            except HastError as error:
                log.error("Resource %s is not %s any more: %s", name, had[name].word, error)
                lost.append(RoleLost(name, had[name], error))

        await at_once(enter, had)
        return lost
