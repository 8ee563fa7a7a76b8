"""The primary's end of a link, against a scripted peer."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from hastfs.model import Checksum, Command, Compression, Consistency, Generations
from hastfs.protocol.frame import HEAD, FrameReader, encode
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import pack
from hastfs.protocol.replication import Request, decode_request, encode_reply
from hastfs.resource.link import KEEPALIVE, ZEROING_WINDOW, Link, LinkLost
from hastfs.volume import Buffer
from tests.simulation.network import SimulatedChannel, connection

TIMEOUT = 20


class Peer:
    """The secondary's end, played by the test."""

    def __init__(self, requests: SimulatedChannel, replies: SimulatedChannel) -> None:
        self.requests = requests
        self.replies = replies
        self._reader = FrameReader(4096, 1 << 20)

    async def next(self) -> Request:
        while (frame := self._reader.next()) is None:
            try:
                self._reader.received(self.requests.receive_into(self._reader.buffer()))
            except BlockingIOError:
                await self.requests.readable()
        return decode_request(frame, 1 << 20)

    def say(self, frame: list[Buffer]) -> None:
        self.replies.send(frame)


class Linked:
    """A running link and what became of it."""

    def __init__(self, link: Link, peer: Peer) -> None:
        self.link = link
        self.peer = peer
        self.lost_at: float | None = None
        self.reason = ""
        self.ended = trio.Event()

    async def run(self) -> None:
        try:
            await self.link.run(self._lost)
        except LinkLost as lost:
            self.reason = str(lost)
        self.ended.set()

    def _lost(self) -> None:
        self.lost_at = trio.current_time()


@asynccontextmanager
async def linked(version: int = 3) -> AsyncIterator[Linked]:
    outgoing, requests = connection()
    incoming, replies = connection()
    link = Link(
        outgoing, incoming, version=version, compression=Compression.HOLE, checksum=Checksum.NONE, timeout=TIMEOUT
    )
    async with trio.open_nursery() as nursery:
        both = Linked(link, Peer(requests, replies))
        nursery.start_soon(both.run)
        yield both
        nursery.cancel_scope.cancel()


async def test_a_write_is_done_when_the_peer_says_so(autojump_clock: MockClock) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.write(512, b"x" * 1024, errors.append)
        both.link.submit()
        request = await both.peer.next()
        assert (request.command, request.offset, request.length) == (Command.WRITE, 512, 1024)
        assert request.data == b"x" * 1024
        assert both.link.unanswered == 1024
        assert errors == []
        both.peer.say(encode_reply(request.seq))
        await trio.sleep(1)
        assert errors == [0]
        assert both.link.unanswered == 0


async def test_memsync_hears_of_the_arrival_and_of_the_end(autojump_clock: MockClock) -> None:
    async with linked() as both:
        said: list[object] = []
        both.link.write(0, b"x" * 512, said.append, received=lambda: said.append("received"))
        both.link.submit()
        request = await both.peer.next()
        assert request.memsync
        both.peer.say(encode_reply(request.seq, received=True))
        await trio.sleep(1)
        assert said == ["received"]
        both.peer.say(encode_reply(request.seq, error=5))
        await trio.sleep(1)
        assert said == ["received", 5]


async def test_long_writes_are_split_for_a_version_2_peer(autojump_clock: MockClock) -> None:
    async with linked(version=2) as both:
        said: list[object] = []
        data = bytes(range(1, 251)) * 4096
        both.link.write(4096, data[: 300 * 1024], said.append, received=lambda: said.append("received"))
        both.link.submit()
        requests = [await both.peer.next() for _ in range(3)]
        assert [(one.offset, one.length) for one in requests] == [
            (4096, 128 * 1024),
            (4096 + 128 * 1024, 128 * 1024),
            (4096 + 256 * 1024, 44 * 1024),
        ]
        for one in requests:
            both.peer.say(encode_reply(one.seq, received=True))
        await trio.sleep(1)
        assert said == ["received"]
        for number, one in enumerate(requests):
            both.peer.say(encode_reply(one.seq, error=5 if number == 1 else 0))
        await trio.sleep(1)
        assert said == ["received", 5]


async def test_a_state_cannot_be_told_to_a_version_2_peer(autojump_clock: MockClock) -> None:
    async with linked(version=2) as both:
        errors: list[int] = []
        both.link.state(Consistency.CONSISTENT, Generations(), errors.append)
        assert errors == [0]


async def test_zeros_travel_as_holes_of_at_most_a_request(autojump_clock: MockClock) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.write_zeros(0, (3 << 20) + 512, errors.append)
        both.link.submit()
        for length in (1 << 20, 1 << 20, 1 << 20, 512):
            request = await both.peer.next()
            assert (request.length, request.data) == (length, None)
            both.peer.say(encode_reply(request.seq))
        await trio.sleep(1)
        assert errors == [0]


