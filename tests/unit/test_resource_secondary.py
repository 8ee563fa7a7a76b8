"""The secondary's engine against a scripted primary, which need not be an honest one."""

from __future__ import annotations

import dataclasses
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from hastfs.errors import HastError
from hastfs.model import Checksum, Command, Compression, Consistency, Generations, SyncSource
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.ondisk.metadata import Metadata
from hastfs.ondisk.metadata import encode as encode_metadata
from hastfs.protocol.frame import FrameReader, encode
from hastfs.protocol.handshake import Joining, Refusal, Terms
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import pack, pack_zeros
from hastfs.protocol.replication import (
    Reply,
    decode_reply,
    encode_keepalive,
    encode_reply,
    encode_request,
    encode_state,
)
from hastfs.resource import secondary
from hastfs.resource.connecting import receive_frame
from hastfs.resource.link import KEEPALIVE, LinkLost
from hastfs.resource.secondary import MAX_BACKLOG, MAX_UNDER_WAY, SILENCE, Secondary
from hastfs.volume import Buffer, Done
from tests.simulation.disk import SimulatedComponent, SimulatedDisk
from tests.simulation.network import SimulatedChannel, connection
from tests.simulation.node import RESOURCE, resource_config

SIZE = 4096 + 512 + 64 * 1024 + 100  # an odd end
BLOCK = bytes(range(256)) * 16
PAIR = 77


class Primary:
    """The other end, played by the test."""

    def __init__(self, requests: SimulatedChannel, replies: SimulatedChannel, disk: SimulatedDisk) -> None:
        self.requests = requests
        self.replies = replies
        self.disk = disk
        self.error: BaseException | None = None
        self.ended = trio.Event()
        self.reader = FrameReader(4096, 1 << 20)

    def say(self, *frames: list[Buffer]) -> None:
        """All in one packet."""
        self.requests.send([piece for frame in frames for piece in frame])

    async def reply(self) -> Reply:
        with trio.fail_after(60):
            return decode_reply(await receive_frame(self.replies, self.reader), 1 << 20)


def joining(**changes: object) -> Joining:
    facts: dict[str, object] = {
        "virgin": True,
        "resuid": PAIR,
        "localcnt": 0,
        "remotecnt": 0,
        "generations": Generations(5),
    }
    return Joining(RESOURCE, bytes(16), **(facts | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    disk: SimulatedDisk | None = None, *, step3: Joining | None = None, version: int = 3
) -> AsyncIterator[Primary]:
    disk = disk or SimulatedDisk(RESOURCE, SIZE)
    requests, outgoing = connection()
    replies, incoming = connection()
    primary = Primary(requests, replies, disk)
    async with trio.open_nursery() as nursery:
        component = SimulatedComponent(disk, nursery)
        engine = Secondary(
            resource_config(), component, disk.metadata, disk.map, outgoing=outgoing, incoming=incoming, version=version
        )

        async def serve() -> None:
            try:
                await secondary.serve(engine, step3 or joining(), lambda _: None)
            except (HastError, OSError) as error:
                primary.error = error
            outgoing.close()
            incoming.close()
            primary.ended.set()

        nursery.start_soon(serve)
        yield primary
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served(disk: SimulatedDisk | None = None) -> AsyncIterator[Primary]:
    """Past the handshake."""
    async with serving(disk) as primary:
        await receive_frame(primary.requests, FrameReader(4096, 1 << 20))
        yield primary


def events_of_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "event", "") for record in caplog.records if record.levelno == logging.ERROR]


def write(seq: int, offset: int, data: bytes = BLOCK, *, memsync: bool = False) -> list[Buffer]:
    packed = pack(data, Compression.HOLE, Checksum.NONE)
    return encode_request(Command.WRITE, seq, offset, len(data), memsync=memsync, packed=packed)


