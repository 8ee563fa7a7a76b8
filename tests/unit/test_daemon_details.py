"""hastfs.daemon.managed: the details of a resource, whatever its role and however its worker does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from hastfs.address import parse
from hastfs.daemon import managed
from hastfs.details import Details
from hastfs.errors import SystemFailure
from hastfs.model import Consistency, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.events import Event
from hastfs.resource.status import Status
from tests.daemon_fakes import CONFIG, KILLED, FakeWorker
from tests.unit.test_daemon_roles import Stage, link, stage

__all__ = ["stage"]

TOLD = Details(
    "primary", "connected", "up-to-date", "up-to-date", last_in_sync=7.0, counters={"reads": 3, "connects": 9}
)


def tells(monkeypatch: pytest.MonkeyPatch, details: Details, status_word: str = "complete") -> None:
    """What every worker answers from now on."""

    async def status(self: FakeWorker, cells: int = 0) -> Status:
        if self.hangs or self.ended.is_set():
            raise SystemFailure("Worker process does not answer.")
        return Status(status_word, 0, 0, 0, details=details)

    monkeypatch.setattr(FakeWorker, "status", status)


async def test_a_resource_that_is_not_in_use(stage: Stage) -> None:
    seen = await stage.resource.details()
    assert (seen.role, seen.connection, seen.problem, seen.answered) == ("init", "none", "", True)


async def test_what_a_worker_tells_is_completed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    tells(monkeypatch, TOLD)
    await stage.become(Role.PRIMARY)
    assert stage.notify is not None
    stage.notify(Event.CONNECT)
    seen = await stage.resource.details()
    assert (seen.role, seen.connection, seen.disk, seen.last_in_sync) == ("primary", "connected", "up-to-date", 7.0)
    assert seen.counters == {"reads": 3, "connects": 1, "disconnects": 0, "worker_restarts": 0}
    stage.notify(Event.DISCONNECT)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.workers) == 2
    tells(monkeypatch, Details("primary", "connecting", "up-to-date", problem="Nobody there."))
    seen = await stage.resource.details()
    assert (seen.connection, seen.problem, seen.last_in_sync) == ("connecting", "Nobody there.", 7.0)
    assert {name: seen.counters[name] for name in ("disconnects", "worker_restarts")} == {
        "disconnects": 1,
        "worker_restarts": 1,
    }


async def test_a_split_brain_is_remembered_between_two_attempts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    tells(monkeypatch, Details("primary", "connecting", "up-to-date"))
    await stage.become(Role.PRIMARY)
    assert stage.notify is not None
    stage.notify(Event.SPLIT_BRAIN)
    seen = await stage.resource.details()
    assert seen.connection == "split-brain"
    assert seen.remedy.startswith("hastctl role init disk")


async def test_what_hinders_after_a_split_brain_is_told_instead(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other node was made anew, but with extents of another size, for example."""
    await stage.become(Role.PRIMARY)
    assert stage.notify is not None
    stage.notify(Event.SPLIT_BRAIN)
    for connection in ("refused", "connecting"):
        tells(monkeypatch, Details("primary", connection, "up-to-date", problem="Extent size differs."))
        seen = await stage.resource.details()
        assert (seen.connection, seen.problem) == (connection, "Extent size differs.")


async def test_the_remedy_of_a_split_brain_makes_a_component_that_the_other_node_takes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.resource.config = replace(CONFIG, remote=parse("192.0.2.2"))
    monkeypatch.setattr(managed, "read_metadata", lambda config: Metadata(CONFIG.name, 1 << 20, 1 << 16, 9, 8192))
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    assert stage.notify is not None
    stage.notify(Event.SPLIT_BRAIN)
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    assert " && hastctl create -e 64K -k 9 disk && " in (await stage.resource.details()).remedy


async def test_a_worker_that_hangs_leaves_what_is_known_without_it(stage: Stage) -> None:
    await stage.become(Role.PRIMARY)
    stage.workers[0].hangs = True
    seen = await stage.resource.details()
    assert (seen.role, seen.answered, seen.remedy) == ("primary", False, "kill -9 1")


@pytest.mark.parametrize(
    ("consistency", "disk"), [(Consistency.CONSISTENT, "up-to-date"), (Consistency.INCONSISTENT, "inconsistent")]
)
async def test_a_secondary_without_a_primary_tells_what_is_on_its_disk(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, consistency: Consistency, disk: str
) -> None:
    metadata = Metadata(CONFIG.name, 1 << 20, 4096, 4, 8192, consistency=consistency)
    stage.resource.config = replace(CONFIG, remote=parse("192.0.2.2"))
    monkeypatch.setattr(managed, "read_metadata", lambda config: metadata)
    await stage.become(Role.SECONDARY)
    seen = await stage.resource.details()
    assert (seen.role, seen.connection, seen.disk, seen.size) == ("secondary", "connecting", disk, 1 << 20)
    assert seen.problem == "No primary is connected."


async def test_a_secondary_whose_component_is_gone_says_so(stage: Stage) -> None:
    await stage.become(Role.SECONDARY)
    stage.unreadable = "Unable to open /nowhere/disk: No such file or directory."
    seen = await stage.resource.details()
    assert (seen.disk, seen.problem, seen.remedy) == ("unknown", stage.unreadable, "")


async def test_a_secondary_that_was_in_sync_still_knows_when(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    tells(monkeypatch, Details("secondary", "connected", "up-to-date", last_in_sync=7.0))
    await stage.become(Role.SECONDARY)
    await stage.resource.accept_link(link())
    assert (await stage.resource.details()).connection == "connected"
    stage.workers[0].end(KILLED)
    await trio.testing.wait_all_tasks_blocked()
    metadata = Metadata(CONFIG.name, 1 << 20, 4096, 4, 8192)
    monkeypatch.setattr(managed, "read_metadata", lambda config: metadata)
    assert (await stage.resource.details()).last_in_sync == 7.0


@pytest.mark.parametrize(("word", "held"), [("held", True), ("degraded", False)])
async def test_a_primary_that_waits_for_fencing_says_so(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str, held: bool
) -> None:
    tells(monkeypatch, Details("primary", "connecting", started=1.0), word)
    await stage.become(Role.PRIMARY)
    assert (await stage.resource.details()).held is held