def _head_of_version_3() -> list[Buffer]:
    return encode(Nv().encode(), version=3)


def _without_seq() -> list[Buffer]:
    nv = Nv()
    nv.add("error", NvType.INT16, 5)
    return encode(nv.encode())


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param([b"\xff" * 64], id="garbage"),
        pytest.param(_head_of_version_3(), id="version 3 in the head"),
        pytest.param(_without_seq(), id="no seq"),
        pytest.param(encode_reply(77), id="unknown seq"),
        pytest.param(encode_reply(1, packed=pack(b"x" * 1024, Compression.NONE, Checksum.NONE)), id="too long"),
        pytest.param(encode_reply(1), id="no data"),
        pytest.param(encode_reply(1, received=True), id="memsync reply to a READ"),
    ],
)
async def test_a_reply_that_cannot_be_right_drops_the_link(autojump_clock: MockClock, reply: list[Buffer]) -> None:
    async with linked() as both:
        found: list[tuple[int, bytes]] = []
        both.link.read(0, 512, lambda error, data: found.append((error, bytes(data))))
        both.link.submit()
        assert (await both.peer.next()).command is Command.READ
        both.peer.say(reply)
        await both.ended.wait()
        assert "protocol error" in both.reason
        assert found == [(errno.ENOTCONN, b"")]


async def test_half_a_message_and_the_end_lose_the_link(autojump_clock: MockClock) -> None:
    async with linked() as both:
        both.peer.say([b"".join(encode_reply(1))[:9]])
        both.peer.replies.close()
        await both.ended.wait()
        assert "closed" in both.reason


async def test_second_memsync_reply_drops_the_link(autojump_clock: MockClock) -> None:
    async with linked() as both:
        both.link.write(0, b"x" * 512, lambda _: None, received=lambda: None)
        for _ in range(2):
            both.peer.say(encode_reply(1, received=True))
        await both.ended.wait()
        assert "memsync" in both.reason


async def test_silence_costs_the_timeout(autojump_clock: MockClock) -> None:
    async with linked() as both:
        errors: list[int] = []
        await trio.sleep(33)
        start = trio.current_time()
        both.link.flush(errors.append)
        both.link.submit()
        await both.ended.wait()
        assert both.lost_at == start + TIMEOUT
        assert errors == [errno.ENOTCONN]


async def test_a_reset_of_the_first_connection_is_noticed_although_nothing_more_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.write(0, b"x" * 512, errors.append)
        both.link.submit()
        await both.peer.next()
        start = trio.current_time()
        both.peer.requests.cut()
        await both.ended.wait()
        assert both.lost_at == start
        assert both.reason == "connection lost: Connection reset by peer"
        assert errors == [errno.ENOTCONN]


async def test_a_peer_that_talks_on_the_first_connection_drops_the_link(autojump_clock: MockClock) -> None:
    async with linked() as both:
        both.peer.requests.send(encode_reply(1))
        await both.ended.wait()
        assert "first connection" in both.reason


async def test_a_peer_that_begins_an_answer_and_never_ends_it_counts_as_silent(autojump_clock: MockClock) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.write(0, b"x" * 512, errors.append)
        both.link.submit()
        start = trio.current_time()
        head = HEAD.pack(2, 4096) + bytes(4096)
        for number in range(2 * TIMEOUT):
            if both.ended.is_set():
                break
            both.peer.say([head[number : number + 1]])
            await trio.sleep(1)
        assert both.lost_at == start + TIMEOUT
        assert errors == [errno.ENOTCONN]


async def test_an_idle_link_is_kept_alive_and_not_given_up(autojump_clock: MockClock) -> None:
    async with linked() as both:
        start = trio.current_time()
        for number in range(1, 10):
            assert (await both.peer.next()).command is Command.KEEPALIVE
            assert trio.current_time() == start + number * KEEPALIVE
        assert not both.ended.is_set()


@pytest.mark.parametrize("memsync", [False, True])
async def test_a_peer_that_leaves_one_request_out_and_answers_the_others_is_gone_too(
    autojump_clock: MockClock, memsync: bool
) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.write(0, b"x" * 512, errors.append)
        for number in range(2, 100):
            await trio.sleep(1)
            if both.ended.is_set():
                break
            both.link.write(512, b"x" * 512, lambda _: None, received=(lambda: None) if memsync else None)
            both.peer.say(encode_reply(number, received=memsync))
        assert errors == [errno.ENOTCONN]
        assert both.lost_at is not None
        assert both.lost_at <= 2.5 * TIMEOUT


