"""The codec by templates and the general one: the same bytes out, the same meaning in, however the stream is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastfs.errors import ProtocolError
from hastfs.model import Checksum, Command, Compression
from hastfs.protocol import replication
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import Payload, pack
from hastfs.volume import Buffer

MAX_REQUEST = 2048
MAX_DATA = 3000

U64 = st.integers(0, (1 << 64) - 1) | st.integers(0, 5)
LENGTHS = st.integers(0, MAX_REQUEST + 200) | st.sampled_from([512, MAX_REQUEST])
DATA = LENGTHS.map(lambda length: b"d" * length)
UNPACKED = (Compression.NONE, Checksum.NONE)


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def general_write(seq: int, offset: int, data: bytes, memsync: bool) -> bytes:
    packed = pack(data, *UNPACKED)
    return joined(replication.encode_request(Command.WRITE, seq, offset, len(data), memsync=memsync, packed=packed))


def compressed_write(seq: int, compression: Compression, checksum: Checksum) -> bytes:
    packed = pack(bytes(1024), compression, checksum)
    return joined(replication.encode_request(Command.WRITE, seq, 512, 1024, packed=packed))


def asked(command: Command, seq: int, offset: int, length: int) -> bytes:
    return joined(replication.encode_request(command, seq, offset, length))


def read_reply(seq: int, data: bytes) -> bytes:
    return joined(replication.encode_reply(seq, packed=pack(data, *UNPACKED)))


FREQUENT_REQUESTS = st.builds(general_write, U64, U64, DATA, st.booleans()) | st.builds(
    asked, st.sampled_from([Command.READ, Command.DELETE, Command.FLUSH, Command.WRITE]), U64, U64, U64
)
REQUESTS = (
    FREQUENT_REQUESTS
    | st.builds(compressed_write, U64, st.sampled_from(Compression), st.sampled_from(Checksum))
    | st.just(joined(replication.encode_keepalive()))
)
REPLIES = (
    st.builds(replication.encode_plain_reply, U64)
    | st.builds(replication.encode_received, U64)
    | st.builds(read_reply, U64, DATA)
    | st.builds(lambda seq, error: joined(replication.encode_reply(seq, error=error)), U64, st.integers(1, 99))
)
CHANGES = st.none() | st.tuples(st.integers(0, 160), st.integers(1, 255))
CUTS = st.lists(st.sampled_from([1, 5, 27, 93, 115, 700, 5000]), min_size=1, max_size=5)


def stream(messages: list[bytes], change: tuple[int, int] | None) -> bytes:
    """With one byte of the first message's head changed, perhaps."""
    raw = bytearray(b"".join(messages))
    if change is not None and change[0] < len(raw):
        raw[change[0]] ^= change[1]
    return bytes(raw)


def taken(raw: bytes, cuts: list[int], take: Callable[[FrameReader], list[object]]) -> list[object]:
    """All that `take` makes of the stream; a refusal is the last of it."""
    reader = FrameReader(4096, MAX_DATA)
    found: list[object] = []
    at = turn = 0
    try:
        while at < len(raw):
            room = reader.buffer()
            count = min(len(room), cuts[turn % len(cuts)], len(raw) - at)
            room[:count] = raw[at : at + count]
            reader.received(count)
            at, turn = at + count, turn + 1
            while more := take(reader):
                found += more
    except ProtocolError as error:
        found.append(str(error))
    return [*found, reader.pending]


def meaning(request: replication.Request) -> object:
    """It stays as it is when the buffer that its data was in is used again."""
    request.data = None if request.data is None else bytes(request.data)
    return request


def reply_meaning(reply: replication.Reply) -> object:
    if reply.payload is not None and reply.payload.data is not None:
        reply.payload = Payload(reply.payload.length, bytes(reply.payload.data))
    return reply


def requests_in_general(reader: FrameReader) -> list[object]:
    frame = reader.next()
    return [] if frame is None else [meaning(replication.decode_request(frame, MAX_REQUEST))]