async def test_a_write_is_on_the_disk_when_it_is_answered(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.say(write(1, 8192))
        assert (await primary.reply()).error == 0
        assert primary.disk.data[8192 : 8192 + 4096] == BLOCK


async def test_a_write_that_waits_for_its_range_keeps_its_data(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.disk.latency["zero"] = 5.0
        primary.say(encode_request(Command.DELETE, 1, 0, 8192), write(2, 4096, b"a" * 4096))
        await trio.sleep(1)
        primary.say(write(3, 16384, b"b" * 4096))  # into the same receive buffer
        assert (await primary.reply()).seq == 3
        assert {(await primary.reply()).seq for _ in range(2)} == {1, 2}
        assert primary.disk.data[4096:8192] == b"a" * 4096


async def test_a_flush_waits_for_the_writes_before_it(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.disk.latency["write"] = 5.0
        primary.say(write(1, 0), encode_request(Command.FLUSH, 2, 0, 0))
        assert [(await primary.reply()).seq for _ in range(2)] == [1, 2]
        assert not primary.disk.unflushed


async def test_a_failed_write_is_answered_before_the_flush_behind_it(autojump_clock: MockClock) -> None:
    """The record of the failure takes time; a flush that overtook it would call the write safe."""
    async with served() as primary:
        primary.disk.failing["write"] = errno.EIO
        primary.disk.latency["durable"] = 2.0
        primary.say(write(1, 0), encode_request(Command.FLUSH, 2, 0, 0))
        replies = [await primary.reply() for _ in range(2)]
        assert [(one.seq, one.error) for one in replies] == [(1, errno.EIO), (2, 0)]
        assert not primary.disk.consistent


async def test_a_primary_that_does_not_know_of_a_failed_write_cannot_call_this_node_consistent(
    autojump_clock: MockClock,
) -> None:
    async with served() as primary:
        primary.say(encode_request(Command.FLUSH, 1, 0, 0))
        await primary.reply()
        primary.disk.failing["write"] = errno.EIO
        primary.say(write(2, 0), encode_state(3, Consistency.CONSISTENT, Generations(9)))
        assert [(await primary.reply()).error for _ in range(2)] == [errno.EIO, errno.EIO]
        assert not primary.disk.consistent
        primary.disk.failing.clear()
        primary.say(write(4, 0), encode_request(Command.FLUSH, 5, 0, 0))
        assert [(await primary.reply()).error for _ in range(2)] == [0, 0]
        primary.say(encode_state(6, Consistency.CONSISTENT, Generations(9)))
        assert (await primary.reply()).error == 0
        assert primary.disk.metadata.generations == Generations(9)
        assert primary.disk.consistent


@pytest.mark.parametrize(("version", "marked"), [(2, True), (3, False)])
async def test_a_good_copy_that_failed_a_write_is_marked_where_the_primary_might_not_care(
    autojump_clock: MockClock, version: int, marked: bool
) -> None:
    """An original primary takes a write for done that failed here, and then for equal what is not."""
    disk = SimulatedDisk(RESOURCE, SIZE)
    wrote_alone = encode_metadata(dataclasses.replace(disk.metadata, resuid=PAIR, localcnt=1))
    for position in (0, SECOND_COPY):
        disk.put(position, wrote_alone)
    step3 = joining(virgin=False, generations=None)
    async with serving(disk, step3=step3, version=version) as primary:
        terms = Terms.decode(await receive_frame(primary.requests, FrameReader(4096, 1 << 20)), 1 << 20)
        assert isinstance(terms, Terms)
        assert terms.syncsrc is SyncSource.SECONDARY
        disk.failing["write"] = errno.EIO
        primary.say(write(1, 0))
        assert (await primary.reply()).error == errno.EIO
        assert disk.consistent is not marked


async def test_a_flush_that_fails_leaves_an_inconsistent_node(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.disk.failing["flush"] = errno.EIO
        primary.say(write(1, 0), encode_request(Command.FLUSH, 2, 0, 0))
        assert [(await primary.reply()).error for _ in range(2)] == [0, errno.EIO]
        assert not primary.disk.consistent


async def test_memsync_is_answered_twice_on_success_and_on_failure(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.say(write(1, 0, memsync=True))
        replies = [await primary.reply() for _ in range(2)]
        primary.disk.failing["write"] = errno.EIO
        primary.say(write(2, 0, memsync=True))
        replies += [await primary.reply() for _ in range(2)]
        assert [(one.seq, one.received, one.error) for one in replies] == [
            (1, True, 0),
            (1, False, 0),
            (2, True, 0),
            (2, False, errno.EIO),
        ]


@pytest.mark.parametrize("command", [Command.READ, Command.WRITE, Command.DELETE])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        pytest.param(100, 512, id="offset not whole sectors"),
        pytest.param(64 * 1024, 512, id="behind the last whole sector"),
        pytest.param(63 * 1024, 2048, id="over the end"),
        pytest.param((1 << 64) - 512, 512, id="near 2**64"),
        pytest.param((1 << 64) - 512, 1024, id="overflows"),
    ],
)
async def test_a_request_outside_the_data_is_refused_and_the_link_goes_on(
    autojump_clock: MockClock, command: Command, offset: int, length: int
) -> None:
    async with served() as primary:
        before = bytes(primary.disk.content)
        packed = pack(b"x" * length, Compression.NONE, Checksum.NONE) if command is Command.WRITE else None
        primary.say(encode_request(command, 1, offset, length, packed=packed))
        assert (await primary.reply()).error == errno.EINVAL
        assert primary.disk.content[4096:] == before[4096:]
        primary.say(write(2, 0))
        assert (await primary.reply()).error == 0


async def test_a_refused_memsync_write_gets_both_answers(autojump_clock: MockClock) -> None:
    """The original's primary ends if it gets but one."""
    async with served() as primary:
        primary.say(write(1, 100, memsync=True))
        assert await primary.reply() == Reply(1, True, 0, None)
        assert await primary.reply() == Reply(1, False, errno.EINVAL, None)


async def test_a_request_without_a_number_is_refused_and_the_link_goes_on(autojump_clock: MockClock) -> None:
    async with served() as primary:
        primary.say(_request(cmd=Command.READ, offset=0, length=512), write(2, 0))
        answer = await receive_frame(primary.replies, primary.reader)
        assert list(answer.nv) == [("seq", NvType.UINT64, 0), ("error", NvType.INT16, errno.EINVAL)]
        assert (await primary.reply()).error == 0


@pytest.mark.parametrize("version", [2, 3])
async def test_requests_may_have_1_mib_whatever_the_version(autojump_clock: MockClock, version: int) -> None:
    """Newer releases of the original send that much, and ignore it if a write is refused."""
    disk = SimulatedDisk(RESOURCE, 2 << 20)
    async with serving(disk, version=version) as primary:
        await receive_frame(primary.requests, FrameReader(4096, 1 << 20))
        primary.say(write(1, 512, b"x" * (1 << 20)))
        assert (await primary.reply()).error == 0
        primary.say(encode_request(Command.READ, 2, 512, 1 << 20))
        payload = (await primary.reply()).payload
        assert payload is not None
        assert payload.data == b"x" * (1 << 20)


async def test_a_primary_that_knows_no_keepalive_may_be_silent(autojump_clock: MockClock) -> None:
    async with serving(version=0) as primary:
        await receive_frame(primary.requests, FrameReader(4096, 1 << 20))
        await trio.sleep(10 * SILENCE)
        primary.say(write(1, 0))
        assert (await primary.reply()).error == 0


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 100), (0, (1 << 20) + 512)])
async def test_a_read_of_an_impossible_length_is_refused(autojump_clock: MockClock, offset: int, length: int) -> None:
    async with served() as primary:
        primary.say(encode_request(Command.READ, 1, offset, length))
        assert (await primary.reply()).error == errno.EINVAL


