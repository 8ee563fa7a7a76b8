"""An upgrade with fake workers, images and programs: what has to end before, and what the new program does."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from hastfs import __version__
from hastfs.daemon import managed, resources
from hastfs.daemon import roles as role_module
from hastfs.daemon.adopted import reap
from hastfs.daemon.controlserver import ControlServer
from hastfs.daemon.inheritance import Inheritance, InheritedWorker
from hastfs.daemon.program import Program
from hastfs.daemon.upgrader import QUIET_WITHIN, SIGNALS, Heir, Upgrader
from hastfs.daemon.workers import Ended, Worker
from hastfs.errors import BusyError, ConfigMissing, HastError, SystemFailure
from hastfs.model import Role
from hastfs.protocol.control import Reply, ResourceStatus
from hastfs.protocol.frame import FrameReader
from hastfs.resource.events import Notify
from tests.daemon_fakes import KILLED, FakeWorker
from tests.unit.test_daemon_reloader import Stage

CLIENT = 7


class Became(Exception):
    """The other program runs."""


def set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


@dataclass
class FakeProgram:
    """Can take over, unless told otherwise."""

    config: str
    command: tuple[str, ...] = ("/usr/bin/python3", "hastd")
    directory: str = "/"
    refuses: str = ""
    cannot_start: str = ""
    goes_on: trio.Event = field(default_factory=set_event)
    meanwhile: Callable[[], object] = lambda: None
    checked: list[Inheritance] = field(default_factory=list)
    became: Inheritance | None = None

    async def check(self, left: Inheritance) -> str:
        self.checked.append(left)
        await self.goes_on.wait()
        self.meanwhile()
        await trio.testing.wait_all_tasks_blocked()
        if self.refuses:
            raise SystemFailure(self.refuses)
        return "9.9"

    def become(self, left: Inheritance) -> None:
        assert set(SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if self.cannot_start:
            raise SystemFailure(self.cannot_start)
        self.became = left
        raise Became


class FakeControl:
    def __init__(self) -> None:
        self.paused = False
        self.other = False
        """Another request is being carried out, for ever."""

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def dismiss(self, reason: str) -> None:
        """Nobody listens."""
        assert reason == "upgrade"
        await trio.lowlevel.checkpoint()

    async def alone(self) -> None:
        assert self.paused
        if self.other:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()


@dataclass
class Upgrading(Stage):
    """Three resources, and a program that could go on with them."""

    control: FakeControl = field(default_factory=FakeControl)

    def begin(self, config: str) -> None:
        self.program = FakeProgram(config)
        control, program = cast("ControlServer", self.control), cast("Program", self.program)
        self.upgrader = Upgrader(program, self.resources, self.doors, control, self.reloader)

    async def upgrade(self) -> Inheritance:
        with pytest.raises(Became):
            await self.upgrader.upgrade(CLIENT)
        assert self.program.became is not None
        return self.program.became

    async def refused(self) -> HastError:
        with pytest.raises(HastError) as caught:
            await self.upgrader.upgrade(CLIENT)
        self.assert_untouched()
        return caught.value

    def assert_untouched(self) -> None:
        assert not self.control.paused
        assert not self.reloader.reloading.locked()
        assert not any(resource.changing.locked() for resource in self.resources.values())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        assert self.log == []


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Upgrading]:
    made = Upgrading()
    path = tmp_path / "hast.conf"
    path.write_text("resource one {}")
    made.begin(str(path))
    monkeypatch.setattr(managed, "read_metadata", made.read_metadata)
    monkeypatch.setattr(managed, "open_component", made.open_component)
    monkeypatch.setattr(role_module, "_MOMENT", 0.0)
    monkeypatch.setattr(resources, "Export", made.export)
    monkeypatch.setattr(FakeWorker, "bequeath", lambda worker: InheritedWorker(worker.pid, 0, 0, True, False, False, 0))

    def adopt(left: InheritedWorker, notify: Notify) -> FakeWorker:
        worker = FakeWorker(left.pid, made.log, None, False)
        worker.inherited = True
        return worker

    monkeypatch.setattr(Worker, "inherit", adopt)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.resources.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_the_new_program_is_left_what_it_was_asked_about(stage: Upgrading) -> None:
    await stage.become(one=Role.PRIMARY, two=Role.SECONDARY)
    left = await stage.upgrade()
    assert stage.program.checked == [left]
    assert (left.version, left.client, left.config) == (__version__, CLIENT, "resource one {}")
    assert [(resource.name, resource.role) for resource in left.resources] == [("one", "primary"), ("two", "secondary")]
    assert stage.log == [], "workers notice nothing"


async def test_a_program_that_cannot_take_over_leaves_everything_as_it_was(
    stage: Upgrading, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(one=Role.PRIMARY)
    stage.program.refuses = "It is broken."
    assert str(await stage.refused()) == "It is broken."
    assert "It is broken." in caplog.text
    stage.program.refuses = ""
    await stage.upgrade()


async def test_a_program_that_cannot_be_started_leaves_everything_as_it_was(stage: Upgrading) -> None:
    await stage.become(one=Role.PRIMARY)
    stage.program.cannot_start = "It is gone."
    assert str(await stage.refused()) == "It is gone."
    await stage.resources["one"].set_role(Role.INIT, force=False)


async def test_a_missing_configuration_leaves_everything_as_it_was(stage: Upgrading) -> None:
    os.unlink(stage.program.config)
    assert isinstance(await stage.refused(), ConfigMissing)


async def test_a_role_that_is_lost_while_the_program_is_asked_is_not_left_to_it(stage: Upgrading) -> None:
    await stage.become(one=Role.PRIMARY, two=Role.PRIMARY)
    broken = Ended("The component is damaged.", 66, False)
    stage.program.meanwhile = lambda: stage.workers["one"].end(broken)
    left = await stage.upgrade()
    assert [resource.name for resource in left.resources] == ["two"]


async def test_a_worker_that_dies_while_the_program_is_asked_is_replaced_first(stage: Upgrading) -> None:
    await stage.become(one=Role.PRIMARY)
    stage.program.meanwhile = lambda: stage.workers["one"].end(KILLED)
    left = await stage.upgrade()
    assert [resource.worker and resource.worker.pid for resource in left.resources] == [2]


async def test_a_change_of_role_is_waited_for(stage: Upgrading, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery, stage.resources["two"].changing:
        nursery.start_soon(stage.upgrade)
        await trio.sleep(QUIET_WITHIN / 2)
        assert stage.program.checked == []
    assert len(stage.program.checked) == 1


async def test_a_reload_is_waited_for(stage: Upgrading, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery, stage.reloader.reloading:
        nursery.start_soon(stage.upgrade)
        await trio.sleep(QUIET_WITHIN / 2)
        assert stage.program.checked == []


async def test_a_change_of_role_that_takes_too_long_is_a_refusal(
    stage: Upgrading, autojump_clock: trio.testing.MockClock
) -> None:
    async def change_for_ever(*, task_status: trio.TaskStatus[None]) -> None:
        async with stage.resources["two"].changing:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(change_for_ever)
        with pytest.raises(BusyError, match=r"other requests .* after 30 s\. Try again later\."):
            await stage.upgrader.upgrade(CLIENT)
        nursery.cancel_scope.cancel()
    stage.assert_untouched()
    assert stage.program.checked == []


async def test_another_client_that_takes_too_long_is_a_refusal(
    stage: Upgrading, autojump_clock: trio.testing.MockClock
) -> None:
    stage.control.other = True
    assert (await stage.refused()).exit_code == 75


async def test_hooks_that_run_too_long_are_a_refusal_which_names_them(
    stage: Upgrading, autojump_clock: trio.testing.MockClock
) -> None:
    stage.hooks.hang = ["one", "two"]
    assert "hooks are still running (one, two)" in str(await stage.refused())


async def test_a_hook_that_begins_in_the_last_moment_and_runs_long_is_a_refusal(
    stage: Upgrading, autojump_clock: trio.testing.MockClock
) -> None:
    stage.program.meanwhile = lambda: stage.hooks.hang.append("one")
    assert "hooks are still running (one)" in str(await stage.refused())


async def test_one_upgrade_at_a_time(stage: Upgrading) -> None:
    stage.program.goes_on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.upgrade)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BusyError, match="being upgraded already"):
            await stage.upgrader.upgrade(CLIENT)
        assert stage.control.paused
        stage.program.goes_on.set()


async def test_a_hangup_that_comes_meanwhile_is_passed_on(stage: Upgrading) -> None:
    hung_up: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: hung_up.append(number))
    try:
        async with trio.open_nursery() as nursery:
            stage.program.meanwhile = lambda: nursery.start_soon(partial(stage.reloader.reload, force=False))
            await stage.upgrade()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert hung_up == [signal.SIGHUP], "it waited for the end of the block, or for the next program"


@dataclass
class Inherited:
    """What `Heir` does with what was left, and what its client hears."""

    left: Inheritance
    client: socket.socket

    async def answer(self) -> Reply:
        reader = FrameReader(1 << 20, 0)
        sock = trio.socket.from_stdlib_socket(self.client)
        while (frame := reader.next()) is None:
            reader.received(await sock.recv_into(reader.buffer()))
        return Reply.decode(frame)


@pytest.fixture
async def inherited(stage: Upgrading) -> AsyncIterator[Inherited]:
    """Two primaries and a secondary, left by version 0.0.9 to `stage`."""
    before = Stage()
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery:
        await nursery.start(before.resources.run)
        await before.become(one=Role.SECONDARY, two=Role.PRIMARY, three=Role.PRIMARY)
        left = [resource.bequeath() for resource in before.resources.values()]
        nursery.cancel_scope.cancel()
    given = Inheritance(
        version="0.0.9",
        command=(),
        directory="/",
        config="",
        mountdir="/mnt",
        doors=stage.doors.bequeath(stage.resources.config),
        client=theirs.detach(),
        resources=tuple(resource for resource in left if resource is not None),
    )
    stage.resources.inherit(given)
    with ours:
        yield Inherited(given, ours)


async def test_the_heir_renews_all_workers_primaries_first_and_answers(stage: Upgrading, inherited: Inherited) -> None:
    await Heir(inherited.left, stage.resources).run()
    reply = await inherited.answer()
    assert (reply.before, reply.version, reply.error) == ("0.0.9", __version__, 0)
    assert reply.resources == [
        ResourceStatus("one", role="secondary"),
        ResourceStatus("two", role="primary"),
        ResourceStatus("three", role="primary"),
    ]
    assert [job.config.name for job in stage.jobs] == ["two", "three"]
    assert stage.roles() == {"one": "secondary", "two": "primary", "three": "primary"}


async def test_a_resource_that_cannot_go_on_is_told_and_the_others_do(stage: Upgrading, inherited: Inherited) -> None:
    stage.endings["two"] = Ended("The component is damaged.", 66, False)
    await Heir(inherited.left, stage.resources).run()
    one, two, three = (await inherited.answer()).resources
    assert (one.error, three.error) == (0, 0)
    assert (two.error, two.errmsg, two.role) == (71, "Resource two is not primary any more; the log says why.", "init")
    assert stage.roles() == {"one": "secondary", "two": "init", "three": "primary"}


async def test_a_client_that_is_gone_disturbs_nobody(stage: Upgrading, inherited: Inherited) -> None:
    inherited.client.close()
    await Heir(inherited.left, stage.resources).run()
    assert len(stage.jobs) == 2


async def test_the_heir_lets_go_of_what_was_kept_and_waits_for_what_ends_with_it(
    stage: Upgrading, inherited: Inherited
) -> None:
    reader, writer = os.pipe()
    helper = os.fork()
    if not helper:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    await Heir(replace(inherited.left, helpers=(helper,), kept=(writer,)), stage.resources).run()
    with pytest.raises(ProcessLookupError):
        os.kill(helper, 0)


async def test_a_process_that_is_gone_is_not_waited_for() -> None:
    await reap(2**22 + 1)


async def test_without_a_process_to_start_others_the_heir_goes_on(
    stage: Upgrading, inherited: Inherited, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise SystemFailure("Unable to start a worker process.")

    monkeypatch.setattr(stage, "warm_up", fail)
    await Heir(inherited.left, stage.resources).run()
    assert "Unable to start a worker process." in caplog.text
    assert (await inherited.answer()).error == 0