def requests_by_template(reader: FrameReader) -> list[object]:
    request = replication.next_request(reader, MAX_REQUEST)
    return [] if request is None else [meaning(request)]


def wanted(seq: int) -> int:
    return MAX_REQUEST if seq % 3 else 0


def replies_in_general(reader: FrameReader) -> list[object]:
    frame = reader.next()
    if frame is None:
        return []
    seq = frame.nv.get_int("seq", NvType.UINT64) or 0
    return [reply_meaning(replication.decode_reply(frame, wanted(seq)))]


def replies_by_template(reader: FrameReader) -> list[object]:
    plain: list[object] = [replication.Reply(seq) for seq in replication.plain_replies(reader)]
    if plain:
        return plain
    reply = replication.next_reply(reader, wanted)
    return [] if reply is None else [reply_meaning(reply)]


@given(U64, U64, st.integers(1, 600), st.booleans())
def test_a_write_is_the_same_bytes_from_both(seq: int, offset: int, length: int, memsync: bool) -> None:
    data = b"d" * length
    assert replication.encode_write(seq, offset, length, memsync=memsync) + data == general_write(
        seq, offset, data, memsync
    )


@given(U64)
def test_a_reply_is_the_same_bytes_from_both(seq: int) -> None:
    assert [replication.encode_plain_reply(seq)] == replication.encode_reply(seq)
    assert [replication.encode_received(seq)] == replication.encode_reply(seq, received=True)


@settings(max_examples=400)
@given(st.lists(REQUESTS, min_size=1, max_size=6), CHANGES, CUTS)
def test_requests_mean_the_same_to_both(messages: list[bytes], change: tuple[int, int] | None, cuts: list[int]) -> None:
    raw = stream(messages, change)
    assert taken(raw, cuts, requests_by_template) == taken(raw, cuts, requests_in_general)


@settings(max_examples=400)
@given(st.lists(REPLIES, min_size=1, max_size=12), CHANGES, CUTS)
def test_replies_mean_the_same_to_both(messages: list[bytes], change: tuple[int, int] | None, cuts: list[int]) -> None:
    raw = stream(messages, change)
    assert taken(raw, cuts, replies_by_template) == taken(raw, cuts, replies_in_general)


@pytest.mark.parametrize("write", [general_write(7, 512, b"d" * 512, memsync) for memsync in (False, True)])
def test_no_change_of_a_single_bit_of_a_write_makes_a_difference_between_both(write: bytes) -> None:
    for at in range(len(write) - 512):
        for bit in range(8):
            raw = stream([write, write], (at, 1 << bit))
            assert taken(raw, [5000], requests_by_template) == taken(raw, [5000], requests_in_general)


@pytest.mark.parametrize(
    "reply", [replication.encode_plain_reply(7), replication.encode_received(7), read_reply(7, b"d" * 512)]
)
def test_no_change_of_a_single_bit_of_a_reply_makes_a_difference_between_both(reply: bytes) -> None:
    for at in range(min(len(reply), 100)):
        for bit in range(8):
            raw = stream([reply, reply], (at, 1 << bit))
            assert taken(raw, [5000], replies_by_template) == taken(raw, [5000], replies_in_general)


def test_frequent_messages_do_not_need_the_general_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [general_write(1, 512, b"d" * 512, memsync) for memsync in (False, True)]
    requests += [asked(command, 2, 512, 1024) for command in (Command.READ, Command.DELETE, Command.FLUSH)]
    replies = [replication.encode_plain_reply(3), replication.encode_received(4), read_reply(5, b"d" * 512)]
    monkeypatch.setattr(Nv, "decode", lambda data: pytest.fail("the general codec was asked"))
    assert len(taken(b"".join(requests), [5000], requests_by_template)) == len(requests) + 1
    assert len(taken(b"".join(replies), [5000], replies_by_template)) == len(replies) + 1