def _request(**fields: int) -> list[Buffer]:
    nv = Nv()
    for name, value in fields.items():
        nv.add(name, NvType.UINT8 if name == "cmd" else NvType.UINT64, value)
    return encode(nv.encode())


@pytest.mark.parametrize(
    "message",
    [
        pytest.param([b"\xff" * 100], id="garbage"),
        pytest.param(encode(Nv().encode(), version=3), id="version 3 in the head"),
        pytest.param(_request(seq=1, offset=0, length=512), id="no cmd"),
        pytest.param(_request(cmd=99, seq=1, offset=0, length=512), id="unknown cmd"),
        pytest.param(_request(cmd=Command.WRITE, seq=1, offset=0, length=512), id="write without data"),
        pytest.param(_request(cmd=Command.STATE, seq=1), id="state without a state"),
        pytest.param(
            encode_request(Command.WRITE, 1, 0, 1024, packed=pack(b"x" * 512, Compression.NONE, Checksum.NONE)),
            id="less data than it says",
        ),
        pytest.param([*encode_reply(1)], id="a reply"),
    ],
)
async def test_a_message_that_cannot_be_trusted_drops_the_link(
    autojump_clock: MockClock, message: list[Buffer], caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as primary:
        before = primary.disk.data
        primary.say(message, write(2, 0))
        with trio.fail_after(60):
            await primary.ended.wait()
        assert events_of_errors(caplog) == ["disconnect"]
        assert primary.disk.data == before


async def test_a_wrong_checksum_drops_the_link_and_writes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as primary:
        packed = pack(BLOCK, Compression.NONE, Checksum.CRC32)
        packed = type(packed)(packed.fields, b"\xff" + bytes(packed.data)[1:])
        primary.say(encode_request(Command.WRITE, 1, 0, len(BLOCK), packed=packed))
        await primary.ended.wait()
        assert events_of_errors(caplog) == ["disconnect"]
        assert not any(primary.disk.data)


async def test_two_requests_with_the_same_number_are_both_done(autojump_clock: MockClock) -> None:
    """The original's resync uses number 1 again and again, beside the application's own 1."""
    async with served() as primary:
        primary.say(write(1, 0), write(1, 8192))
        assert [(await primary.reply()).seq for _ in range(2)] == [1, 1]
        assert primary.disk.data[:4096] == primary.disk.data[8192:12288] == BLOCK


async def test_two_requests_with_the_same_number_are_answered_in_their_order(autojump_clock: MockClock) -> None:
    """The original gives a reply to the first of its requests with that number: a READ must not get a WRITE's."""
    disk = SimulatedDisk(RESOURCE, 4096 + 512 + (2 << 20))
    disk.latency["read"] = 0.5
    async with served(disk) as primary:
        primary.say(encode_request(Command.READ, 1, 0, 4096), write(1, 8192, memsync=True), write(2, 16384))
        replies = [reply for _ in range(4) if (reply := await primary.reply()).seq == 1]
        assert [one.payload is not None for one in replies] == [True, False, False]
        assert [one.received for one in replies] == [False, True, False]


async def test_reads_of_a_primary_that_takes_no_replies_are_not_piled_up(autojump_clock: MockClock) -> None:
    disk = SimulatedDisk(RESOURCE, 4096 + 512 + (2 << 20))
    disk.content[disk.layout.localoff :] = b"x" * disk.layout.datasize
    disk.latency["read"] = 0.05
    read = 0
    async with served(disk) as primary:
        component_read = SimulatedComponent.read

        def count(component: SimulatedComponent, offset: int, length: int, done: object) -> None:
            nonlocal read
            read += length
            component_read(component, offset, length, done)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimulatedComponent, "read", count)
            primary.say(*[encode_request(Command.READ, seq, 0, 1 << 20) for seq in range(1, 200)])
            await trio.sleep(0.01)
            assert read <= MAX_BACKLOG + (1 << 20)
            assert [(await primary.reply()).seq for _ in range(199)]


