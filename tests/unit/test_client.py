"""hastfs.client, with a hastd that only answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

import hastfs.client
from hastfs.client import Client, Details, Goal, Kind, ResourcesRefused, Role
from hastfs.client import connection as connection_module
from hastfs.daemon import sockets
from hastfs.daemon.controlserver import ControlServer
from hastfs.daemon.newsroom import Newsroom
from hastfs.errors import BusyError, ConfigMissing, DataError, HastError, NotYet, SystemFailure
from hastfs.frontend import usable
from hastfs.protocol.control import ERROR_NO_RESOURCE, ControlCommand, Reply, Request, ResourceStatus
from hastfs.resource.events import Event


class Resource:
    def __init__(self) -> None:
        self.now = Details("primary", "connecting")

    async def details(self, cells: int = 0) -> Details:
        await trio.lowlevel.checkpoint()
        return self.now


class Hastd:
    """Its control socket, and two resources of which `bad` can nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.one = Resource()
        resources = {"one": self.one, "bad": Resource()}
        self.newsroom = Newsroom(lambda: resources)
        self.server = ControlServer(self, self.newsroom)
        self.requests: list[Request] = []
        self.refuses: HastError | None = None
        self.silent = False
        self._scope = trio.CancelScope()
        self._listener = sockets.listen_control(path)

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.newsroom.run)
                nursery.start_soon(self.server.run, self._listener)

    def vanish(self) -> None:
        self._scope.cancel()

    async def _answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.refuses is not None:
            raise self.refuses
        if self.silent:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return Reply(resources=[self._say(name, request) for name in request.resources])

    def _say(self, name: str, request: Request) -> ResourceStatus:
        if name == "bad":
            return ResourceStatus(name, os.EX_TEMPFAIL, "It is in use.", role="primary")
        if name == "nope":
            return ResourceStatus(name, ERROR_NO_RESOURCE)
        return ResourceStatus(name, role="init", details=self.one.now if request.details else None)

    set_role = status = reload = attach = stop = log_level = _answer

    async def upgrade(self, client: int) -> Reply:
        raise NotImplementedError

    def end(self) -> None:
        """A real one ends when it has said so."""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "control")


@pytest.fixture
async def hastd(path: str, nursery: trio.Nursery) -> AsyncIterator[Hastd]:
    made = Hastd(path)
    nursery.start_soon(made.run)
    yield made


@pytest.fixture
async def client(hastd: Hastd) -> AsyncIterator[Client]:
    async with hastfs.client.connect(control=hastd.path) as made:
        yield made


async def test_status_gives_all_that_there_is_to_know(hastd: Hastd, client: Client) -> None:
    one, nope = await client.status("one", "nope", cells=3)
    assert (one.name, one.error, one.status.role, one.details) == ("one", 0, "init", hastd.one.now)
    assert (nope.name, nope.error, nope.details) == ("nope", ERROR_NO_RESOURCE, Details())
    assert hastd.requests == [Request(ControlCommand.STATUS, None, False, ("one", "nope"), True, 3)]


async def test_no_names_are_all(hastd: Hastd, client: Client) -> None:
    await client.status()
    assert hastd.requests[0].resources == ("all",)


async def test_set_role_gives_the_roles_before(hastd: Hastd, client: Client) -> None:
    assert await client.set_role("secondary", "one", force=True) == {"one": Role.INIT}
    assert hastd.requests == [Request(ControlCommand.SETROLE, Role.SECONDARY, True, ("one",))]


async def test_resources_that_refuse_are_named(client: Client) -> None:
    with pytest.raises(ResourcesRefused) as caught:
        await client.set_role(Role.PRIMARY, "one", "bad", "nope")
    assert caught.value.reasons == {"bad": "It is in use.", "nope": "Unknown resource nope."}
    assert str(caught.value) == "[bad] It is in use. [nope] Unknown resource nope."
    assert caught.value.exit_code == os.EX_TEMPFAIL


async def test_words_that_are_none_are_refused(client: Client) -> None:
    with pytest.raises(DataError, match="Unknown role master"):
        await client.set_role("master", "one")
    with pytest.raises(DataError, match="Unknown goal happiness"):
        await client.wait("happiness", "one")


async def test_a_refusal_of_the_whole_has_the_daemons_words(hastd: Hastd, client: Client) -> None:
    hastd.refuses = BusyError("hastd is stopping.")
    for ask in (client.reload, client.stop, client.status):
        with pytest.raises(hastfs.client.DaemonError, match=r"^hastd is stopping\.$") as caught:
            await ask()
        assert caught.value.exit_code == os.EX_TEMPFAIL


