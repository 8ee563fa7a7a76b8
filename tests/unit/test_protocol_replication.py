from __future__ import annotations

import errno

import pytest

from hastfs.errors import ProtocolError
from hastfs.model import MAX_REQUEST, MAX_REQUEST_V2, Checksum, Command, Compression, Consistency, Generations
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.nv import Nv, NvType, Value
from hastfs.protocol.payload import pack, pack_zeros
from hastfs.protocol.replication import (
    MISSING,
    Reply,
    Request,
    StateChange,
    decode_reply,
    decode_request,
    encode_keepalive,
    encode_reply,
    encode_request,
    encode_state,
    validate_request,
)
from hastfs.volume import Buffer

DATASIZE = 1 << 24


def received(buffers: list[Buffer]) -> Frame:
    raw = b"".join(bytes(part) for part in buffers)
    reader = FrameReader(1 << 16, 1 << 21)
    room = reader.buffer()
    room[: len(raw)] = raw
    reader.received(len(raw))
    frame = reader.next()
    assert frame is not None
    return frame


def frame_of(*fields: tuple[str, NvType, Value], data: bytes = b"") -> Frame:
    nv = Nv()
    for name, kind, value in fields:
        nv.add(name, kind, value)
    return Frame(2, nv, memoryview(data))


def request(command: Command, offset: int, length: int) -> Request:
    return Request(command, 1, offset, length)


CMD = ("cmd", NvType.UINT8, int(Command.WRITE))
SEQ = ("seq", NvType.UINT64, 7)
OFFSET = ("offset", NvType.UINT64, 512)
LENGTH = ("length", NvType.UINT64, 512)


@pytest.mark.parametrize("memsync", [False, True])
@pytest.mark.parametrize("checksum", Checksum)
def test_a_write_arrives_as_it_was_sent(memsync: bool, checksum: Checksum) -> None:
    packed = pack(b"x" * 4096, Compression.HOLE, checksum)
    sent = encode_request(Command.WRITE, 7, 8192, 4096, memsync=memsync, packed=packed)
    got = decode_request(received(sent), MAX_REQUEST)
    assert (got.command, got.seq, got.offset, got.length, got.memsync) == (Command.WRITE, 7, 8192, 4096, memsync)
    assert got.data == b"x" * 4096


def test_a_write_of_zeros_arrives_as_a_hole() -> None:
    sent = encode_request(Command.WRITE, 7, 0, MAX_REQUEST, packed=pack_zeros(MAX_REQUEST, Checksum.NONE))
    got = decode_request(received(sent), MAX_REQUEST)
    assert (got.length, got.data) == (MAX_REQUEST, None)


@pytest.mark.parametrize("command", [Command.READ, Command.DELETE, Command.FLUSH])
def test_requests_without_data_arrive_as_they_were_sent(command: Command) -> None:
    got = decode_request(received(encode_request(command, 1 << 63, 1024, 512)), MAX_REQUEST)
    assert got == Request(command, 1 << 63, 1024, 512)


def test_a_keepalive_is_only_a_command() -> None:
    frame = received(encode_keepalive())
    assert [name for name, _, _ in frame.nv] == ["cmd"]
    assert decode_request(frame, MAX_REQUEST).command is Command.KEEPALIVE


def test_a_flush_may_come_without_a_range() -> None:
    got = decode_request(frame_of(("cmd", NvType.UINT8, 4), SEQ), MAX_REQUEST)
    assert (got.offset, got.length) == (0, 0)
    assert validate_request(got, DATASIZE, MAX_REQUEST) == 0


@pytest.mark.parametrize("missing", ["offset", "length"])
def test_a_read_without_a_range_is_answered_with_an_error(missing: str) -> None:
    fields = [field for field in (OFFSET, LENGTH) if field[0] != missing]
    got = decode_request(frame_of(("cmd", NvType.UINT8, 1), SEQ, *fields), MAX_REQUEST)
    assert getattr(got, missing) == MISSING
    assert validate_request(got, DATASIZE, MAX_REQUEST) == errno.EINVAL


def test_a_change_of_state_arrives_as_it_was_sent() -> None:
    generations = Generations(1, 2, (3, (1 << 64) - 1))
    got = decode_request(received(encode_state(9, Consistency.INCONSISTENT, generations)), MAX_REQUEST)
    assert (got.command, got.seq) == (Command.STATE, 9)
    assert got.state == StateChange(Consistency.INCONSISTENT, generations)
    assert validate_request(got, DATASIZE, MAX_REQUEST) == 0


