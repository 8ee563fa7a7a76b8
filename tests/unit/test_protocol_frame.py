from __future__ import annotations

import pytest

from hastfs.errors import ProtocolError
from hastfs.protocol.frame import HEAD, FrameReader, encode
from hastfs.protocol.nv import NvType, encode_entry

MIB = 1 << 20


def message(seq: int, data: bytes = b"") -> bytes:
    nv = encode_entry("seq", NvType.UINT64, seq)
    if data:
        nv += encode_entry("size", NvType.UINT32, len(data))
    return b"".join(bytes(part) for part in encode(nv, data))


def feed(reader: FrameReader, raw: bytes) -> list[tuple[int | None, bytes]]:
    """Everything through the reader, as a socket with much to read would; what came out."""
    out: list[tuple[int | None, bytes]] = []
    at = 0
    while at < len(raw):
        room = reader.buffer()
        assert len(room) > 0
        count = min(len(room), len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at += count
        while (frame := reader.next()) is not None:
            out.append((frame.nv.get_int("seq", NvType.UINT64), bytes(frame.data)))
    return out


def test_what_we_send_says_version_2() -> None:
    assert encode(b"") == [b"\x02\0\0\0\0"]


def test_a_payload_is_sent_as_it_is_not_copied() -> None:
    data = memoryview(b"x" * 512)
    assert encode(encode_entry("size", NvType.UINT32, 512), data)[1] is data


def test_many_small_messages_come_out_of_one_receive() -> None:
    reader = FrameReader(4096, MIB)
    assert feed(reader, b"".join(message(n) for n in range(1000))) == [(n, b"") for n in range(1000)]
    assert not reader.pending


def test_a_payload_is_a_view_into_the_buffer_that_was_received_into() -> None:
    reader = FrameReader(4096, MIB)
    raw = message(1, b"x" * 512)
    room = reader.buffer()
    room[: len(raw)] = raw
    reader.received(len(raw))
    frame = reader.next()
    assert frame is not None
    room[len(raw) - 512] = ord("y")
    assert bytes(frame.data[:2]) == b"yx"


def test_an_unfinished_message_is_pending() -> None:
    reader = FrameReader(4096, MIB)
    raw = message(1, b"x" * 512)
    seen = [reader.pending]
    for part in (raw[:-1], raw[-1:]):
        feed(reader, part)
        seen.append(reader.pending)
    assert seen == [False, True, False]


def test_memory_stays_bounded_whatever_the_sizes() -> None:
    reader = FrameReader(4096, MIB)
    raw = b"".join(message(n, bytes([n]) * (n * 5000 % MIB + 1)) for n in range(1, 200)) + message(200, b"z" * MIB)
    out = feed(reader, raw)
    assert [seq for seq, _ in out] == list(range(1, 201))
    assert out[-1][1] == b"z" * MIB
    assert len(reader.buffer()) <= HEAD.size + 4096 + MIB + 64 * 1024


def test_a_version_above_2_in_the_head_is_refused_at_once() -> None:
    with pytest.raises(ProtocolError, match="version 3"):
        feed(FrameReader(4096, MIB), b"\x03\x10\0\0\0")


def test_a_list_that_is_too_long_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError, match="4097 bytes"):
        feed(FrameReader(4096, MIB), HEAD.pack(2, 4097))


def test_data_that_is_too_long_is_refused_before_it_arrives() -> None:
    nv = encode_entry("size", NvType.UINT32, MIB + 1)
    with pytest.raises(ProtocolError, match="1048577 bytes of data"):
        feed(FrameReader(4096, MIB), HEAD.pack(2, len(nv)) + nv)


def test_after_an_error_the_stream_stays_unusable() -> None:
    reader = FrameReader(4096, MIB)
    with pytest.raises(ProtocolError):
        feed(reader, b"\x03\0\0\0\0")
    with pytest.raises(ProtocolError):
        feed(reader, message(1))


def test_a_size_of_another_type_means_no_data() -> None:
    nv = encode_entry("size", NvType.UINT64, 512)
    assert feed(FrameReader(4096, MIB), HEAD.pack(2, len(nv)) + nv) == [(None, b"")]


def test_saying_more_was_received_than_fits_is_our_own_mistake() -> None:
    reader = FrameReader(4096, MIB)
    with pytest.raises(ValueError, match="do not fit"):
        reader.received(len(reader.buffer()) + 1)


def test_the_buffer_is_large_only_as_long_as_large_messages_come() -> None:
    reader = FrameReader(4096, MIB)
    small = len(reader.buffer())
    feed(reader, message(1, b"x" * (128 << 10)) * 20)
    large = len(reader.buffer())
    assert small < 256 * 1024 + 1 < large
    for _ in range(100):
        feed(reader, message(2, b"x" * 4096))
    assert len(reader.buffer()) == small


def test_a_stream_of_small_messages_needs_no_large_buffer() -> None:
    reader = FrameReader(4096, MIB)
    small = len(reader.buffer())
    feed(reader, b"".join(message(n, b"x" * 4096) for n in range(1000)))
    assert len(reader.view) == small
