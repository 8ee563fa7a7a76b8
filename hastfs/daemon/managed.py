"""One resource of this node: which role it has, and the way from one role to another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import trio

from hastfs.config.schema import FENCE_WITHIN, ResourceConfig
from hastfs.daemon.diagnosis import diagnosed, unanswered
from hastfs.daemon.export import Export
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.inheritance import InheritedResource
from hastfs.daemon.launcher import Launcher
from hastfs.daemon.listener import IncomingLink
from hastfs.daemon.logs import LogSettings, ResourceLog
from hastfs.daemon.roles import PrimaryRole, SecondaryRole, Surroundings
from hastfs.daemon.workers import STATUS_WITHIN, Worker
from hastfs.details import Details
from hastfs.errors import DataError, HastError, SystemFailure, one_line
from hastfs.facts import about
from hastfs.model import Consistency, Role
from hastfs.ondisk.layout import provider_size
from hastfs.protocol.control import ResourceStatus
from hastfs.resource.events import Event
from hastfs.resource.provision import open_component, read_metadata

_START_MARGIN = 8.0
"""Seconds beyond the resource's timeout to become primary: a peer that is primary may take that long to leave."""

Tell: TypeAlias = Callable[[str, Event | None], None]
"""Takes the name of a resource, and what happened to it."""