@pytest.mark.parametrize("command", [Command.DELETE, Command.WRITE])
async def test_requests_that_carry_nothing_are_not_piled_up_either(autojump_clock: MockClock, command: Command) -> None:
    disk = SimulatedDisk(RESOURCE, 1 << 20)
    disk.latency["zero"] = 0.01
    packed = pack_zeros(512, Checksum.NONE) if command is Command.WRITE else None
    under_way = most = 0
    zero = SimulatedComponent.zero

    def count(component: SimulatedComponent, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def finished(error: int) -> None:
            nonlocal under_way
            under_way -= 1
            done(error)

        zero(component, offset, length, finished, allocated=allocated)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedComponent, "zero", count)
        async with served(disk) as primary:
            wanted = range(1, 4 * MAX_UNDER_WAY)
            for seq in wanted:
                primary.say(encode_request(command, seq, seq * 512, 512, packed=packed))
            assert {(await primary.reply()).seq for _ in wanted} == set(wanted)
    assert 1 < most <= MAX_UNDER_WAY


async def test_a_flood_of_requests_that_are_refused_does_not_flood_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as primary:
        for seq in range(1, 100):
            primary.say(encode_request(Command.READ, seq, 1 << 40, 512))
            assert (await primary.reply()).error == errno.EINVAL
    refused = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in refused] == [
        "Refused READ of 512 bytes at 1099511627776. More of this link are not logged."
    ]


