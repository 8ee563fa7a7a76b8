"""The control socket's server with a supervisor that only answers."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from hastfs.daemon import newsroom, sockets
from hastfs.daemon.controlserver import MAX_CLIENTS, MAX_REQUEST, ControlServer
from hastfs.daemon.newsroom import Newsroom
from hastfs.details import Details
from hastfs.errors import BusyError, ConfigError, SystemFailure
from hastfs.model import Role
from hastfs.news import Kind
from hastfs.protocol.control import ERROR_INVALID, ERROR_UNIMPLEMENTED, ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import FrameReader, encode
from hastfs.protocol.nv import Nv, NvType
from hastfs.resource.events import Event


class FakeSupervisor:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ended = trio.Event()
        self.busy = False
        self.hanging = trio.Event()
        self.server: ControlServer

    async def set_role(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(resources=[ResourceStatus("disk", role="init")])

    async def status(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.resources == ("hangs",):
            await self.hanging.wait()
        return Reply(resources=[ResourceStatus("disk", role="primary", workerpid=0)])

    async def log_level(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(resources=[ResourceStatus("disk", loglevel="info")], loglevel="debug")

    async def reload(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.busy:
            raise ConfigError("/etc/hast.conf:3: near 'sync': expected async, fullsync or memsync")
        return Reply()

    async def attach(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.busy:
            raise BusyError("hastd is stopping.")
        return Reply(resources=[ResourceStatus("disk", role="primary")])

    async def upgrade(self, client: int) -> Reply:
        """As if it worked: somebody else answers."""
        if self.busy:
            raise BusyError("hastd is being upgraded already.")
        self.server.pause()
        await self.server.alone()
        os.write(client, b"".join(Reply(version="9.9").encode()))
        self.server.resume()
        return Reply()

    async def stop(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.busy:
            raise BusyError("Resource disk is in use.")
        return Reply()

    def end(self) -> None:
        self.ended.set()


class FakeResource:
    async def details(self, cells: int = 0) -> Details:
        await trio.lowlevel.checkpoint()
        return Details()


class Served:
    def __init__(self, path: str) -> None:
        self.path = path
        self.supervisor = FakeSupervisor()
        resources = {"disk": FakeResource()}
        self.newsroom = Newsroom(lambda: resources)
        self.server = self.supervisor.server = ControlServer(self.supervisor, self.newsroom)
        self.listener = sockets.listen_control(path)
        self._streams: list[trio.SocketStream] = []

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.newsroom.run)
            nursery.start_soon(self.server.run, self.listener)

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_unix_socket(self.path)
        self._streams.append(stream)
        return stream

    async def ask(self, message: bytes) -> Reply | None:
        """None: closed without an answer."""
        return await answer(await self.connect(), message)

    def close(self) -> None:
        self.listener.close()
        for stream in self._streams:
            stream.socket.close()


async def answer(stream: trio.SocketStream, message: bytes) -> Reply | None:
    await stream.send_all(message)
    reader = FrameReader(MAX_REQUEST, 0)
    with trio.fail_after(60):
        while (frame := reader.next()) is None:
            count = await stream.socket.recv_into(reader.buffer())
            if not count:
                return None
            reader.received(count)
    return Reply.decode(frame)


def request(*resources: str, command: ControlCommand = ControlCommand.STATUS, role: Role | None = None) -> bytes:
    return b"".join(Request(command, role, resources=resources).encode())


def raw(*fields: tuple[str, NvType, int | str]) -> bytes:
    nv = Nv()
    for name, kind, value in fields:
        nv.add(name, kind, value)
    return b"".join(encode(nv.encode()))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "control")


@pytest.fixture
async def served(path: str, nursery: trio.Nursery) -> AsyncIterator[Served]:
    with contextlib.closing(Served(path)) as made:
        nursery.start_soon(made.run)
        yield made


async def test_only_the_owner_may_talk_to_the_daemon(served: Served) -> None:
    assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o600


async def test_requests_reach_the_supervisor_and_replies_the_client(served: Served) -> None:
    reply = await served.ask(request("disk", command=ControlCommand.SETROLE, role=Role.PRIMARY))
    assert reply is not None
    assert [(status.resource, status.role) for status in reply.resources] == [("disk", "init")]
    assert served.supervisor.requests == [Request(ControlCommand.SETROLE, Role.PRIMARY, resources=("disk",))]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (raw(("cmd", NvType.UINT8, 2)), ERROR_INVALID),
        (raw(("cmd", NvType.UINT8, 9), ("resource0", NvType.STRING, "all")), ERROR_UNIMPLEMENTED),
        (raw(("cmd", NvType.UINT8, 1), ("role", NvType.UINT8, 7), ("resource0", NvType.STRING, "all")), ERROR_INVALID),
    ],
)
async def test_wrong_requests_get_the_originals_error_numbers(served: Served, message: bytes, error: int) -> None:
    reply = await served.ask(message)
    assert reply is not None
    assert reply.error == error
    assert served.supervisor.requests == []


@pytest.mark.parametrize(
    "message",
    [raw(("resource0", NvType.STRING, "all")), b"\x02\xff\xff\xff\xff", b"\x07\0\0\0\0", request("a") + request("b")],
)
async def test_what_is_no_request_is_closed_without_an_answer(served: Served, message: bytes) -> None:
    assert await served.ask(message) is None
    assert await served.ask(request("disk")) is not None


async def test_a_client_that_leaves_before_its_answer_disturbs_nobody(served: Served) -> None:
    stream = await served.connect()
    await stream.send_all(request("disk")[:9])
    await stream.aclose()
    other = await served.connect()
    await other.send_all(request("disk"))
    await other.aclose()
    assert await served.ask(request("disk")) is not None


async def test_one_request_that_takes_long_does_not_hold_up_others(served: Served) -> None:
    stream = await served.connect()
    await stream.send_all(request("hangs"))
    assert await served.ask(request("disk")) is not None


async def test_silent_clients_hold_up_nobody_and_are_given_up(
    path: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Served(path)) as served:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            silent = [await served.connect() for _ in range(MAX_CLIENTS)]
            assert await served.ask(request("disk")) is not None  # once the silent ones are given up
            assert await silent[0].receive_some() == b""
            assert "the client is too slow" in caplog.text
            nursery.cancel_scope.cancel()


async def test_the_daemon_ends_after_the_answer_to_stop(served: Served) -> None:
    assert await served.ask(request(command=ControlCommand.STOP)) == Reply()
    with trio.fail_after(10):
        await served.supervisor.ended.wait()


async def test_a_refused_stop_says_why_and_ends_nothing(served: Served) -> None:
    served.supervisor.busy = True
    assert await served.ask(request(command=ControlCommand.STOP)) == Reply(75, "Resource disk is in use.")
    assert not served.supervisor.ended.is_set()


async def test_a_reload_is_answered_when_it_is_done_and_ends_nothing(served: Served) -> None:
    assert await served.ask(request(command=ControlCommand.RELOAD)) == Reply()
    assert served.supervisor.requests == [Request(ControlCommand.RELOAD)]
    assert not served.supervisor.ended.is_set()


async def test_a_refused_reload_says_why(served: Served) -> None:
    served.supervisor.busy = True
    reply = await served.ask(request(command=ControlCommand.RELOAD))
    assert reply == Reply(78, "/etc/hast.conf:3: near 'sync': expected async, fullsync or memsync")


async def test_a_refused_upgrade_says_why(served: Served) -> None:
    served.supervisor.busy = True
    reply = await served.ask(request(command=ControlCommand.UPGRADE))
    assert reply == Reply(75, "hastd is being upgraded already.")


async def test_who_comes_while_the_server_pauses_is_served_later(served: Served) -> None:
    await trio.testing.wait_all_tasks_blocked()
    served.server.pause()
    served.server.pause()
    await trio.testing.wait_all_tasks_blocked()
    stream = await served.connect()
    await stream.send_all(request("disk"))
    await trio.testing.wait_all_tasks_blocked()
    assert served.supervisor.requests == []
    served.server.resume()
    assert await answer(stream, b"") is not None


async def test_an_upgrade_waits_for_other_clients_and_answers_on_its_own_connection(served: Served) -> None:
    other = await served.connect()
    await other.send_all(request("hangs"))
    while not served.supervisor.requests:
        await trio.testing.wait_all_tasks_blocked()
    asking = await served.connect()
    answers: list[Reply | None] = []

    async def ask() -> None:
        answers.append(await answer(asking, request(command=ControlCommand.UPGRADE)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert answers == []
        served.supervisor.hanging.set()
    assert answers == [Reply(version="9.9")]


async def test_the_server_moves_to_another_socket_and_still_answers_who_came_over_the_one_before(
    served: Served, tmp_path: Path
) -> None:
    early = await served.connect()
    await trio.testing.wait_all_tasks_blocked()
    moved = str(tmp_path / "moved")
    served.server.listen_on(sockets.listen_control(moved))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await served.connect()
    assert await answer(early, request("disk")) is not None
    served.path = moved
    assert await served.ask(request("disk")) is not None


async def test_a_socket_that_another_daemon_answers_on_is_left_alone(served: Served) -> None:
    inode = os.stat(served.path).st_ino
    with pytest.raises(SystemFailure, match="Another hastd is already running"):
        sockets.listen_control(served.path)
    assert os.stat(served.path).st_ino == inode
    assert await served.ask(request("disk")) is not None


def test_a_socket_that_a_dead_daemon_left_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with sockets.listen_control(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_in_the_sockets_place_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(SystemFailure, match="something else is there"):
        sockets.listen_control(path)
    assert Path(path).read_text() == "precious"


def events(*names: str) -> bytes:
    return request(*names, command=ControlCommand.EVENTS)


class Told:
    """A client's side of EVENTS."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = FrameReader(MAX_REQUEST, 0)

    async def next(self) -> Reply | None:
        """None: the connection was closed."""
        with trio.fail_after(60):
            while (frame := self._reader.next()) is None:
                count = await self._stream.socket.recv_into(self._reader.buffer())
                if not count:
                    return None
                self._reader.received(count)
        return Reply.decode(frame)

    async def kinds(self, count: int) -> list[Kind | None]:
        """Of the next so many; None: the connection was closed."""
        replies = [await self.next() for _ in range(count)]
        return [reply.news.kind if reply is not None and reply.news is not None else None for reply in replies]