async def test_a_daemon_that_says_nothing_is_not_waited_for(
    hastd: Hastd, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "STATUS_WITHIN", 0.01)
    hastd.silent = True
    with pytest.raises(SystemFailure, match=r"^No answer from hastd via .* within 0.01 s"):
        await client.status()


async def test_no_daemon_and_no_configuration_are_said(path: str) -> None:
    async with hastfs.client.connect(control=path) as client:
        for ask in (client.status, client.stop, client.reload):
            with pytest.raises(SystemFailure, match="Unable to connect to hastd"):
                await ask()
    with pytest.raises(ConfigMissing):
        async with hastfs.client.connect(path):
            pass


async def test_the_state_comes_first_and_then_what_is_new(hastd: Hastd, client: Client) -> None:
    async with aclosing(client.events("one")) as events:
        first = await anext(events)
        assert (first.kind, first.resource, first.facts["connection"]) == (Kind.EXISTS, "one", "connecting")
        assert (await anext(events)).resource is None
        hastd.newsroom.happened("one", Event.CONNECT)
        assert (await anext(events)).facts == {"happening": "connect"}


async def test_now_is_the_state_only(client: Client) -> None:
    assert [news.resource for news in [news async for news in client.events(now=True)]] == ["one", "bad", None]


async def test_events_end_with_the_daemon(hastd: Hastd, client: Client) -> None:
    async with aclosing(client.events()) as events:
        for _ in range(3):
            await anext(events)
        await hastd.server.dismiss("stop")
        assert [news async for news in events] == []


async def test_events_go_on_across_an_upgrade(hastd: Hastd, client: Client) -> None:
    async with aclosing(client.events("one")) as events:
        for _ in range(2):
            await anext(events)
        await hastd.server.dismiss("upgrade")
        assert [(await anext(events)).kind for _ in range(3)] == [Kind.MISSED, Kind.EXISTS, Kind.EXISTS]


async def test_a_daemon_that_vanishes_is_an_error(hastd: Hastd, client: Client) -> None:
    with pytest.raises(SystemFailure, match=r" is gone\.$"):
        async with aclosing(client.events()) as events:
            for _ in range(3):
                await anext(events)
            hastd.vanish()
            await anext(events)


async def someone_listens(hastd: Hastd) -> None:
    """And has been told the state."""
    with trio.fail_after(60):
        while not any(listener._begun for listener in hastd.newsroom._listeners):
            await trio.lowlevel.checkpoint()


async def test_wait_returns_when_it_is_so(hastd: Hastd, client: Client) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.wait, "connected", "one")
        await someone_listens(hastd)
        hastd.one.now = Details("primary", "connected")
        hastd.newsroom.happened("one")


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_wait_in_vain_is_not_yet(client: Client, timeout: float) -> None:
    with pytest.raises(NotYet, match=rf"^Not connected within {timeout:g} s: one, bad\.$"):
        await client.wait(Goal.CONNECTED, timeout=timeout)
    await client.wait(Goal.PRIMARY, "one", timeout=timeout)


async def test_wait_for_what_is_not_configured_is_refused(client: Client) -> None:
    with pytest.raises(DataError, match="Unknown resource nope"):
        await client.wait("primary", "one", "nope")


async def test_a_waiting_program_is_told_when_hastd_stops(hastd: Hastd, client: Client, nursery: trio.Nursery) -> None:
    async def stop() -> None:
        await someone_listens(hastd)
        await hastd.server.dismiss("stop")

    nursery.start_soon(stop)
    with pytest.raises(SystemFailure, match="hastd has stopped"):
        await client.wait("connected")


async def test_set_role_can_wait_until_the_disk_is_usable(
    hastd: Hastd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(usable, "check", lambda resource, mountdir, within: looked.append(resource.name))
    node = os.uname().nodename.partition(".")[0]
    config = tmp_path / "hast.conf"
    config.write_text(f"control {hastd.path}\nresource one {{ on {node} {{ local /x remote none }} }}\n")
    async with hastfs.client.connect(str(config)) as client:
        with pytest.raises(NotYet):
            await client.set_role("primary", "one", wait=True, timeout=0)
        assert looked == []
        hastd.one.now = Details("primary", started=1.0)
        await client.set_role("primary", "one", wait=True, timeout=30)
    assert looked == ["one"]
