"""A primary's life with fake workers and a fake export: what is replaced, what is given up, in which order it ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from unittest.mock import Mock

import pytest
import trio
import trio.testing

from hastfs.address import parse
from hastfs.config.schema import ResourceConfig
from hastfs.daemon import managed, roles
from hastfs.daemon.inheritance import InheritedImage, InheritedWorker
from hastfs.daemon.jobs import Job, PrimaryJob, SecondaryJob
from hastfs.daemon.listener import IncomingLink
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.roles import PrimaryRole
from hastfs.daemon.workers import Ended, Worker, WorkerFailed
from hastfs.errors import BusyError, ComponentError, DataError, HastError, MetadataError, SystemFailure
from hastfs.model import Replication, Role
from hastfs.protocol.handshake import Joining
from hastfs.resource.events import Event, Notify
from hastfs.resource.remotecache import Risk
from tests.daemon_fakes import CONFIG, IN_ORDER, KILLED, FakeExport, FakeHooks, FakeStarter, FakeWorker

BROKEN = Ended("Component /nowhere/disk is damaged.", 66, False)


@dataclass
class Stage(FakeStarter):
    """A resource, and everything around it."""

    log: list[str] = field(default_factory=list)
    hooks: FakeHooks = field(default_factory=FakeHooks)
    jobs: list[Job] = field(default_factory=list)
    workers: list[FakeWorker] = field(default_factory=list)
    endings: list[Ended | None] = field(default_factory=list)
    """How the next workers end; None or nothing: they live on."""
    hang: bool = False
    notify: Notify | None = None
    unreadable: str = ""
    """What is wrong with the component's metadata."""

    def __post_init__(self) -> None:
        self.export = FakeExport(self.log)
        self.resource = ManagedResource(CONFIG, self, self.hooks, LogSettings(True, 0), lambda config: self.export)

    def open_component(self, config: ResourceConfig) -> Mock:
        self.read_metadata(config)
        return Mock()

    async def launch(self, make_job: Callable[[socket.socket], Job], notify: Notify) -> Worker:
        with socket.socket() as link:
            job = make_job(link)
        self.jobs.append(job)
        self.notify = notify
        takes_over = isinstance(job, PrimaryJob) and job.taking_over
        worker = FakeWorker(len(self.jobs), self.log, self.endings.pop(0) if self.endings else None, self.hang)
        self.log.append(f"{'replace with' if takes_over else 'start'} {worker.pid}")
        self.workers.append(worker)
        return worker

    def read_metadata(self, config: ResourceConfig) -> None:
        if self.unreadable:
            raise MetadataError(self.unreadable)

    def check_attachable(self, config: ResourceConfig, left: bytes) -> None:
        if self.unreadable:
            raise ComponentError(self.unreadable)

    async def become(self, role: Role, *, force: bool = False) -> Role:
        return await self.resource.set_role(role, force=force)

    async def become_primary(self) -> PrimaryRole:
        await self.become(Role.PRIMARY)
        assert self.resource._primary is not None
        return self.resource._primary


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    made = Stage()
    monkeypatch.setattr(managed, "read_metadata", made.read_metadata)
    monkeypatch.setattr(managed, "open_component", made.open_component)
    monkeypatch.setattr(roles, "check_attachable", made.check_attachable)
    monkeypatch.setattr(roles, "_MOMENT", 0.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.resource.run)
        yield made
        nursery.cancel_scope.cancel()


def link() -> IncomingLink:
    return IncomingLink(socket.socket(), socket.socket(), Joining("disk", bytes(16), False, 1, 0, 0), 3)


async def test_a_primary_is_usable_before_the_role_is_had(stage: Stage) -> None:
    assert await stage.become(Role.PRIMARY) is Role.INIT
    assert stage.log == ["mount", "start 1", "attach"]
    assert stage.resource.role is Role.PRIMARY
    assert stage.hooks.fired == ["role disk init primary"]


