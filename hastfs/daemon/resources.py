"""The resources of this node, as hast.conf has them: they come and go when it is read again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import trio

from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon import logs
from hastfs.daemon.export import Export
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.inheritance import Inheritance
from hastfs.daemon.launcher import Launcher
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import ManagedResource, Tell
from hastfs.daemon.reload import Plan
from hastfs.daemon.roles import busy
from hastfs.errors import BusyError
from hastfs.model import LogFormat

_T = TypeVar("_T")


class Resources(Mapping[str, ManagedResource]):
    """By name, in the order of the file. `run` must be running for everything but looking."""

    def __init__(
        self,
        config: Config,
        launcher: Launcher,
        hooks: Hooks,
        log_settings: LogSettings,
        *,
        tell: Tell = lambda _name, _event: None,
    ) -> None:
        self.config = config
        self.launcher = launcher
        self.hooks = hooks
        self.logs = log_settings
        self._tell = tell
        self._nursery: trio.Nursery
        self._by_name = {name: self._make(resource) for name, resource in config.resources.items()}

    def __getitem__(self, name: str) -> ManagedResource:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Runs until cancelled; see `ManagedResource.run`."""
        async with trio.open_nursery() as self._nursery:
            for resource in self.values():
                await self._nursery.start(resource.run)
            task_status.started()
            await trio.sleep_forever()

    def inherit(self, left: Inheritance) -> None:
        """This process has them in service already, under another program. To be called while they run."""
        for resource in left.resources:
            self[resource.name].inherit(resource)

    async def become(self, config: Config, plan: Plan) -> None:
        """What `config` says, which differs from the present one by `plan`. All that are stopped are `init`, and
        nobody changes the role of any resource in the plan.
        """
        added = {name: self._make(config.resources[name]) for name in plan.added}
        for resource in added.values():
            await self._nursery.start(resource.run)
        for name in plan.removed:
            self[name].end()
        self.config = config
        self._by_name = {name: added.get(name) or self[name] for name in config.resources}
        self._log_in(config.logformat)
        await at_once(lambda name: self[name].apply(config.resources[name]), plan.restarted + plan.applied)

    def log_as(self, settings: LogSettings, names: Iterable[str] | None = None) -> None:
        """`names`: those resources only; None: all lines of hastd, also of resources to come."""
        if names is None:
            self.logs = settings
            logs.change(settings)
        for name in self if names is None else names:
            self[name].log_as(settings)
            logs.change(settings, name)

    async def refuse_if_held(self, names: Iterable[str]) -> None:
        """BusyError, which says by whom, if the image or the device of one of them is in use."""
        held = {name: await self[name].holders() for name in tuple(names) if name in self}
        if any(held.values()):
            raise BusyError(" ".join(busy(name, holders) for name, holders in held.items() if holders))

    def _log_in(self, form: LogFormat) -> None:
        """Each keeps its level."""
        if form is self.logs.form:
            return
        self.logs = replace(self.logs, form=form)
        logs.change(self.logs)
        for name, resource in self.items():
            self.log_as(replace(resource.log_settings, form=form), [name])

    def _make(self, config: ResourceConfig) -> ManagedResource:
        return ManagedResource(config, self.launcher, self.hooks, self.logs, self._export, tell=self._tell)

    def _export(self, config: ResourceConfig) -> Export:
        return Export(self.config.mountdir, config)


async def at_once(do: Callable[[_T], Awaitable[None]], items: Iterable[_T]) -> None:
    """Does it to all items at the same time."""
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(do, item)
