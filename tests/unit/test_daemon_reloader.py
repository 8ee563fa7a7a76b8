"""A reload with fake workers, images and doors: what is tried, in which order it happens, and how it is undone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from unittest.mock import Mock

import pytest
import trio
import trio.testing

from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon import managed, resources
from hastfs.daemon import roles as role_module
from hastfs.daemon.doors import Doors, Opened
from hastfs.daemon.inheritance import InheritedDoors
from hastfs.daemon.jobs import Job
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.program import Program
from hastfs.daemon.reloader import Reloader, RoleLost
from hastfs.daemon.resources import Resources
from hastfs.daemon.supervisor import Supervisor
from hastfs.daemon.workers import Ended, Worker
from hastfs.errors import BusyError, ComponentError, ConfigError, HastError, MetadataError, SystemFailure
from hastfs.model import Replication, Role
from hastfs.protocol.control import ControlCommand, Request
from hastfs.resource.events import Notify
from tests.daemon_fakes import CONFIG, FakeExport, FakeHooks, FakeStarter, FakeWorker

BROKEN = Ended("The component is locked.", 75, True)


def resource(name: str, **changes: object) -> ResourceConfig:
    usual = replace(CONFIG, name=name, provider=name, local=f"/nowhere/{name}")
    return replace(usual, **changes)  # type: ignore[arg-type]


def config(*found: ResourceConfig, mountdir: str = "/mnt") -> Config:
    return Config("/etc/hast.conf", "/control", "/pidfile", (), mountdir, {each.name: each for each in found})


OLD = config(resource("one"), resource("two"), resource("three"))


class FakeDoors(Doors):
    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.refuses = ""
        self.meanwhile: Callable[[], object] = lambda: None

    def open_for(self, config: Config) -> Opened:
        if self.refuses:
            raise SystemFailure(self.refuses)
        self.meanwhile()
        self._log.append("doors opened")
        return Opened(None, (), {}, "", None)  # type: ignore[arg-type]

    def take(self, opened: Opened) -> None:
        self._log.append("doors taken")

    def bequeath(self, config: Config) -> InheritedDoors:
        return InheritedDoors(config.pidfile, config.control, (), 10, 11, ())

    def refuse(self, opened: Opened) -> None:
        self._log.append("doors refused")


@dataclass
class Stage(FakeStarter):
    """Resources, and everything around them."""

    log: list[str] = field(default_factory=list)
    hooks: FakeHooks = field(default_factory=FakeHooks)
    new: Config | HastError = OLD
    """What is read next."""
    endings: dict[str, Ended] = field(default_factory=dict)
    """How the next workers of a resource end."""
    unreadable: set[str] = field(default_factory=set)
    """Paths of components."""
    exports: dict[str, FakeExport] = field(default_factory=dict)
    """The latest of each resource."""
    mountdirs: list[str] = field(default_factory=list)
    workers: dict[str, FakeWorker] = field(default_factory=dict)
    """The latest of each resource."""
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.doors = FakeDoors(self.log)
        self.resources = Resources(OLD, self, self.hooks, LogSettings(True, 0))
        self.reloader = Reloader(self.resources, self.doors, self.read, lambda: self.log.append("doors served"))

    def read(self) -> Config:
        if isinstance(self.new, HastError):
            raise self.new
        return self.new

    def read_metadata(self, config: ResourceConfig) -> None:
        if config.local in self.unreadable:
            raise MetadataError(f"Unable to open {config.local}: No such file or directory.")

    def export(self, mountdir: str, config: ResourceConfig) -> FakeExport:
        self.mountdirs.append(mountdir)
        self.exports[config.name] = FakeExport(self.log)
        return self.exports[config.name]

    def open_component(self, config: ResourceConfig) -> Mock:
        self.read_metadata(config)
        return Mock()

    async def launch(self, make_job: Callable[[socket.socket], Job], notify: Notify) -> Worker:
        with socket.socket() as link:
            job = make_job(link)
        self.jobs.append(job)
        name = job.config.name
        worker = FakeWorker(len(self.jobs), self.log, self.endings.get(name), False)
        self.workers[name] = worker
        return worker

    async def become(self, **roles: Role) -> None:
        for name, role in roles.items():
            await self.resources[name].set_role(role, force=False)
        self.log.clear()
        self.hooks.fired.clear()

    async def reload(self, new: Config | HastError, *, force: bool = False) -> None:
        self.new = new
        await self.reloader.reload(force=force)

    def roles(self) -> dict[str, str]:
        return {name: each.role.word for name, each in self.resources.items()}


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    made = Stage()
    monkeypatch.setattr(managed, "read_metadata", made.read_metadata)
    monkeypatch.setattr(managed, "open_component", made.open_component)
    monkeypatch.setattr(role_module, "_MOMENT", 0.0)
    monkeypatch.setattr(resources, "Export", made.export)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.resources.run)
        yield made
        nursery.cancel_scope.cancel()


async def refused(stage: Stage, new: Config | HastError, kind: type[HastError], reason: str) -> None:
    """The reload is refused, and there is nothing to be seen of it."""
    before, roles = stage.resources.config, stage.roles()
    kept = dict(stage.resources)
    with pytest.raises(kind, match=reason):
        await stage.reload(new)
    assert stage.resources.config is before
    assert stage.roles() == roles
    assert dict(stage.resources) == kept
    assert all(kept[name].config == before.resources[name] for name in kept)
    assert not any(each.changing.locked() for each in kept.values())


async def test_the_same_configuration_again_touches_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await stage.become(one=Role.PRIMARY, two=Role.SECONDARY)
    await stage.reload(OLD)
    assert stage.log == ["doors opened", "doors taken", "doors served"]
    assert stage.hooks.fired == []
    assert "Configuration reloaded successfully." in caplog.text


async def test_a_file_that_cannot_be_read_changes_nothing_and_the_log_says_why(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(one=Role.PRIMARY)
    await refused(stage, ConfigError("/etc/hast.conf:3: near 'sync'"), ConfigError, "near 'sync'")
    assert stage.log == []
    assert "Configuration not reloaded: /etc/hast.conf:3: near 'sync'" in caplog.text


async def test_resources_come_and_go_in_the_order_of_the_file(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY, two=Role.PRIMARY)
    gone = stage.resources["one"]
    await stage.reload(config(resource("four"), resource("two"), resource("three")))
    assert list(stage.resources.items()) == [(name, stage.resources[name]) for name in ("four", "two", "three")]
    assert stage.roles() == {"four": "init", "two": "primary", "three": "init"}
    assert stage.hooks.fired == ["role one primary init"]
    assert gone.role is Role.INIT
    await stage.become(four=Role.PRIMARY)
    assert stage.roles()["four"] == "primary"


async def test_a_resource_that_moves_is_restarted_with_the_role_it_had(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY, two=Role.SECONDARY)
    await stage.reload(config(resource("one", local="/else"), resource("two", local="/where"), resource("three")))
    assert stage.roles() == {"one": "primary", "two": "secondary", "three": "init"}
    assert stage.jobs[-1].config.local == "/else"
    assert sorted(stage.hooks.fired) == [
        "role one init primary",
        "role one primary init",
        "role two init secondary",
        "role two secondary init",
    ]
    # What can be refused comes first; the new doors are there before the roles are had again.
    assert stage.log == [
        "doors opened",
        "take away",
        "stop 1",
        "abandon",
        "doors taken",
        "doors served",
        "mount",
        "attach",
    ]


async def test_another_mountdir_restarts_every_resource(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY)
    await stage.reload(config(*OLD.resources.values(), mountdir="/elsewhere"))
    assert stage.mountdirs == ["/mnt", "/elsewhere"]
    assert stage.roles()["one"] == "primary"


async def test_what_can_change_in_place_does_not_disturb(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY)
    changed = resource("one", replication=Replication.ASYNC, timeout=9)
    await stage.reload(config(changed, resource("two"), resource("three")))
    assert stage.workers["one"].configs == [changed]
    assert stage.hooks.fired == []
    assert "stop 1" not in stage.log


@pytest.mark.parametrize("new", [config(resource("one"), resource("three")), config(mountdir="/elsewhere")])
async def test_a_disk_in_use_is_not_taken_away_unless_forced(stage: Stage, new: Config) -> None:
    await stage.become(two=Role.PRIMARY)
    stage.exports["two"].in_use = ["process 12 (fio)"]
    await refused(stage, new, BusyError, r"two is in use.*process 12 \(fio\)")
    assert stage.log == []
    await stage.reload(new, force=True)
    assert "take away by force" in stage.log
    assert "two" not in stage.resources


async def test_a_disk_in_use_stays_out_of_the_way_of_a_change_in_place(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY)
    stage.exports["one"].in_use = ["process 12 (fio)"]
    await stage.reload(config(resource("one", timeout=9), resource("two"), resource("three")))


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
async def test_a_component_that_cannot_be_used_is_found_before_anything_is_left(stage: Stage, role: Role) -> None:
    await stage.become(one=role)
    stage.unreadable.add("/else")
    new = config(resource("one", local="/else"), resource("three"))
    await refused(stage, new, ComponentError, "Unable to open /else")
    assert stage.log == []


async def test_a_resource_without_a_role_needs_no_component(stage: Stage) -> None:
    stage.unreadable.add("/else")
    await stage.reload(config(resource("one", local="/else")))
    assert stage.resources["one"].config.local == "/else"


async def test_a_door_that_cannot_be_opened_is_found_before_anything_is_left(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY)
    stage.doors.refuses = "Unable to listen on address 192.0.2.1."
    await refused(stage, config(resource("three")), SystemFailure, "Unable to listen")
    assert stage.log == []


async def test_if_one_cannot_leave_its_role_the_others_get_theirs_again(stage: Stage) -> None:
    await stage.become(one=Role.PRIMARY, two=Role.PRIMARY, three=Role.SECONDARY)
    stage.exports["two"].refuses = "/mnt/two is busy."
    await refused(stage, config(mountdir="/elsewhere"), BusyError, "/mnt/two is busy")
    assert stage.log[0] == "doors opened"
    assert stage.log[-1] == "doors refused"
    assert "doors taken" not in stage.log
    assert stage.mountdirs == ["/mnt"] * 3


async def test_a_role_that_cannot_be_had_again_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await stage.become(one=Role.PRIMARY, two=Role.PRIMARY)
    stage.endings["one"] = BROKEN
    new = config(*OLD.resources.values(), mountdir="/elsewhere")
    with pytest.raises(RoleLost, match=r"reloaded, but resource one is not primary any more: The component is") as lost:
        await stage.reload(new)
    assert lost.value.exit_code == 75
    assert stage.resources.config is new
    assert stage.roles() == {"one": "init", "two": "primary", "three": "init"}
    assert "Resource one is not primary any more: The component is locked." in caplog.text
    assert "not reloaded" not in caplog.text


async def waiting_for(one: ManagedResource, tasks: int) -> None:
    with trio.fail_after(10):  # threads are involved: there is no event to wait for
        while one.changing.statistics().tasks_waiting != tasks:  # noqa: ASYNC110
            await trio.sleep(0.001)


async def test_a_change_of_role_that_is_under_way_is_waited_for(stage: Stage) -> None:
    one = stage.resources["one"]
    new = config(resource("one", local="/else"), resource("two"), resource("three"))
    async with trio.open_nursery() as nursery, one.changing:
        nursery.start_soon(stage.reload, new)
        await waiting_for(one, 1)
        await stage.become(two=Role.PRIMARY)
        assert one.config.local == "/nowhere/one"
    assert one.config.local == "/else"


async def test_a_change_of_role_that_comes_too_late_is_answered(stage: Stage) -> None:
    one = stage.resources["one"]
    errors: list[str] = []

    async def late() -> None:
        try:
            await one.set_role(Role.PRIMARY, force=False)
        except HastError as error:
            errors.append(str(error))

    async with trio.open_nursery() as nursery, one.changing:
        nursery.start_soon(stage.reload, config(resource("two"), resource("three")))
        await waiting_for(one, 1)
        nursery.start_soon(late)
        await waiting_for(one, 2)
    assert errors == ["Resource one is not configured any more."]


async def test_one_reload_comes_after_the_other(stage: Stage) -> None:
    for new in (config(resource("one"), resource("two")), config(resource("one")), OLD):
        stage.new = new
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stage.reload, new)
        assert list(stage.resources) == list(new.resources)


async def test_a_daemon_that_ends_meanwhile_takes_no_new_doors(stage: Stage) -> None:
    with trio.CancelScope() as scope:
        stage.doors.meanwhile = lambda: trio.from_thread.run_sync(scope.cancel)
        await stage.reload(OLD)
    assert scope.cancelled_caught
    assert stage.log == ["doors opened", "doors refused"]


async def test_a_stopping_daemon_does_not_reload(stage: Stage) -> None:
    program = Program(("/bin/false",), "/", OLD.path)
    supervisor = Supervisor(OLD, stage.read, stage.doors, stage, LogSettings(True, 0), program=program)
    await supervisor.stop(Request(ControlCommand.STOP))
    with pytest.raises(BusyError, match="hastd is stopping"):
        await supervisor.reload(Request(ControlCommand.RELOAD))
    assert stage.log == []
