"""Roles that are taken again: what is remembered, and when a node that was primary becomes it again."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hastfs.address import parse
from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon import managed, rolememory
from hastfs.daemon.autorole import AutoRole, Other, look_at_other
from hastfs.daemon.managed import ManagedResource
from hastfs.errors import BusyError, HastError, SystemFailure
from hastfs.model import Role
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.handshake import Hello, Refusal, Welcome, acts_as
from tests.daemon_fakes import CONFIG


class Resource(ManagedResource):
    """One that can have any role but those in `refusals`."""

    def __init__(self, config: ResourceConfig) -> None:
        self.config = config
        self.role = Role.INIT
        self.wanted: Role | None = None
        self.refusals: dict[Role, HastError] = {}
        self.asked: list[Role] = []

    async def set_role(
        self, role: Role, *, force: bool, wanted: bool = True, unless: Callable[[], bool] = lambda: False
    ) -> Role:
        assert not force
        before = self.role
        if unless():
            return before
        self.asked.append(role)
        await trio.sleep(1)
        if role in self.refusals:
            raise self.refusals[role]
        self.role = role
        if wanted:
            self.wanted = role
        return before


class Stage:
    def __init__(self, statedir: Path, **changes: object) -> None:
        config = replace(CONFIG, autorole=True, remote=parse("192.0.2.2"))
        self.resource = Resource(replace(config, **changes))  # type: ignore[arg-type]
        self.config = Config("", "", "", (), "", {}, statedir=str(statedir))
        self.other = Other.AWAY
        self.looks = 0
        self.autorole = AutoRole({"disk": self.resource}, lambda: self.config, self.look)

    async def look(self, config: ResourceConfig) -> tuple[Other, str]:
        self.looks += 1
        await trio.lowlevel.checkpoint()
        return self.other, "words"


async def at_once(call: Callable[..., object], *arguments: object) -> object:
    """For trio.to_thread.run_sync: a clock that jumps does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return call(*arguments)


@pytest.fixture
def statedir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return tmp_path / "state"


@asynccontextmanager
async def restarted(stage: Stage, role: Role) -> AsyncIterator[Stage]:
    """hastd starts; the resource had this role."""
    rolememory.save(stage.config.statedir, {"disk": role})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.autorole.run)
        yield stage
        nursery.cancel_scope.cancel()


def test_roles_are_kept_in_a_file(statedir: Path) -> None:
    assert rolememory.load(str(statedir)) == {}
    for roles in ({"a": Role.PRIMARY, "b": Role.SECONDARY}, {"a": Role.INIT}):
        rolememory.save(str(statedir), roles)
        assert rolememory.load(str(statedir)) == roles
    assert [path.name for path in statedir.iterdir()] == ["roles.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": "king"}', '{"a": 1}', "\xff\xfe", "[" * 100000])
def test_a_damaged_file_is_said_to_be_so(statedir: Path, text: str) -> None:
    statedir.mkdir()
    (statedir / "roles.json").write_text(text, encoding="latin-1")
    with pytest.raises(SystemFailure, match=r"roles\.json is damaged"):
        rolememory.load(str(statedir))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match=r"file/state/roles\.json"):
        rolememory.save(str(tmp_path / "file" / "state"), {})


async def test_what_somebody_wanted_is_remembered_and_not_what_became_of_it(statedir: Path) -> None:
    stage = Stage(statedir)
    stage.resource.wanted = stage.resource.role = Role.PRIMARY
    await stage.autorole.remember()
    assert rolememory.load(str(statedir)) == {"disk": Role.PRIMARY}
    stage.resource.role = Role.INIT  # its disk failed, or hastd ends
    await stage.autorole.remember()
    assert rolememory.load(str(statedir)) == {"disk": Role.PRIMARY}
    stage.resource.wanted = Role.INIT
    await stage.autorole.remember()
    assert rolememory.load(str(statedir)) == {"disk": Role.INIT}


async def test_without_autorole_nothing_is_remembered_or_restored(statedir: Path, autojump_clock: MockClock) -> None:
    stage = Stage(statedir, autorole=False)
    stage.resource.wanted = Role.PRIMARY
    await stage.autorole.remember()
    with pytest.raises(FileNotFoundError):
        os.stat(statedir)
    async with restarted(stage, Role.SECONDARY):
        await trio.sleep(100)
    assert stage.resource.asked == []


async def test_a_role_that_cannot_be_remembered_is_had_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    stage = Stage(tmp_path / "file")
    stage.resource.wanted = Role.PRIMARY
    await stage.autorole.remember()
    assert "Unable to" in caplog.text