async def listening(served: Served, *names: str) -> tuple[trio.SocketStream, Told]:
    stream = await served.connect()
    await stream.send_all(events(*names or ("all",)))
    return stream, Told(stream)


async def test_who_asks_for_events_is_told_until_the_end(served: Served) -> None:
    _, told = await listening(served)
    assert await told.kinds(2) == [Kind.EXISTS, Kind.EXISTS]
    served.newsroom.happened("disk", Event.CONNECT)
    reply = await told.next()
    assert reply is not None
    assert reply.news is not None
    assert (reply.news.kind, reply.news.resource, reply.news.facts) == (Kind.CALL, "disk", {"happening": "connect"})
    await served.server.dismiss("upgrade")
    reply = await told.next()
    assert reply is not None
    assert reply.news is not None
    assert reply.news.facts == {"reason": "upgrade"}
    assert await told.next() is None


async def test_who_listens_is_no_reason_to_wait_for_other_clients(served: Served) -> None:
    _, told = await listening(served)
    await told.kinds(2)
    await served.ask(request("disk"))
    with trio.fail_after(60):
        await served.server.alone()


async def test_who_listens_takes_no_place_from_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(MAX_CLIENTS):
        _, told = await listening(served)
        await told.kinds(2)
    assert await served.ask(request("disk")) is not None
    refused = await served.ask(events("all"))
    assert refused is not None
    assert refused.error == os.EX_TEMPFAIL