@pytest.mark.parametrize("force", [True, False])
async def test_what_force_allowed_counts_for_the_next_worker_too_until_there_was_a_link(
    stage: Stage, autojump_clock: trio.testing.MockClock, force: bool
) -> None:
    await stage.become(Role.PRIMARY, force=force)
    stage.workers[-1].end(KILLED)
    await trio.sleep(5)
    assert _allowed(stage) is force
    assert stage.notify is not None
    stage.notify(Event.CONNECT)
    stage.workers[-1].end(KILLED)
    await trio.sleep(5)
    assert not _allowed(stage)


def _allowed(stage: Stage) -> bool:
    job = stage.jobs[-1]
    assert isinstance(job, PrimaryJob)
    assert job.taking_over
    return job.fenced


async def test_the_same_role_again_changes_nothing(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    assert await stage.become(Role.PRIMARY) is Role.PRIMARY
    assert stage.log == ["mount", "start 1", "attach"]
    assert len(stage.hooks.fired) == 1


async def test_leaving_takes_the_disk_away_before_it_stops_the_worker(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    stage.log.clear()
    await stage.become(Role.INIT)
    assert stage.log == ["take away", "stop 1", "abandon"]
    assert stage.hooks.fired[-1] == "role disk primary init"


async def test_a_disk_in_use_is_not_taken_away_and_its_holders_are_named(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    stage.export.in_use = ["process 12 (fio) has /dev/loop0 open", "umount /mnt first"]
    stage.log.clear()
    with pytest.raises(BusyError, match=r"process 12 \(fio\).*umount /mnt"):
        await stage.become(Role.SECONDARY)
    assert stage.log == []
    assert stage.resource.role is Role.PRIMARY
    assert not stage.workers[0].ended.is_set()


@pytest.mark.parametrize("seen", [True, False])
async def test_who_uses_the_disk_for_a_moment_is_waited_for(
    stage: Stage, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    monkeypatch.setattr(roles, "_MOMENT", 0.5)
    await stage.become(Role.PRIMARY)
    stage.export.in_use = ["process 12 (blkid) has /dev/loop0 open"] if seen else []
    stage.export.refuses = "" if seen else "The image is in use."

    async def be_done() -> None:
        await trio.sleep(0.2)
        stage.export.in_use, stage.export.refuses = [], ""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_done)
        await stage.become(Role.INIT)
    assert stage.resource.role is Role.INIT


async def test_force_takes_a_disk_in_use_away_and_the_log_says_from_whom(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(Role.PRIMARY)
    stage.export.in_use = ["process 12 (fio) has /dev/loop0 open"]
    await stage.become(Role.INIT, force=True)
    assert "take away by force" in stage.log
    assert "process 12 (fio)" in caplog.text


@pytest.mark.parametrize("ended", [KILLED, Ended("Worker failed: ZeroDivisionError().", 70, True)])
async def test_a_worker_that_dies_is_replaced_on_the_same_image(stage: Stage, ended: Ended) -> None:
    await stage.become(Role.PRIMARY, force=True)
    stage.workers[0].end(ended)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.log == ["mount", "start 1", "attach", "replace with 2"]
    first, second = stage.jobs
    assert isinstance(first, PrimaryJob)
    assert isinstance(second, PrimaryJob)
    assert (first.fuse, first.taking_over, first.force) == (second.fuse, False, True)
    # Taking an inconsistent component by force is a decision for once.
    assert (second.taking_over, second.force) == (True, False)
    assert stage.resource.role is Role.PRIMARY


def ways_of_taking_over(stage: Stage) -> list[tuple[bool, bool]]:
    """(taking over, in order) of every worker."""
    return [(job.taking_over, job.in_order) for job in stage.jobs if isinstance(job, PrimaryJob)]


async def test_a_worker_is_renewed_when_the_fresh_one_serves(stage: Stage) -> None:
    role = await stage.become_primary()
    await role.renew_worker()
    assert stage.log == ["mount", "start 1", "attach", "hand over 1", "replace with 2"]
    assert ways_of_taking_over(stage) == [(False, False), (True, True)]
    assert role.worker is stage.workers[1]
    assert stage.resource.role is Role.PRIMARY
    assert stage.hooks.fired == ["role disk init primary"]


async def test_a_worker_may_be_renewed_any_number_of_times(
    stage: Stage, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    role = await stage.become_primary()
    for _ in range(12):
        await role.renew_worker()
    assert len(stage.workers) == 13
    assert trio.current_time() < 1, "none of them waited"
    assert caplog.text.count("ERROR") == 0


async def test_a_worker_that_does_not_hand_over_is_replaced_as_one_that_died(stage: Stage) -> None:
    role = await stage.become_primary()
    stage.workers[0].hangs = True
    await role.renew_worker()
    assert stage.log[3:] == ["hand over 1", "kill 1", "replace with 2"]
    assert ways_of_taking_over(stage)[1] == (True, False)


async def test_a_fresh_worker_that_dies_before_it_serves_leaves_nothing_unanswered_either(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    role = await stage.become_primary()
    stage.endings = [KILLED, KILLED, None]
    await role.renew_worker()
    assert ways_of_taking_over(stage)[1:] == [(True, True)] * 3
    assert role.worker is stage.workers[3]


async def test_after_a_worker_that_was_renewed_one_that_dies_is_one_that_died(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    role = await stage.become_primary()
    await role.renew_worker()
    await trio.sleep(2)
    stage.workers[1].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert ways_of_taking_over(stage)[1:] == [(True, True), (True, False)]


async def test_a_worker_that_is_not_there_at_the_moment_is_not_waited_for_to_hand_over(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    role = await stage.become_primary()
    stage.endings = [KILLED, None]
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()  # the second is dead, the third not yet there
    await role.renew_worker()
    assert role.worker is stage.workers[2]
    assert ways_of_taking_over(stage)[1:] == [(True, False), (True, False)]


async def test_a_fresh_worker_that_cannot_serve_costs_the_role_and_whoever_asked_for_it_hears_of_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    role = await stage.become_primary()
    stage.endings = [BROKEN]
    with pytest.raises(SystemFailure, match=r"^Resource disk is not primary any more; the log says why\.$"):
        await role.renew_worker()
    assert stage.resource.role is Role.INIT
    assert BROKEN.message in caplog.text


async def test_no_worker_is_renewed_when_the_role_is_left(stage: Stage) -> None:
    role = await stage.become_primary()
    await stage.become(Role.INIT)
    with pytest.raises(SystemFailure, match="not primary any more"):
        await role.renew_worker()
    assert len(stage.workers) == 1


async def test_workers_that_keep_dying_are_given_up(
    stage: Stage, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    stage.endings = [None, KILLED, KILLED, KILLED, KILLED, KILLED]
    await stage.become(Role.PRIMARY)
    stage.workers[0].end(KILLED)
    await trio.sleep(60)
    assert len(stage.workers) == 5
    assert stage.resource.role is Role.INIT
    assert stage.log[-1] == "abandon"
    assert stage.hooks.fired == ["role disk init primary", "role disk primary init"]
    assert "5 workers died one after the other" in caplog.text


async def test_workers_that_die_now_and_then_are_replaced_for_ever(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become(Role.PRIMARY)
    for _ in range(12):
        await trio.sleep(2)
        stage.workers[-1].end(KILLED)
    await trio.sleep(1)
    assert len(stage.workers) == 13
    assert stage.resource.role is Role.PRIMARY


async def test_a_worker_with_a_lasting_failure_costs_the_role(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.become(Role.PRIMARY)
    stage.workers[0].end(BROKEN)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.resource.role is Role.INIT
    assert stage.log[-1] == "abandon"
    assert BROKEN.message in caplog.text
    assert stage.hooks.fired[-1] == "role disk primary init"


async def test_an_image_that_somebody_else_unmounts_costs_the_role(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(Role.PRIMARY)
    stage.workers[0].end(IN_ORDER)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.resource.role is Role.INIT
    assert "unmounted by somebody else" in caplog.text


async def test_the_role_can_be_left_while_a_replacement_is_awaited(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.endings = [None, KILLED, None]
    await stage.become(Role.PRIMARY)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()  # the second is dead, the third not yet there
    await stage.become(Role.INIT)
    assert len(stage.workers) == 2
    assert stage.resource.role is Role.INIT


@pytest.mark.parametrize("ended", [BROKEN, Ended("The component is locked.", 75, True)])
async def test_a_worker_that_fails_at_first_is_not_replaced_and_says_why(stage: Stage, ended: Ended) -> None:
    stage.endings = [ended]
    with pytest.raises(HastError, match=ended.message) as caught:
        await stage.become(Role.PRIMARY)
    assert caught.value.exit_code == ended.exit_code
    assert stage.log == ["mount", "start 1", "abandon"]
    assert stage.resource.role is Role.INIT
    assert stage.hooks.fired == []


async def test_a_mount_that_fails_is_told_and_leaves_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        raise BusyError("/run/hast/disk is a mount point already.")

    monkeypatch.setattr(stage.export, "mount", refuse)
    with pytest.raises(BusyError, match="mount point already"):
        await stage.become(Role.PRIMARY)
    assert stage.log == ["abandon"]


async def test_a_device_that_cannot_be_had_undoes_the_rest(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        raise BusyError("/dev/hast/disk leads to /dev/loop7.")

    monkeypatch.setattr(stage.export, "attach", refuse)
    with pytest.raises(BusyError, match="loop7"):
        await stage.become(Role.PRIMARY)
    assert stage.log == ["mount", "start 1", "abandon"]
    assert stage.workers[0].ended.is_set()


async def test_a_worker_that_hangs_at_the_start_is_given_up_in_time(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.hang = True
    started = trio.current_time()
    with pytest.raises(SystemFailure, match="did not become primary within 13 s"):
        await stage.become(Role.PRIMARY)
    assert trio.current_time() - started == pytest.approx(13)
    assert stage.log[-1] == "abandon"
    assert stage.resource.role is Role.INIT


async def test_a_secondary_that_cannot_become_primary_stays_secondary(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    stage.endings = [BROKEN]
    with pytest.raises(WorkerFailed):
        await stage.become(Role.PRIMARY)
    assert stage.resource.role is Role.SECONDARY
    assert stage.hooks.fired == ["role disk init secondary"]


async def test_a_node_without_a_usable_component_does_not_become_secondary(stage: Stage) -> None:
    stage.unreadable = "Unable to open /nowhere/disk: No such file or directory."
    with pytest.raises(ComponentError, match="Unable to open"):
        await stage.become(Role.SECONDARY)
    assert stage.resource.role is Role.INIT


async def test_from_primary_to_secondary_is_one_change(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    await stage.become(Role.SECONDARY)
    assert stage.hooks.fired[1:] == ["role disk primary secondary"]


async def test_a_secondary_has_a_worker_only_while_it_is_linked(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    assert stage.workers == []
    await stage.resource.accept_link(link())
    assert isinstance(stage.jobs[0], SecondaryJob)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.workers) == 1
    assert stage.resource.role is Role.SECONDARY
    assert (await stage.resource.status()).workerpid == 0


async def test_a_new_link_starts_when_the_worker_before_has_ended(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    await stage.resource.drop_link()
    assert stage.workers[0].ended.is_set()
    await stage.resource.accept_link(link())
    assert stage.log == ["start 1", "stop 1", "start 2"]


async def test_a_worker_that_is_slow_to_stop_is_not_forgotten_by_a_primary_that_does_not_wait_for_it(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    stage.workers[0].stops_after = 4
    with trio.move_on_after(3):
        await stage.resource.drop_link()
    await stage.resource.accept_link(link())
    assert stage.log == ["start 1", "stop 1", "start 2"]
    assert stage.workers[0].ended.is_set()


async def test_leaving_secondary_stops_its_worker(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    await stage.become(Role.INIT)
    assert stage.log == ["start 1", "stop 1"]


async def test_a_link_that_comes_too_late_is_closed(stage: Stage) -> None:
    late = link()
    await stage.resource.accept_link(late)
    assert late.first.fileno() == late.second.fileno() == -1
    assert stage.workers == []


async def test_split_brain_is_told_once_until_nodes_connect_again(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    stage.hooks.fired.clear()
    await stage.resource.accept_link(link())
    assert stage.notify is not None
    for event in (Event.SPLIT_BRAIN, Event.SPLIT_BRAIN, Event.CONNECT, Event.DISCONNECT, Event.SPLIT_BRAIN):
        stage.notify(event)
    assert stage.hooks.fired == ["split-brain disk", "connect disk", "disconnect disk", "split-brain disk"]


async def test_status_of_a_worker_that_hangs_is_an_error_of_that_resource(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    stage.hang = True
    await stage.resource.accept_link(link())
    status = await stage.resource.status()
    assert (status.error, status.errmsg) == (71, "Worker process does not answer.")
    assert (status.resource, status.role) == ("disk", "secondary")


async def test_status_of_a_primary_has_its_workers_numbers(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    status = await stage.resource.status()
    assert (status.role, status.status, status.workerpid, status.extentsize) == ("primary", "complete", 1, 2097152)
    assert status.stats == {"stat_read": 1}


async def test_role_changes_wait_for_one_another(stage: Stage) -> None:
    async with trio.open_nursery() as nursery:
        for role in (Role.PRIMARY, Role.INIT, Role.PRIMARY, Role.SECONDARY):
            nursery.start_soon(stage.become, role)
            await trio.lowlevel.checkpoint()
    assert stage.log.count("abandon") == 2
    assert len(stage.hooks.fired) >= 3


async def successor(stage: Stage, nursery: trio.Nursery) -> Stage:
    """What another program makes of what the resource of `stage` leaves."""
    async with stage.resource.changing, stage.resource.unchanging():
        left = stage.resource.bequeath()
    after = Stage(log=stage.log)
    await nursery.start(after.resource.run)
    if left is not None:
        after.resource.inherit(left)
    return after


@pytest.fixture
def adopted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """The workers that another program finds: they can be told what to do, unlike those of `Worker.inherit`."""
    made: list[FakeWorker] = []

    def inherit(left: InheritedWorker, notify: Notify) -> FakeWorker:
        made.append(FakeWorker(left.pid, stage.log, None, False))
        made[-1].inherited = True
        return made[-1]

    monkeypatch.setattr(FakeWorker, "bequeath", lambda worker: InheritedWorker(worker.pid, 0, 0, True, False, False, 0))
    monkeypatch.setattr(Worker, "inherit", inherit)
    return made


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as made:
        yield made
        made.cancel_scope.cancel()


async def test_a_resource_without_a_role_leaves_nothing(stage: Stage) -> None:
    assert stage.resource.bequeath() is None


async def test_a_primary_goes_on_under_another_program_and_gets_a_worker_of_its_own(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.PRIMARY)
    stage.log.clear()
    after = await successor(stage, nursery)
    assert after.resource.role is Role.PRIMARY
    assert (await after.resource.status()).workerpid == 1
    assert after.export.inherited == InheritedImage(99, "/dev/loop7")
    await after.resource.renew()
    assert stage.log == ["hand over 1", "replace with 1"]
    assert ways_of_taking_over(after) == [(True, True)]
    assert adopted[0].ended.is_set()
    await after.become(Role.INIT)
    assert stage.log[2:] == ["take away", "stop 1", "abandon"]
    assert after.hooks.fired == ["role disk primary init"]


async def test_a_primary_without_a_worker_gets_one_under_another_program(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    role = await stage.become_primary()
    stage.endings = [KILLED]
    await trio.sleep(2)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    role.worker = None
    after = await successor(stage, nursery)
    await after.resource.renew()
    assert adopted == []
    assert ways_of_taking_over(after) == [(True, False)]


async def test_a_worker_that_dies_under_another_program_is_replaced_there(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.PRIMARY)
    after = await successor(stage, nursery)
    adopted[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    await after.resource.renew()
    assert stage.log[3:] == ["replace with 1"], "that one is fresh already"
    assert ways_of_taking_over(after) == [(True, False)]


async def test_a_primary_that_cannot_go_on_under_another_program_is_told_and_lost(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.PRIMARY)
    after = await successor(stage, nursery)
    after.endings = [BROKEN]
    with pytest.raises(SystemFailure, match="not primary any more"):
        await after.resource.renew()
    assert after.resource.role is Role.INIT
    assert after.hooks.fired == ["role disk primary init"]
    assert stage.log[-1] == "abandon"


async def test_a_primary_whose_new_worker_hangs_is_told_in_time(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become(Role.PRIMARY)
    after = await successor(stage, nursery)
    after.hang = True
    with pytest.raises(SystemFailure, match="has no worker that serves it within 26 s"):
        await after.resource.renew()
    assert after.resource.role is Role.PRIMARY


async def test_a_secondary_goes_on_under_another_program_until_its_primary_comes_anew(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    stage.resource._split_brain = True
    after = await successor(stage, nursery)
    assert after.resource.role is Role.SECONDARY
    assert (await after.resource.status()).workerpid == 1
    await after.resource.renew()
    assert adopted[0].ended.is_set()
    assert (await after.resource.status()).workerpid == 0
    await after.resource.accept_link(link())
    assert stage.log == ["start 1", "stop 1", "start 1"]
    assert after.notify is not None
    after.notify(Event.SPLIT_BRAIN)
    assert after.hooks.fired == [], "it was told by the program before"


async def test_a_secondary_whose_primary_has_come_anew_meanwhile_keeps_that_link(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    after = await successor(stage, nursery)
    await after.resource.accept_link(link())
    await after.resource.renew()
    assert stage.log == ["start 1", "stop 1", "start 1"]
    assert not after.workers[0].ended.is_set()


async def test_a_secondary_without_a_link_goes_on_under_another_program(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery
) -> None:
    await stage.become(Role.SECONDARY)
    after = await successor(stage, nursery)
    await after.resource.renew()
    await after.resource.accept_link(link())
    assert stage.log == ["start 1"]


ASYNC = replace(CONFIG, replication=Replication.ASYNC)
MOVED = replace(CONFIG, remote=parse("192.0.2.7"))


async def test_a_running_primarys_worker_hears_of_a_changed_configuration(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    await stage.resource.apply(ASYNC)
    assert stage.workers[0].configs == [ASYNC]
    assert stage.log == ["mount", "start 1", "attach", "configure 1"]
    assert (await stage.resource.status()).replication == "async"


async def test_a_worker_that_replaces_another_has_the_configuration_of_now(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    await stage.resource.apply(ASYNC)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert [job.config for job in stage.jobs] == [CONFIG, ASYNC]


async def test_a_worker_that_does_not_take_a_changed_configuration_is_replaced(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(Role.PRIMARY)
    stage.workers[0].hangs = True
    await stage.resource.apply(ASYNC)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.log[3:] == ["configure 1", "kill 1", "replace with 2"]
    assert stage.jobs[1].config == ASYNC
    assert stage.resource.role is Role.PRIMARY
    assert "it would go on with the old configuration" in caplog.text


async def test_a_worker_that_is_dead_already_is_not_complained_about(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.become(Role.PRIMARY)
    stage.workers[0].end(KILLED)
    await stage.resource.apply(ASYNC)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.jobs[1].config == ASYNC
    assert "old configuration" not in caplog.text


async def test_a_secondarys_worker_hears_of_a_changed_configuration(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.apply(replace(CONFIG, timeout=7))
    await stage.resource.accept_link(link())
    await stage.resource.apply(ASYNC)
    assert stage.workers[0].configs == [ASYNC]
    assert stage.log == ["start 1", "configure 1"]


async def test_a_secondary_with_another_remote_lets_go_of_its_primary(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    await stage.resource.apply(MOVED)
    assert stage.log == ["start 1", "stop 1"]
    await stage.resource.accept_link(link())
    assert stage.jobs[1].config == MOVED


async def test_a_link_from_the_remote_of_before_does_not_slip_in(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    late = link()
    async with trio.open_nursery() as nursery, stage.resource.changing:
        nursery.start_soon(stage.resource.accept_link, late)
        await trio.testing.wait_all_tasks_blocked()
        await stage.resource.apply(MOVED)
    assert stage.workers == []
    assert late.first.fileno() == -1


async def test_the_new_hook_is_told_what_happens_next(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    await stage.resource.apply(replace(CONFIG, exec="/other"))
    assert stage.notify is not None
    stage.notify(Event.CONNECT)
    assert stage.hooks.paths == ["/hook", "/other"]


async def test_a_resource_that_is_gone_takes_no_role(stage: Stage) -> None:
    stage.resource.end()
    assert await stage.become(Role.INIT) is Role.INIT
    with pytest.raises(DataError, match="Resource disk is not configured any more"):
        await stage.become(Role.PRIMARY)


def detachments(stage: Stage) -> list[tuple[bytes | None, bool]]:
    """What each primary's worker was told of its component: (what a predecessor left, whether to attach it)."""
    return [(job.detached, job.attaching) for job in stage.jobs if isinstance(job, PrimaryJob)]


async def test_the_successor_of_a_worker_without_component_has_none_either(stage: Stage) -> None:
    await stage.become_primary()
    stage.workers[0].detached = b"left"
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    stage.workers[1].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert detachments(stage)[:2] == [(None, False), (b"left", False)]


async def test_attach_renews_the_worker_with_its_component(stage: Stage) -> None:
    role = await stage.become_primary()
    stage.workers[0].detached = b"left"
    await stage.resource.attach()
    assert stage.log[3:] == ["hand over 1", "replace with 2"]
    assert detachments(stage) == [(None, False), (b"left", True)]
    assert stage.hooks.fired[-1] == "attach disk"
    await role.renew_worker()
    assert detachments(stage)[-1] == (None, False)


async def test_attach_does_nothing_where_the_component_is_in_use(stage: Stage) -> None:
    await stage.become_primary()
    await stage.resource.attach()
    assert stage.log == ["mount", "start 1", "attach"]


async def test_a_component_that_cannot_be_attached_changes_nothing(stage: Stage) -> None:
    await stage.become_primary()
    stage.workers[0].detached = b"left"
    stage.unreadable = "Unable to open /nowhere/disk: No such device."
    with pytest.raises(ComponentError, match="No such device"):
        await stage.resource.attach()
    assert stage.log == ["mount", "start 1", "attach"]


async def test_a_component_that_a_fresh_worker_cannot_use_does_not_cost_the_role(stage: Stage) -> None:
    await stage.become_primary()
    stage.workers[0].detached = b"left"
    stage.endings = [BROKEN]
    with pytest.raises(ComponentError, match="damaged"):
        await stage.resource.attach()
    assert stage.resource.role is Role.PRIMARY
    assert detachments(stage) == [(None, False), (b"left", True), (b"left", False)]
    await stage.resource.attach()
    assert detachments(stage)[-1] == (b"left", True)
    assert stage.hooks.fired[-1] == "attach disk"


async def test_a_secondary_opens_its_component_anew(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    await stage.resource.attach()
    assert stage.log == ["start 1", "stop 1"]


async def test_each_worker_hears_what_those_before_left_in_the_other_nodes_cache(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become_primary()
    for said in (None, Risk(7), None, Risk(8, lost=True)):
        await trio.sleep(5)
        stage.workers[-1].risk = said
        stage.workers[-1].end(KILLED)
        await trio.testing.wait_all_tasks_blocked()
    risks = [job.risk for job in stage.jobs if isinstance(job, PrimaryJob)]
    assert risks == [None, Risk(), Risk(7), Risk(7), Risk(8, lost=True)]


async def test_out_of_service_there_is_nothing_to_attach(stage: Stage) -> None:
    with pytest.raises(DataError, match="role init"):
        await stage.resource.attach()


async def test_an_upgrade_hands_on_what_is_in_the_other_nodes_cache(
    stage: Stage, adopted: list[FakeWorker], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become_primary()
    stage.workers[0].risk = Risk(7, lost=True)
    after = await successor(stage, nursery)
    await trio.sleep(5)
    adopted[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert [job.risk for job in after.jobs if isinstance(job, PrimaryJob)] == [Risk(7, lost=True)]


async def test_what_goes_on_without_its_component_does_so_after_an_upgrade(stage: Stage) -> None:
    await stage.become_primary()
    stage.workers[0].detached = b"left"
    left = stage.resource.bequeath()
    assert left is not None and left.detached == b"left".hex()


async def test_the_successor_of_a_worker_without_a_link_waits_for_nobody(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.become_primary()
    for connected in (True, False):
        await trio.sleep(5)
        stage.workers[-1].connected = connected
        stage.workers[-1].end(KILLED)
        await trio.testing.wait_all_tasks_blocked()
    assert [job.alone for job in stage.jobs if isinstance(job, PrimaryJob)] == [False, False, True]