async def test_a_secondary_is_secondary_again_without_asking_anybody(statedir: Path, autojump_clock: MockClock) -> None:
    async with restarted(Stage(statedir), Role.SECONDARY) as stage:
        await trio.sleep(10)
        assert stage.resource.role is Role.SECONDARY
        assert stage.looks == 0


async def test_what_had_the_role_init_keeps_it(statedir: Path, autojump_clock: MockClock) -> None:
    async with restarted(Stage(statedir), Role.INIT) as stage:
        await trio.sleep(10)
        assert stage.resource.asked == []


@pytest.mark.parametrize("other", [Other.READY, Other.NONE])
async def test_a_primary_is_primary_again_where_nobody_is_in_its_way(
    statedir: Path, autojump_clock: MockClock, other: Other
) -> None:
    stage = Stage(statedir)
    stage.other = other
    async with restarted(stage, Role.PRIMARY):
        await trio.sleep(10)
        assert stage.resource.role is Role.PRIMARY


async def test_a_primary_whose_other_node_took_over_becomes_its_secondary_and_remembers_that(
    statedir: Path, autojump_clock: MockClock
) -> None:
    stage = Stage(statedir)
    stage.other = Other.PRIMARY
    async with restarted(stage, Role.PRIMARY):
        await trio.sleep(10)
        assert stage.resource.asked == [Role.SECONDARY]
        assert rolememory.load(str(statedir)) == {"disk": Role.SECONDARY}


@pytest.mark.parametrize("other", [Other.AWAY, Other.REFUSES])
async def test_a_primary_waits_for_the_other_node_and_says_so_once(
    statedir: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, other: Other
) -> None:
    stage = Stage(statedir)
    stage.other = other
    async with restarted(stage, Role.PRIMARY):
        await trio.sleep(1000)
        assert stage.resource.asked == []
        assert caplog.text.count("hastctl role primary disk") == 1
        stage.other = Other.READY
        await trio.sleep(60)
        assert stage.resource.role is Role.PRIMARY


async def test_with_a_fence_program_a_primary_does_not_wait_but_tries(
    statedir: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(statedir, fence="/fence")
    stage.resource.refusals[Role.PRIMARY] = BusyError("The fence program says no.")
    async with restarted(stage, Role.PRIMARY):
        await trio.sleep(1000)
        assert 5 < len(stage.resource.asked) < 50
        assert caplog.text.count("says no") == 1
        del stage.resource.refusals[Role.PRIMARY]
        await trio.sleep(60)
        assert stage.resource.role is Role.PRIMARY


async def test_who_sets_a_role_ends_the_waiting(statedir: Path, autojump_clock: MockClock) -> None:
    async with restarted(Stage(statedir), Role.PRIMARY) as stage:
        await trio.sleep(10)
        stage.autorole.decided(["disk"])  # hastctl role init
        stage.other = Other.READY
        await trio.sleep(1000)
        assert stage.resource.asked == []


# -- looking at the other node -----------------------------------------------------------------------------------------


@asynccontextmanager
async def other_node(answer: Welcome | Refusal | None) -> AsyncIterator[ResourceConfig]:
    """The configuration that leads to one that answers so, or not at all."""
    listener = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await listener.bind(("127.0.0.1", 0))
    listener.listen()

    async def serve() -> None:
        sock, _ = await listener.accept()
        with sock:
            reader = FrameReader(4096, 0)
            while (frame := reader.next()) is None:
                reader.received(await sock.recv_into(reader.buffer()))
            assert Hello.decode(frame).resource == "disk"
            if answer is not None:
                await sock.send(b"".join(answer.encode()))

    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield replace(CONFIG, remote=parse(f"tcp4://127.0.0.1:{port}"))
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Welcome(3, bytes(16)), Other.READY),
        (Refusal(acts_as(Role.PRIMARY), wait=True), Other.PRIMARY),
        (Refusal(acts_as(Role.INIT)), Other.REFUSES),
        (None, Other.AWAY),
    ],
)
async def test_the_other_node_is_looked_at(answer: Welcome | Refusal | None, expected: Other) -> None:
    async with other_node(answer) as config:
        assert (await look_at_other(config))[0] is expected


async def test_a_node_that_is_not_there_is_away_and_none_is_none() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = replace(CONFIG, remote=parse(f"tcp4://127.0.0.1:{unused.getsockname()[1]}"))
        assert (await look_at_other(config))[0] is Other.AWAY
    assert (await look_at_other(CONFIG))[0] is Other.NONE


async def test_nothing_is_done_to_a_resource_that_somebody_has_changed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = ManagedResource.__new__(ManagedResource)
    resource.changing = trio.Lock()
    resource.role = Role.INIT
    assert await managed.ManagedResource.set_role(resource, Role.PRIMARY, force=False, unless=lambda: True) is Role.INIT
    assert resource.role is Role.INIT