async def test_a_broken_connection_is_logged_in_words(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as primary:
        primary.requests.cut()
        await primary.ended.wait()
    assert "Disconnected from the primary: Connection reset by peer" in caplog.messages


async def test_a_silent_primary_is_dropped_and_one_with_keepalives_is_not(autojump_clock: MockClock) -> None:
    async with served() as primary:
        for _ in range(5):
            await trio.sleep(SILENCE - 1)
            primary.say(encode_keepalive())
        await trio.lowlevel.checkpoint()
        assert not primary.ended.is_set()
        start = trio.current_time()
        await primary.ended.wait()
        assert trio.current_time() - start == SILENCE


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(encode_request(Command.READ, 1, 0, 512), id="READ"),
        pytest.param(write(1, 0), id="WRITE"),
        pytest.param(encode_request(Command.DELETE, 1, 0, 512), id="DELETE"),
        pytest.param(encode_request(Command.FLUSH, 1, 0, 0), id="FLUSH"),
        pytest.param(encode_state(1, Consistency.INCONSISTENT, Generations(5)), id="STATE"),
    ],
)
async def test_the_map_is_forgotten_at_the_first_request_but_not_at_a_keepalive(
    autojump_clock: MockClock, request_: list[Buffer]
) -> None:
    disk = SimulatedDisk(RESOURCE, SIZE)
    disk.content[4096] = disk.stable[4096] = 0x05
    async with served(disk) as primary:
        for _ in range(5):
            primary.say(encode_keepalive())
            await trio.sleep(KEEPALIVE)
        assert disk.map[0] == disk.stable[4096] == 0x05
        primary.say(request_)
        await primary.reply()
        assert not any(disk.map)
        assert not disk.stable[4096]


async def test_the_map_is_kept_if_the_primary_goes_without_a_request(autojump_clock: MockClock) -> None:
    disk = SimulatedDisk(RESOURCE, SIZE)
    disk.content[4096] = disk.stable[4096] = 0x05
    async with served(disk) as primary:
        primary.say(encode_keepalive())
        await trio.sleep(KEEPALIVE)
        primary.requests.cut()
        await primary.ended.wait()
    assert disk.map[0] == disk.stable[4096] == 0x05


async def test_a_fresh_node_takes_over_the_pairs_identity(autojump_clock: MockClock) -> None:
    async with serving(step3=joining(virgin=False, localcnt=3)) as primary:
        terms = Terms.decode(await receive_frame(primary.requests, FrameReader(4096, 1 << 20)), 1 << 20)
        assert isinstance(terms, Terms)
        assert terms.virgin
        assert bytes(terms.map) == b"\xff" * 512
        assert primary.disk.metadata.resuid == PAIR


async def test_another_pairs_primary_is_refused_and_nothing_changes(autojump_clock: MockClock) -> None:
    async with served() as primary:
        disk = primary.disk
    before: Metadata = disk.metadata
    async with serving(disk, step3=joining(resuid=PAIR + 1, virgin=False)) as primary:
        refusal = Terms.decode(await receive_frame(primary.requests, FrameReader(4096, 1 << 20)), 1 << 20)
        assert isinstance(refusal, Refusal)
        assert "Resource unique ID mismatch" in refusal.errmsg
        await primary.ended.wait()
        assert disk.metadata == before


@pytest.mark.parametrize(("what", "name"), [("Data", "datasize"), ("Extent", "extentsize")])
async def test_a_primary_of_another_size_is_refused_and_nothing_changes(
    autojump_clock: MockClock, what: str, name: str
) -> None:
    disk = SimulatedDisk(RESOURCE, SIZE)
    before: Metadata = disk.metadata
    sizes = {"datasize": before.datasize, "extentsize": before.extentsize}
    async with serving(disk, step3=joining(**(sizes | {name: 2 * sizes[name]}))) as primary:
        refusal = Terms.decode(await receive_frame(primary.requests, FrameReader(4096, 1 << 20)), 1 << 20)
        assert isinstance(refusal, Refusal)
        reason = f"{what} size differs between nodes (primary={2 * sizes[name]}, secondary={sizes[name]})."
        assert refusal.errmsg == reason
        await primary.ended.wait()
        assert str(primary.error) == reason
        assert disk.metadata == before, "not even the identity of the pair"
    async with serving(disk, step3=joining(**sizes)) as primary:
        assert isinstance(Terms.decode(await receive_frame(primary.requests, FrameReader(4096, 1 << 20)), 1 << 20), Terms)


async def test_a_primary_that_is_gone_before_the_terms_are_sent_is_a_lost_link(autojump_clock: MockClock) -> None:
    async with serving() as primary:
        primary.requests.cut()
        await primary.ended.wait()
        assert isinstance(primary.error, LinkLost)