async def test_what_is_asked_of_a_lost_link_is_answered_at_once(autojump_clock: MockClock) -> None:
    async with linked() as both:
        both.peer.replies.close()
        await both.ended.wait()
        errors: list[int] = []
        both.link.write(0, b"x" * 512, errors.append)
        both.link.read(0, 512, lambda error, _: errors.append(error))
        both.link.flush(errors.append)
        both.link.submit()
        assert errors == [errno.ENOTCONN] * 3
        assert both.link.backlog == 0
        with pytest.raises(LinkLost):
            both.link.check()


async def test_replies_after_a_drop_do_not_count(autojump_clock: MockClock) -> None:
    """A failed flush drops the link; a success that came in the same packet must not call anything clean."""
    async with linked() as both:
        errors: list[int] = []

        def failed(error: int) -> None:
            errors.append(error)
            both.link.drop("the flush failed")

        both.link.flush(failed)
        both.link.flush(errors.append)
        both.peer.say([*encode_reply(1, error=5), *encode_reply(2)])
        await both.ended.wait()
        assert errors == [5, errno.ENOTCONN]
        assert both.reason == "the flush failed"


async def test_a_deleted_range_is_written_with_zeros_too_where_deleting_promises_nothing(
    autojump_clock: MockClock,
) -> None:
    async with linked(version=2) as both:
        errors: list[int] = []
        both.link.delete(0, 200 * 1024, errors.append)
        both.link.submit()
        delete, *writes = [await both.peer.next() for _ in range(3)]
        assert (delete.command, delete.offset, delete.length) == (Command.DELETE, 0, 200 * 1024)
        assert [(request.command, request.offset, request.length) for request in writes] == [
            (Command.WRITE, 0, 128 * 1024),
            (Command.WRITE, 128 * 1024, 72 * 1024),
        ]
        assert all(request.data is None for request in writes)
        both.peer.say(encode_reply(delete.seq, error=45))  # not every disk can; that does not matter
        both.peer.say(encode_reply(writes[0].seq))
        await trio.sleep(1)
        assert errors == []
        both.peer.say(encode_reply(writes[1].seq))
        await trio.sleep(1)
        assert errors == [0]


async def test_our_own_nodes_delete_without_more(autojump_clock: MockClock) -> None:
    async with linked() as both:
        errors: list[int] = []
        both.link.delete(0, 200 * 1024, errors.append)
        both.link.submit()
        request = await both.peer.next()
        assert both.link.waiting == 1
        both.peer.say(encode_reply(request.seq, error=5))
        await trio.sleep(1)
        assert errors == [5]


async def test_zeros_over_terabytes_are_written_a_few_at_a_time(autojump_clock: MockClock) -> None:
    async with linked(version=2) as both:
        errors: list[int] = []
        both.link.write_zeros(0, 1 << 40, errors.append)
        both.link.submit()
        for _ in range(300):
            assert both.link.waiting <= ZEROING_WINDOW
            both.peer.say(encode_reply((await both.peer.next()).seq))
        both.link.drop("enough")
        await both.ended.wait()
        assert errors == [errno.ENOTCONN]


@pytest.mark.parametrize("error", [errno.ENOTTY, errno.EOPNOTSUPP, 45])
async def test_an_original_s_disk_that_knows_no_flush_is_no_failure_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    async with linked(version=2) as both:
        errors: list[int] = []
        for _ in range(2):
            both.link.flush(errors.append)
            both.link.submit()
            both.peer.say(encode_reply((await both.peer.next()).seq, error=error))
            await trio.sleep(1)
        assert errors == [0, 0]
        assert caplog.text.count("cannot be flushed") == 1


@pytest.mark.parametrize(("version", "error"), [(2, errno.EIO), (3, errno.EOPNOTSUPP), (3, errno.EIO)])
async def test_a_flush_that_fails_is_a_failure(autojump_clock: MockClock, version: int, error: int) -> None:
    async with linked(version) as both:
        errors: list[int] = []
        both.link.flush(errors.append)
        both.link.submit()
        both.peer.say(encode_reply((await both.peer.next()).seq, error=error))
        await trio.sleep(1)
        assert errors == [error]


async def test_data_that_was_not_asked_for_drops_the_link(autojump_clock: MockClock) -> None:
    async with linked() as both:
        both.link.write(0, b"x" * 512, lambda _: None)
        both.link.submit()
        request = await both.peer.next()
        both.peer.say(encode_reply(request.seq, packed=pack(b"x" * 512, Compression.NONE, Checksum.NONE)))
        await both.ended.wait()
        assert "512 bytes, 0 are allowed" in both.reason