async def test_a_listener_who_leaves_is_forgotten(served: Served) -> None:
    stream, told = await listening(served)
    await told.kinds(2)
    (listener,) = served.newsroom._listeners
    await stream.aclose()
    with trio.fail_after(60):
        await listener.gone.wait()
    assert not served.newsroom._listeners


async def test_a_listener_who_does_not_read_costs_the_others_nothing(served: Served) -> None:
    _, slow = await listening(served)
    await slow.kinds(2)
    _, quick = await listening(served)
    await quick.kinds(2)
    for _ in range(20):
        for _ in range(200):
            served.newsroom.happened("disk", Event.CONNECT)
        assert await quick.kinds(200) == [Kind.CALL] * 200
    (waiting,) = (listener for listener in served.newsroom._listeners if listener._waiting or listener.missed)
    assert len(waiting._waiting) <= newsroom.MAX_WAITING
    kinds: list[Kind | None] = []
    while Kind.MISSED not in kinds:
        kinds += await slow.kinds(1)
    assert await slow.kinds(2) == [Kind.EXISTS, Kind.EXISTS]


async def test_a_listener_who_does_not_read_does_not_hold_up_the_end(served: Served) -> None:
    _, slow = await listening(served)
    await slow.kinds(2)
    for _ in range(2 * newsroom.MAX_WAITING):
        served.newsroom.happened("disk", Event.CONNECT)
        await trio.lowlevel.checkpoint()
    with trio.fail_after(newsroom.ENDS_WITHIN + 30):
        await served.server.dismiss("stop")
