"""Steps 1 to 3 of the handshake over loopback, against resources that only note what they are asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
import trio.testing

from hastfs import address
from hastfs.config.schema import ResourceConfig
from hastfs.daemon import answering
from hastfs.daemon import listener as listener_module
from hastfs.daemon.listener import IncomingLink, Listener
from hastfs.errors import MetadataError
from hastfs.model import Checksum, Compression, Replication, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.frame import MAX_NV, Frame, FrameReader, encode
from hastfs.protocol.handshake import BAD_TOKEN, NO_ACCESS, NOT_CONFIGURED, Hello, Joining, Refusal, Welcome, acts_as
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.probe import Answer, Component, Probe
from hastfs.volume import Buffer


def config(name: str, remote: str) -> ResourceConfig:
    return ResourceConfig(
        name=name,
        provider=name,
        local=f"/nowhere/{name}",
        remote=None if remote == "none" else address.parse(remote),
        source=None,
        replication=Replication.MEMSYNC,
        checksum=Checksum.NONE,
        compression=Compression.HOLE,
        timeout=5,
        exec=None,
        metaflush=True,
        device=True,
    )


class FakeResource:
    def __init__(self, name: str, remote: str, role: Role = Role.SECONDARY) -> None:
        self.config = config(name, remote)
        self.role = role
        self.dropped = 0
        self.links: list[IncomingLink] = []
        self.linked = trio.Event()

    async def drop_link(self) -> None:
        self.dropped += 1

    async def accept_link(self, link: IncomingLink) -> None:
        self.links.append(link)
        self.linked.set()


class Client:
    """A primary, message by message."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def say(self, buffers: Sequence[Buffer]) -> None:
        await self.stream.send_all(b"".join(buffers))

    async def hear(self) -> Frame | None:
        """None: closed without a word."""
        reader = FrameReader(MAX_NV, 0)
        with trio.fail_after(60):
            while (frame := reader.next()) is None:
                try:
                    count = await self.stream.socket.recv_into(reader.buffer())
                except ConnectionResetError:
                    return None
                if not count:
                    return None
                reader.received(count)
        return frame

    async def welcome(self) -> Welcome:
        frame = await self.hear()
        assert frame is not None
        welcome = Welcome.decode(frame)
        assert isinstance(welcome, Welcome)
        return welcome

    async def refusal(self) -> Refusal:
        frame = await self.hear()
        assert frame is not None
        return Refusal.decode(frame)


class Node:
    """A listener and its address."""

    def __init__(self) -> None:
        self.mine = FakeResource("mine", "127.0.0.1")
        self.primary = FakeResource("primary", "127.0.0.1:9", Role.PRIMARY)
        self.idle = FakeResource("idle", "tcp://127.0.0.1", Role.INIT)
        self.foreign = FakeResource("foreign", "127.0.0.9")
        self.unknown = FakeResource("unknown", "none")
        every = (self.mine, self.primary, self.idle, self.foreign, self.unknown)
        self.listener = Listener({resource.config.name: resource for resource in every})
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self._clients: list[trio.socket.SocketType] = []

    def close(self) -> None:
        self.socket.close()
        for client in self._clients:
            client.close()
        for link in self.mine.links:
            link.close()

    async def connect(self, source: str = "127.0.0.1") -> Client:
        sock = trio.socket.socket()
        self._clients.append(sock)
        await sock.bind((source, 0))
        await sock.connect(self.address)
        return Client(trio.SocketStream(sock))


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Node]:
    with contextlib.closing(Node()) as made:
        nursery.start_soon(made.listener.run, [made.socket])
        yield made


def joining(token: bytes, name: str = "mine") -> Joining:
    return Joining(name, token, False, 5, 1, 2)


async def test_two_connections_with_one_token_become_a_link(node: Node) -> None:
    first, second = await node.connect(), await node.connect()
    await first.say(Hello("mine", 2).encode())
    welcome = await first.welcome()
    assert welcome.version == 2
    await second.say(joining(welcome.token).encode())
    await node.mine.linked.wait()
    (link,) = node.mine.links
    assert (link.version, link.joining) == (2, joining(welcome.token))
    assert link.first.getpeername() == first.stream.socket.getsockname()
    assert link.second.getpeername() == second.stream.socket.getsockname()