@pytest.mark.parametrize(
    ("state", "generation"), [(0, (1, 2, 3, 4)), (3, (1, 2, 3, 4)), (1, (1, 2, 3)), (1, (1, 2, 3, 4, 5))]
)
def test_a_change_of_state_that_makes_no_sense_is_refused(state: int, generation: tuple[int, ...]) -> None:
    frame = frame_of(
        ("cmd", NvType.UINT8, 6), SEQ, ("state", NvType.UINT8, state), ("generation", NvType.UINT64_ARRAY, generation)
    )
    with pytest.raises(ProtocolError, match="STATE"):
        decode_request(frame, MAX_REQUEST)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (frame_of(SEQ, OFFSET, LENGTH), "without a known command"),
        (frame_of(("cmd", NvType.UINT8, 0), SEQ), "without a known command"),
        (frame_of(("cmd", NvType.UINT8, 7), SEQ), "without a known command"),
        (frame_of(("cmd", NvType.UINT16, 1), SEQ), "without a known command"),
        (frame_of(CMD, SEQ, OFFSET, LENGTH), "without data"),
        (frame_of(CMD, SEQ, OFFSET, LENGTH, data=bytes(1024)), "1024 bytes, 512 are allowed"),
        (frame_of(CMD, SEQ, OFFSET, LENGTH, data=bytes(100)), "for 512 bytes with 100"),
    ],
)
def test_a_stream_that_cannot_be_trusted_is_dropped(frame: Frame, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_request(frame, MAX_REQUEST)


@pytest.mark.parametrize(
    "frame",
    [
        frame_of(CMD, OFFSET, LENGTH, data=bytes(512)),
        frame_of(CMD, ("seq", NvType.UINT64, 0), OFFSET, LENGTH, data=bytes(512)),
        frame_of(CMD, SEQ, OFFSET, data=bytes(512)),
        frame_of(CMD, SEQ, LENGTH, data=bytes(512)),
        frame_of(CMD, SEQ, OFFSET, ("length", NvType.UINT64, 0), data=bytes(512)),
        frame_of(CMD, SEQ, OFFSET, ("length", NvType.UINT64, 1 << 60), data=bytes(512)),
        frame_of(("cmd", NvType.UINT8, 4)),
    ],
)
def test_a_request_that_lacks_something_is_answered_with_an_error(frame: Frame) -> None:
    assert validate_request(decode_request(frame, MAX_REQUEST), DATASIZE, MAX_REQUEST) == errno.EINVAL


@pytest.mark.parametrize("command", [Command.READ, Command.WRITE, Command.DELETE])
@pytest.mark.parametrize(
    ("offset", "length", "error"),
    [
        (0, 512, 0),
        (DATASIZE - 512, 512, 0),
        (0, 0, errno.EINVAL),
        (0, 100, errno.EINVAL),
        (100, 512, errno.EINVAL),
        (DATASIZE, 512, errno.EINVAL),
        (DATASIZE - 512, 1024, errno.EINVAL),
        ((1 << 64) - 512, 512, errno.EINVAL),
        (512, (1 << 64) - 512, errno.EINVAL),
    ],
)
def test_a_range_must_be_whole_sectors_inside_the_data(command: Command, offset: int, length: int, error: int) -> None:
    assert validate_request(request(command, offset, length), DATASIZE, MAX_REQUEST) == error


def test_only_a_delete_may_be_longer_than_a_request() -> None:
    length = MAX_REQUEST_V2 + 512
    assert validate_request(request(Command.READ, 0, length), DATASIZE, MAX_REQUEST_V2) == errno.EINVAL
    assert validate_request(request(Command.WRITE, 0, length), DATASIZE, MAX_REQUEST_V2) == errno.EINVAL
    assert validate_request(request(Command.DELETE, 0, length), DATASIZE, MAX_REQUEST_V2) == 0


def test_the_last_bytes_of_an_odd_data_area_cannot_be_reached() -> None:
    assert validate_request(request(Command.READ, 512, 512), 1124, MAX_REQUEST) == 0
    assert validate_request(request(Command.READ, 1024, 512), 1124, MAX_REQUEST) == errno.EINVAL


def test_memsync_s_two_answers_are_told_apart() -> None:
    assert decode_reply(received(encode_reply(7, received=True)), 0) == Reply(7, True, 0, None)
    assert decode_reply(received(encode_reply(7)), 0) == Reply(7, False, 0, None)


def test_an_error_arrives_with_its_number() -> None:
    assert decode_reply(received(encode_reply(7, error=45)), 0) == Reply(7, False, 45, None)


def test_the_data_of_a_read_arrives() -> None:
    reply = decode_reply(received(encode_reply(7, packed=pack(b"x" * 512, Compression.HOLE, Checksum.CRC32))), 512)
    assert reply.payload is not None
    assert reply.payload.data == b"x" * 512


@pytest.mark.parametrize("fields", [(), (("seq", NvType.UINT64, 0),), (("seq", NvType.UINT32, 1),)])
def test_a_reply_without_a_sequence_number_is_refused(fields: tuple[tuple[str, NvType, Value], ...]) -> None:
    with pytest.raises(ProtocolError, match="sequence number"):
        decode_reply(frame_of(*fields), 0)


def test_a_refusal_where_a_reply_should_be_is_reported_in_its_words() -> None:
    with pytest.raises(ProtocolError, match="refused: Token doesn't match"):
        decode_reply(frame_of(("errmsg", NvType.STRING, "Token doesn't match.")), 0)