class ManagedResource:
    """Has the role `init` until told otherwise. `run` must be running for everything else."""

    def __init__(
        self,
        config: ResourceConfig,
        launcher: Launcher,
        hooks: Hooks,
        logs: LogSettings,
        make_export: Callable[[ResourceConfig], Export],
        *,
        tell: Tell = lambda _name, _event: None,
    ) -> None:
        """`make_export`: what applications see of this resource, anew for each time it is primary. `tell`: called for
        whatever happens, with the event if it has a name.
        """
        self.changing = trio.Lock()
        """Held by whoever changes the role or the configuration."""
        self.config = config
        self.role = Role.INIT
        self.wanted: Role | None = None
        """The role that somebody gave it, whatever became of it since; None: nobody did since hastd was started."""
        self._log = ResourceLog(logging.getLogger(__name__), config.name, lambda: self.role)
        self._around = Surroundings(config, launcher, logs, self._notify, self._log, hooks)
        self._hooks = hooks
        self._make_export = make_export
        self._tell = tell
        self._split_brain = False
        self._connects = self._disconnects = 0
        self._last_in_sync: float | None = None  # as the present worker, or one before it, said last
        self._resting: _Resting | None = None  # what a secondary's component says of itself
        self._ended = False
        self._nursery: trio.Nursery
        self._primary: PrimaryRole | None = None
        self._secondary: SecondaryRole | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Runs until cancelled; then workers are killed and the image is gone. See `set_role` for the orderly way."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def end(self) -> None:
        """`run` returns; there is no such resource any more. Only for one that has the role init."""
        self._ended = True
        self._nursery.cancel_scope.cancel()

    async def set_role(
        self, role: Role, *, force: bool, wanted: bool = True, unless: Callable[[], bool] = lambda: False
    ) -> Role:
        """Returns the role before. Raises HastError: BusyError with the role unchanged if the image is in use, and
        otherwise if the new role cannot be had: then a secondary stays one, and a primary is `init`. `force`: take
        and leave the role nevertheless; one that is primary already goes on without the other node.

        `wanted`: it is the role that this resource is to have again after a restart of hastd (autorole). `unless`:
        nothing is done if this is true when nobody else changes the role any more.
        """
        async with self.changing:
            before = self.role
            if unless():
                return before
            if role is before is Role.PRIMARY and force and self._primary is not None:
                self._primary.go_on()
            if role is not before:
                if self._ended:
                    raise DataError(f"Resource {self.config.name} is not configured any more.")
                await self._leave(force)
                reached = Role.INIT
                try:
                    await self._enter(role, force)
                    reached = role
                except HastError:
                    if before is Role.SECONDARY:  # a refused takeover must not end the replication that was
                        self._secondary = SecondaryRole(self._around, self._nursery)
                        reached = before
                    raise
                finally:
                    self._become(reached)
            if wanted:
                self.wanted = role
        return before

    async def attach(self) -> None:
        """Uses a component again that was repaired. HastError, with nothing changed, if that cannot be."""
        async with self.changing:
            if self._primary is not None:
                await self._primary.attach()
            elif self._secondary is not None:
                await trio.to_thread.run_sync(check_component, self.config)
                await self._secondary.drop()  # Its primary comes again, and the component is opened anew.
            else:
                raise DataError(f"Resource {self.config.name} has the role init: its component is not in use.")

    # -- for a new configuration; `changing` is held ---------------------------------------------------------------

    async def leave(self, *, force: bool) -> Role:
        """To init; the role before. BusyError, with nothing changed, if the image is in use: unless `force`."""
        before = self.role
        await self._leave(force)
        self._become(Role.INIT)
        return before

    async def enter(self, role: Role) -> None:
        """From init. Raises HastError if the role cannot be had."""
        await self._enter(role, force=False)
        self._become(role)

    async def apply(self, config: ResourceConfig) -> None:
        """From now on this counts. Component, image and device may be others only in the role init."""
        before, self.config = self.config, config
        self._around.config = config
        if self._primary is not None:
            await self._primary.apply()
        if self._secondary is not None:
            await self._secondary.apply(before)

    def log_as(self, settings: LogSettings) -> None:
        """From now on, its workers too: the one that runs, and those to come."""
        self._around.logs = settings
        worker = self._worker()
        if worker is not None:
            worker.log_as(settings)

    @property
    def log_settings(self) -> LogSettings:
        return self._around.logs

    # -- for another program in this process; `changing` is held by the one before ---------------------------------

    @asynccontextmanager
    async def unchanging(self) -> AsyncIterator[None]:
        """Meanwhile no primary's worker is started, and what `bequeath` said stays true but for the worker's end."""
        if self._primary is None:
            yield
            return
        async with self._primary.unchanging():
            yield

    def bequeath(self) -> InheritedResource | None:
        """What there is to go on with; None if it has the role init."""
        image, worker, in_order, detached, risk, fenced = None, None, False, None, None, False
        if self._primary is not None:
            image, worker, in_order, detached, risk = self._primary.bequeath()
            fenced = self._primary.fenced
        elif self._secondary is not None:
            worker = self._secondary.bequeath()
        else:
            return None
        config = self.config
        names = config.name, self.role.word, config.provider, config.local, config.device
        return InheritedResource(*names, self._split_brain, image, worker, in_order, detached, risk, fenced)

    def inherit(self, left: InheritedResource) -> None:
        """Has the role at once, and the worker of before until `renew`. Nothing of that is told to hooks."""
        self.role = self.wanted = Role.from_word(left.role)
        self._split_brain = left.split_brain
        if self.role is Role.PRIMARY:
            self._primary = PrimaryRole(self._around, self._make_export(self.config))
            self._primary.inherit(left)
            self._nursery.start_soon(partial(self._be_primary, self._primary, force=False))
        else:
            self._secondary = SecondaryRole(self._around, self._nursery)
            if left.worker is not None:
                self._secondary.inherit(left.worker)

    async def renew(self) -> None:
        """Returns when no worker of before is left. A secondary's primary has to connect anew. HastError if a primary
        cannot go on.
        """
        async with self.changing:
            if self._secondary is not None:
                await self._secondary.renew()
            if self._primary is None:
                return
            within = 2 * (self.config.timeout + _START_MARGIN)
            with trio.move_on_after(within):
                await self._primary.renew_worker(only_inherited=True)
                return
            raise SystemFailure(f"Resource {self.config.name} has no worker that serves it within {within:g} s.")

    # -- the ways from role to role ----------------------------------------------------------------------------------

    async def _leave(self, force: bool) -> None:
        if self._primary is not None:
            await self._primary.leave(force=force)
            self._primary = None
        if self._secondary is not None:
            await self._secondary.drop()
            self._secondary = None

    async def _enter(self, role: Role, force: bool) -> None:
        if role is Role.SECONDARY:
            # Its worker starts only when a primary connects: what is wrong with the component is better said now.
            # It is opened as the worker will open it: for writing, and locked.
            await trio.to_thread.run_sync(lambda: open_component(self.config).close())
            self._secondary = SecondaryRole(self._around, self._nursery)
        elif role is Role.PRIMARY:
            self._primary = await self._start_primary(force)

    async def _start_primary(self, force: bool) -> PrimaryRole:
        role = PrimaryRole(self._around, self._make_export(self.config))
        within = self.config.timeout + _START_MARGIN + (FENCE_WITHIN if self.config.fence else 0)
        try:
            with trio.fail_after(within):
                await self._nursery.start(partial(self._be_primary, role, force=force))
        except trio.TooSlowError:
            raise SystemFailure(f"Resource did not become primary within {within:g} s.") from None
        if role.finished.is_set():
            raise SystemFailure("Resource became primary and failed at once; the log says why.")
        return role

    async def _be_primary(
        self, role: PrimaryRole, *, force: bool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """What goes wrong before the role is had is for whoever asked for it; later it is for the log."""
        try:
            await role.run(force=force, task_status=task_status)
        except HastError as error:
            if not role.usable:
                raise
            self._log.error("%s", error)
            if self._primary is role:
                self._primary = None
                self._become(Role.INIT)

    def _become(self, role: Role) -> None:
        if role is not self.role:
            before, self.role = self.role, role
            self._split_brain = False
            self._resting = self._last_in_sync = None
            told = about("role", **{"from": before.word, "to": role.word})
            self._log.info("Role changed from %s to %s.", before.word, role.word, extra=told)
            self._hooks.fire(self.config.exec, "role", self.config.name, before.word, role.word)
            self._tell(self.config.name, None)

    def _notify(self, event: Event) -> None:
        self._count(event)
        if event is Event.SPLIT_BRAIN and self._split_brain:
            return  # Told already: a secondary's worker finds it anew with every attempt to connect.
        if event in (Event.CONNECT, Event.SPLIT_BRAIN):
            self._split_brain = event is Event.SPLIT_BRAIN
        self._hooks.fire(self.config.exec, event.value, self.config.name)
        self._tell(self.config.name, event)

    def _count(self, event: Event) -> None:
        if event is Event.CONNECT:
            self._connects += 1
            self._resting = None
        elif event is Event.DISCONNECT:
            self._disconnects += 1
            self._resting = None

    async def holders(self) -> list[str]:
        """Who uses the image or the device of a primary."""
        return await self._primary.holders() if self._primary is not None else []

    async def drop_link(self) -> None:
        async with self.changing:
            if self._secondary is not None:
                await self._secondary.drop()

    async def accept_link(self, link: IncomingLink) -> None:
        remote = self.config.remote
        try:
            async with self.changing:
                # One from the address before is not to slip in while that changes.
                if self._secondary is not None and remote == self.config.remote:
                    await self._secondary.accept(link)
        except HastError as error:
            self._log.error("%s", error)
        finally:
            link.close()

    async def status(self) -> ResourceStatus:
        """In bounded time; what is wrong with the worker is said in the answer."""
        answer = _configured(self.config)
        answer.role = self.role.word
        worker = self._worker()
        answer.workerpid = 0 if worker is None else worker.pid
        if worker is not None:
            await _ask(worker, answer)
        return answer

    async def details(self, cells: int = 0) -> Details:
        """Everything, in bounded time, whatever is wrong. `cells`: so many parts of `Details.dirty_map`."""
        worker = self._worker()
        geometry = (0, 0)
        known = Details(role=self.role.word, connection=self._connection())
        if worker is None:
            if self.role is Role.SECONDARY:
                known, geometry = await self._at_rest(known)
            elif self.role is Role.PRIMARY:
                known = replace(known, answered=False, problem="The worker has ended; another one is being started.")
        else:
            try:
                told = await worker.status(cells)
                known = replace(self._completed(told.details), held=told.status == "held")
                geometry = told.extentsize, told.keepdirty
            except SystemFailure:
                if not worker.ended.is_set():
                    return unanswered(self._counted(known), worker.pid)
        found = diagnosed(self._counted(known), self.config.name, *geometry)
        problem, remedy = ("", "") if self._primary is None else self._primary.trouble
        return replace(found, problem=problem, remedy=remedy) if problem else found

    def _completed(self, told: Details) -> Details:
        """What a worker told, with what only we know. Until it has begun to serve, it knows nothing."""
        role = self.role.word
        if told.role != role:
            return replace(told, role=role, connection=self._connection())
        if told.last_in_sync is not None:
            self._last_in_sync = told.last_in_sync
        if told.connection == "refused":  # for another reason by now: the other node was made anew, and wrongly
            self._split_brain = False
        connection = "split-brain" if self._split_brain and told.connection != "connected" else told.connection
        return replace(told, connection=connection, last_in_sync=self._last_in_sync)

    def _counted(self, details: Details) -> Details:
        return replace(
            details,
            counters=details.counters
            | {
                "connects": self._connects,
                "disconnects": self._disconnects,
                "worker_restarts": self._around.restarts,
            },
        )

    def _connection(self) -> str:
        """As far as is known here, without a worker that says better."""
        if self.role is Role.INIT or self.config.remote is None:
            return "none"
        if self._split_brain:
            return "split-brain"
        return "refused" if self._refusal() else "connecting"

    def _refusal(self) -> str:
        """Why this node, as secondary, does not serve the primary."""
        return "" if self._secondary is None else self._secondary.refusal

    async def _at_rest(self, known: Details) -> tuple[Details, tuple[int, int]]:
        """Of a secondary without a worker: what is on its disk, looked at once, for nobody changes it meanwhile.

        And extent size and keepdirty.
        """
        if self._resting is None:
            with trio.move_on_after(STATUS_WITHIN):
                self._resting = await trio.to_thread.run_sync(_resting, self.config, abandon_on_cancel=True)
        found = self._resting or _Resting(problem="The component's disk does not answer.")
        problem = found.problem or self._refusal()
        known = replace(known, disk=found.disk, size=found.size, problem=problem, last_in_sync=self._last_in_sync)
        return known, (found.extentsize, found.keepdirty)

    def _worker(self) -> Worker | None:
        if self._primary is not None:
            return self._primary.worker
        return None if self._secondary is None else self._secondary.worker


def check_component(config: ResourceConfig) -> None:
    """ComponentError if there is none that the resource can use. Blocks."""
    read_metadata(config)


@dataclass(frozen=True, slots=True)
class _Resting:
    """What a component says of itself: `Details.disk`, `size` and `problem`, and what it was made with."""

    disk: str = "unknown"
    size: int = 0
    problem: str = ""
    extentsize: int = 0
    keepdirty: int = 0


def _resting(config: ResourceConfig) -> _Resting:
    """Blocks."""
    try:
        metadata = read_metadata(config)
    except HastError as error:
        return _Resting(problem=one_line(str(error)))
    whole = metadata.consistency is Consistency.CONSISTENT
    disk, size = "up-to-date" if whole else "inconsistent", provider_size(metadata.datasize)
    return _Resting(disk, size, extentsize=metadata.extentsize, keepdirty=metadata.keepdirty)


def _configured(config: ResourceConfig) -> ResourceStatus:
    return ResourceStatus(
        config.name,
        provname=config.provider,
        localpath=config.local,
        remoteaddr="none" if config.remote is None else config.remote.text,
        sourceaddr=None if config.source is None else config.source.text,
        replication=config.replication.value,
        checksum=config.checksum.value,
        compression=config.compression.value,
    )


async def _ask(worker: Worker, answer: ResourceStatus) -> None:
    try:
        status = await worker.status()
    except SystemFailure as error:
        if not worker.ended.is_set():  # Otherwise there is just none at this moment.
            answer.error, answer.errmsg = error.exit_code, str(error)
        return
    answer.status = status.status or None
    answer.dirty, answer.extentsize, answer.keepdirty = status.dirty, status.extentsize, status.keepdirty
    answer.stats = status.stats