async def test_the_lower_of_both_versions_is_spoken(node: Node) -> None:
    client = await node.connect()
    await client.say(Hello("mine", 200).encode())
    assert (await client.welcome()).version == 3


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_an_older_primary_is_answered_in_its_version(node: Node, version: int) -> None:
    """It closes on a head that says more than it knows. Before version 2 it does not name its version in the list."""
    hello = Nv()
    hello.add("resource", NvType.STRING, "mine")
    if version == 2:
        hello.add("version", NvType.UINT8, 2)
    first, second = await node.connect(), await node.connect()
    await first.say(encode(hello.encode(), version=min(version, 1)))
    answer = await first.hear()
    assert answer is not None
    assert answer.version == version
    welcome = Welcome.decode(answer)
    assert isinstance(welcome, Welcome)
    await second.say(encode(b"".join(map(bytes, joining(bytes(16)).encode()))[5:], version=version))
    refusal = await second.hear()
    assert refusal is not None
    assert (refusal.version, Refusal.decode(refusal).errmsg) == (version, BAD_TOKEN)


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_an_older_primary_is_refused_in_its_version(node: Node, version: int) -> None:
    client = await node.connect()
    hello = Nv()
    hello.add("resource", NvType.STRING, "primary")
    if version == 2:
        hello.add("version", NvType.UINT8, 2)
    await client.say(encode(hello.encode(), version=min(version, 1)))
    answer = await client.hear()
    assert answer is not None
    assert (answer.version, Refusal.decode(answer).wait) == (version, True)


@pytest.mark.parametrize(
    ("resource", "refusal"),
    [
        ("nope", Refusal(NOT_CONFIGURED)),
        ("foreign", Refusal(NO_ACCESS)),
        ("unknown", Refusal(NO_ACCESS)),
        ("idle", Refusal(acts_as(Role.INIT))),
        ("primary", Refusal(acts_as(Role.PRIMARY), wait=True)),
    ],
)
async def test_what_cannot_be_served_is_refused_with_its_reason(node: Node, resource: str, refusal: Refusal) -> None:
    client = await node.connect()
    await client.say(Hello(resource, 2).encode())
    assert await client.refusal() == refusal
    assert await client.hear() is None


async def test_a_wrong_token_is_refused_on_the_second_connection_and_the_right_one_still_works(node: Node) -> None:
    first, wrong, right = await node.connect(), await node.connect(), await node.connect()
    await first.say(Hello("mine", 2).encode())
    token = (await first.welcome()).token
    await wrong.say(joining(bytes(16)).encode())
    assert await wrong.refusal() == Refusal(BAD_TOKEN)
    await right.say(joining(token).encode())
    await node.mine.linked.wait()


async def test_a_token_works_once(node: Node) -> None:
    first, second, again = await node.connect(), await node.connect(), await node.connect()
    await first.say(Hello("mine", 2).encode())
    token = (await first.welcome()).token
    await second.say(joining(token).encode())
    await node.mine.linked.wait()
    await again.say(joining(token).encode())
    assert await again.refusal() == Refusal(BAD_TOKEN)


async def test_tokens_are_not_repeated(node: Node) -> None:
    tokens = set()
    for _ in range(5):
        client = await node.connect()
        await client.say(Hello("mine", 2).encode())
        tokens.add((await client.welcome()).token)
    assert len(tokens) == 5


