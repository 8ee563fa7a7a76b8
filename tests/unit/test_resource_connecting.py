"""The primary's side of the handshake against a scripted secondary."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from hastfs.address import parse
from hastfs.errors import ProtocolError, plain
from hastfs.model import Role, SyncSource
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.handshake import Hello, Joining, Refusal, Terms, Welcome, acts_as
from hastfs.resource.channel import SocketChannel
from hastfs.resource.connecting import (
    Connected,
    NotAnswered,
    Refused,
    connect,
    detached,
    dialer,
    receive_frame,
    send_frame,
)
from hastfs.resource.link import LinkLost
from tests.simulation.network import SimulatedChannel, connection
from tests.simulation.node import resource_config, until

TOKEN = bytes(range(16))
TERMS = Terms(1 << 20, 4096, 1, 2, False, SyncSource.PRIMARY, b"\x05" + bytes(511))


class Listener:
    """Hands out connections, and keeps both of their ends."""

    def __init__(self, mtu: int) -> None:
        self._mtu = mtu
        self.ours: list[SimulatedChannel] = []
        self.theirs: list[SimulatedChannel] = []

    async def dial(self) -> SimulatedChannel:
        await trio.lowlevel.checkpoint()
        ours, theirs = connection(self._mtu)
        self.ours.append(ours)
        self.theirs.append(theirs)
        return ours


async def prepare(version: int, token: bytes) -> Joining:
    assert token == TOKEN
    return Joining("test", token, False, 77, 3, 4)


@asynccontextmanager
async def connecting(
    play: Callable[[Listener], Awaitable[None]], *, mtu: int = 5
) -> AsyncIterator[Callable[[], Awaitable[Connected]]]:
    listener = Listener(mtu)

    async def start() -> Connected:
        try:
            return await connect(listener.dial, "test", prepare, known=1, max_map=1 << 20)
        except BaseException:
            assert all(channel.closed for channel in listener.ours), "a failed attempt must not leave connections open"
            raise

    async def play_when_dialled() -> None:
        await until(lambda: bool(listener.theirs))
        await play(listener)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play_when_dialled)
        yield start
        nursery.cancel_scope.cancel()


async def hear(channel: SimulatedChannel) -> Hello:
    return Hello.decode(await receive_frame(channel, FrameReader(4096, 0)))


async def test_four_steps_make_a_link(autojump_clock: MockClock) -> None:
    joined: list[Joining] = []

    async def play(listener: Listener) -> None:
        assert await hear(listener.theirs[0]) == Hello("test", 3)
        await send_frame(listener.theirs[0], Welcome(2, TOKEN).encode())
        await until(lambda: len(listener.theirs) == 2)
        joined.append(Joining.decode(await receive_frame(listener.theirs[1], FrameReader(4096, 0))))
        await send_frame(listener.theirs[0], TERMS.encode())

    async with connecting(play) as start:
        connected = await start()
        assert connected.version == 2
        assert connected.terms == TERMS
        assert connected.joining == joined[0]


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.INIT])
async def test_a_refusal_says_why_and_whether_to_wait(autojump_clock: MockClock, role: Role) -> None:
    async def play(listener: Listener) -> None:
        await send_frame(listener.theirs[0], Refusal(acts_as(role), wait=role is Role.PRIMARY).encode())

    async with connecting(play) as start:
        with pytest.raises(Refused, match=role.word) as caught:
            await start()
        assert caught.value.wait == (role is Role.PRIMARY)


async def test_the_other_node_may_close_instead_of_an_answer(autojump_clock: MockClock) -> None:
    async def play(listener: Listener) -> None:
        listener.theirs[0].close()

    async with connecting(play) as start:
        with pytest.raises((LinkLost, OSError)):
            await start()


async def test_a_connection_closed_with_a_message_half_read_is_no_answer_either() -> None:
    """A node of version 0 reads the head, and closes: the kernel resets the connection because of the rest."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def dial() -> SocketChannel:
            sock = trio.socket.socket()
            await sock.connect(server.getsockname())
            return SocketChannel(detached(sock), 5)

        def play() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.recv(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, play)
            with pytest.raises(NotAnswered):
                await connect(dial, "test", prepare, known=1, max_map=0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([b"\xff" * 64], id="garbage"),
        pytest.param(Welcome(9, TOKEN).encode(), id="a version that was not offered"),
        pytest.param(Welcome(3, b"short").encode(), id="a short token"),
        pytest.param(TERMS.encode(), id="step 4 instead of step 2"),
        pytest.param([b"\x02\xff\xff\xff\xff"], id="a list of 4 GiB"),
    ],
)
async def test_an_answer_that_cannot_be_right_ends_the_attempt(autojump_clock: MockClock, answer: list[bytes]) -> None:
    async def play(listener: Listener) -> None:
        listener.theirs[0].send(answer)

    async with connecting(play) as start:
        with pytest.raises(ProtocolError):
            await start()


async def test_silence_leaves_no_connection_open(autojump_clock: MockClock) -> None:
    async def play(listener: Listener) -> None:
        await trio.sleep_forever()

    async with connecting(play) as start:
        with trio.move_on_after(20) as scope:
            await start()
        assert scope.cancelled_caught


async def test_data_behind_the_handshake_ends_the_attempt(autojump_clock: MockClock) -> None:
    async def play(listener: Listener) -> None:
        await send_frame(listener.theirs[0], Welcome(3, TOKEN).encode())
        await until(lambda: len(listener.theirs) == 2)
        listener.theirs[0].send([*TERMS.encode(), b"x"])

    async with connecting(play, mtu=1 << 20) as start:
        with pytest.raises(ProtocolError, match="after the handshake"):
            await start()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("192.0.2.77", "source 192.0.2.77: Cannot assign requested address"),  # TEST-NET-1: nobody has it
        ("2001:db8::1", "source 2001:db8::1: Address family for hostname not supported"),
    ],
)
async def test_a_source_that_cannot_be_used_is_named(source: str, why: str) -> None:
    dial = dialer(dataclasses.replace(resource_config(), remote=parse("127.0.0.1"), source=parse(source)))
    assert dial is not None
    with pytest.raises(OSError) as caught:
        await dial()
    assert plain(caught.value) == why