async def test_a_client_that_is_nobodys_remote_is_closed_without_a_word(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    client = await node.connect("127.0.0.77")
    assert await client.hear() is None
    assert "127.0.0.77 closed: it is not the remote address of any resource" in caplog.text


async def ask(client: Client, name: str) -> Answer | Refusal | None:
    await client.say(Probe(name, bytes(range(16))).encode())
    frame = await client.hear()
    return None if frame is None else Answer.decode(frame)


@pytest.mark.parametrize(("name", "role"), [("mine", Role.SECONDARY), ("primary", Role.PRIMARY), ("idle", Role.INIT)])
async def test_a_check_is_answered_in_every_role_and_disturbs_no_link(node: Node, name: str, role: Role) -> None:
    before, second = await node.connect(), await node.connect()
    await before.say(Hello("mine", 3).encode())
    token = (await before.welcome()).token
    answer = await ask(await node.connect(), name)
    assert isinstance(answer, Answer)
    assert (answer.role, answer.component, answer.datasize) == (role, Component.MISSING, 0)
    assert node.mine.dropped == 1  # by the Hello
    await second.say(joining(token).encode())
    await node.mine.linked.wait()


async def test_a_check_is_answered_only_to_whom_a_link_is_allowed(node: Node) -> None:
    assert await ask(await node.connect(), "foreign") == Refusal(NO_ACCESS)
    assert await ask(await node.connect(), "unknown") == Refusal(NO_ACCESS)
    assert await ask(await node.connect(), "nowhere") == Refusal(NOT_CONFIGURED)


async def test_a_check_is_answered_although_the_disk_hangs(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def hang(_: ResourceConfig) -> Metadata:
        hanging.wait(60)
        raise MetadataError("")

    monkeypatch.setattr(answering, "read_metadata", hang)
    monkeypatch.setattr(answering, "DISK_WITHIN", 0.1)
    try:
        for _ in range(2):
            answer = await ask(await node.connect(), "mine")
            assert isinstance(answer, Answer)
            assert answer.component is Component.SILENT
    finally:
        hanging.set()


async def test_a_new_first_connection_ends_the_link_before_and_a_half_open_one(node: Node) -> None:
    before, after, second = await node.connect(), await node.connect(), await node.connect()
    await before.say(Hello("mine", 2).encode())
    old_token = (await before.welcome()).token
    await after.say(Hello("mine", 2).encode())
    token = (await after.welcome()).token
    assert await before.hear() is None
    assert node.mine.dropped == 2
    await second.say(joining(old_token).encode())
    assert await second.refusal() == Refusal(BAD_TOKEN)
    third = await node.connect()
    await third.say(joining(token).encode())
    await node.mine.linked.wait()


async def test_a_stranger_cannot_end_a_link(node: Node) -> None:
    stranger = await node.connect("127.0.0.9")  # is the remote of another resource
    await stranger.say(Hello("mine", 2).encode())
    assert await stranger.refusal() == Refusal(NO_ACCESS)
    assert node.mine.dropped == 0


async def test_a_role_that_changes_while_the_old_link_ends_is_noticed(node: Node) -> None:
    async def leave() -> None:
        node.mine.role = Role.INIT

    node.mine.drop_link = leave  # type: ignore[method-assign]
    client = await node.connect()
    await client.say(Hello("mine", 2).encode())
    assert await client.refusal() == Refusal(acts_as(Role.INIT))


async def test_a_remote_that_changes_before_the_client_speaks_is_refused(node: Node) -> None:
    client = await node.connect()
    await trio.testing.wait_all_tasks_blocked(0.01)
    node.mine.config = config("mine", "127.0.0.77")
    await client.say(Hello("mine", 2).encode())
    assert await client.refusal() == Refusal(NO_ACCESS)


async def test_a_name_that_cannot_be_looked_up_holds_up_only_its_own_resource(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silence(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", silence)
    node.foreign.config = config("foreign", "name")
    named, client, second = await node.connect(), await node.connect(), await node.connect()
    await named.say(Hello("foreign", 2).encode())
    await client.say(Hello("mine", 2).encode())
    await second.say(joining((await client.welcome()).token).encode())
    await node.mine.linked.wait()


async def test_a_remote_may_be_a_name(node: Node) -> None:
    node.mine.config = config("mine", "localhost")
    for name in (node.primary, node.idle):
        name.config = config(name.config.name, "none")
    client = await node.connect()
    await client.say(Hello("mine", 2).encode())
    await client.welcome()


async def test_a_link_is_completed_after_the_listener_has_moved(node: Node) -> None:
    first = await node.connect()
    await first.say(Hello("mine", 2).encode())
    token = (await first.welcome()).token
    moved = socket.create_server(("127.0.0.1", 0))
    node.listener.listen_on([moved])
    await trio.testing.wait_all_tasks_blocked(0.01)
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream(*node.address)
    node.address = moved.getsockname()
    second = await node.connect()
    await second.say(joining(token).encode())
    await node.mine.linked.wait()


@pytest.mark.parametrize(
    "garbage", [b"\x02\xff\xff\xff\xff", b"\x09\0\0\0\0", b"\x02\x04\0\0\0\x63\x04\0\0", b"GET / HTTP"]
)
async def test_garbage_is_closed_without_an_answer(node: Node, garbage: bytes) -> None:
    client = await node.connect()
    await client.stream.send_all(garbage)
    await client.stream.send_eof()
    assert await client.hear() is None


async def test_a_silent_client_is_given_up_and_holds_up_nobody(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Node()) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.listener.run, [node.socket])
            silent = await node.connect()
            client = await node.connect()
            await client.say(Hello("primary", 2).encode())
            assert (await client.refusal()).wait
            mock_clock.jump(listener_module.OPENING_WITHIN)
            assert await silent.hear() is None
            assert "it said nothing for 10 s" in caplog.text
            nursery.cancel_scope.cancel()


async def test_a_half_open_link_is_given_up_after_the_resources_timeout(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Node()) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.listener.run, [node.socket])
            first = await node.connect()
            await first.say(Hello("mine", 2).encode())
            await first.welcome()
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(5.1)
            assert await first.hear() is None
            assert "no second connection came for 5 s" in caplog.text
            nursery.cancel_scope.cancel()


async def test_connections_beyond_the_bound_are_closed_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node.listener, "_places", trio.Semaphore(1))
    await node.connect()
    await trio.testing.wait_all_tasks_blocked(0.01)
    late = await node.connect()
    assert await late.hear() is None
    assert f"{listener_module.MAX_HALF_OPEN} others are waiting" in caplog.text
