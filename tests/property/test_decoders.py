"""Every decoder of bytes from outside: any input is a value or the documented refusal, at a bounded price.

The price: peak memory follows from what came and from what the caller allows, never from what the input claims; CPU
time has a limit per input. A refusal is one line of bounded length, because it ends up in a log.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs import address
from hastfs.config.parser import parse
from hastfs.daemon import workerlink
from hastfs.daemon.controlserver import MAX_REQUEST
from hastfs.daemon.workerlink import AskStatus, Failed, Happened, LinkError, Ready, StatusAnswer, Stop
from hastfs.errors import ConfigError, MetadataError, ProtocolError
from hastfs.model import Checksum, Command, Compression, Consistency, Generations, Role, SyncSource
from hastfs.ondisk import metadata
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.layout import COPY_SIZE, Layout
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol import control, handshake
from hastfs.protocol.control import ControlCommand, ResourceStatus
from hastfs.protocol.frame import HEAD, Frame, FrameReader, encode
from hastfs.protocol.handshake import Hello, Joining, Refusal, Standing, Terms, Welcome
from hastfs.protocol.nv import Nv, NvType, Value, encode_entry
from hastfs.protocol.payload import Payload, pack, pack_zeros, unpack
from hastfs.protocol.replication import (
    decode_reply,
    decode_request,
    encode_keepalive,
    encode_reply,
    encode_request,
    encode_state,
    validate_request,
)
from hastfs.volume import Buffer
from tests.property.test_nv import integers

T = TypeVar("T")

CPU = 0.5
"""Seconds a decoder may take for one input; what is tried here takes a tenth of that."""

ROOM = 64 * 1024
"""Bytes a decoder may use whatever the input is: what Python allocates besides, and a receive buffer's spare room."""

EXPANSION = 64
"""Bytes of objects per byte of input. The worst is an array of int8: a pointer of 8 bytes to an int of 32 for each."""

LONGEST_REFUSAL = 400
"""Characters; a user's own file or command line may be quoted besides."""

MAX_NV = 4096
LIMIT = 128 * 1024
"""Bytes of data that the caller of a decoder allows."""


def understood(
    decode: Callable[[bytes], T],
    refusal: type[Exception] | tuple[type[Exception], ...],
    raw: bytes,
    longest: int = LONGEST_REFUSAL,
) -> T | None:
    """What `decode` makes of `raw`, None if it refuses."""
    try:
        return decode(raw)
    except refusal as error:
        assert str(error).strip()
        assert str(error).isprintable(), "a refusal is one line, whatever came"
        assert len(str(error)) <= longest
        return None


def priced(
    decode: Callable[[bytes], T],
    refusal: type[Exception] | tuple[type[Exception], ...],
    raw: bytes,
    allowed: int = 0,
    *,
    longest: int = LONGEST_REFUSAL,
) -> T | None:
    """The same, at a bounded price. `allowed`: bytes that the caller is ready to spend besides."""
    started = time.process_time()
    value = understood(decode, refusal, raw, longest)
    assert time.process_time() - started <= CPU
    tracemalloc.start()
    try:
        understood(decode, refusal, raw, longest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= ROOM + EXPANSION * len(raw) + allowed, f"{peak} bytes for an input of {len(raw)}"
    return value


# -- rubbish, and messages that were right once ------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 127, 128, 255, 511, 512, 1 << 16, LIMIT + 1, (1 << 31) - 1, (1 << 32) - 1])


def flip(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    raw[at : at + 1] = bytes([draw(st.integers(0, 255))])


def cut(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    del raw[at : at + draw(st.integers(1, 40))]


def cut_short(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    del raw[at:]


def insert(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    raw[at:at] = draw(st.binary(min_size=1, max_size=24))


def duplicate(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    raw[at:at] = raw[at : at + draw(st.integers(1, 64))]


def change_length(draw: st.DrawFn, raw: bytearray, at: int) -> None:
    raw[at : at + 4] = struct.pack("<I", draw(NUMBERS | st.just(len(raw))))


DAMAGES = st.sampled_from([flip, flip, cut, cut_short, insert, duplicate, change_length, change_length])


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """One to four damages to something valid."""
    raw = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        draw(DAMAGES)(draw, raw, draw(st.integers(0, len(raw))))
    return bytes(raw)


def anything(*valid: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=300) | damaged(st.sampled_from(valid))


# -- messages ----------------------------------------------------------------------------------------------------------

KINDS = {
    "resource": NvType.STRING,
    "version": NvType.UINT8,
    "token": NvType.UINT8_ARRAY,
    "errmsg": NvType.STRING,
    "wait": NvType.UINT8,
    "virgin": NvType.INT8,
    "resuid": NvType.UINT64,
    "datasize": NvType.INT64,
    "extentsize": NvType.INT32,
    "localcnt": NvType.UINT64,
    "remotecnt": NvType.UINT64,
    "syncsrc": NvType.UINT8,
    "mapsize": NvType.UINT32,
    "generation": NvType.UINT64_ARRAY,
    "state": NvType.UINT8,
    "cmd": NvType.UINT8,
    "seq": NvType.UINT64,
    "offset": NvType.UINT64,
    "length": NvType.UINT64,
    "memsync": NvType.UINT8,
    "received": NvType.INT8,
    "error": NvType.INT16,
    "compression": NvType.STRING,
    "checksum": NvType.STRING,
    "hash": NvType.UINT8_ARRAY,
    "size": NvType.UINT32,
    "role": NvType.UINT8,
    "resource0": NvType.STRING,
    "resource1": NvType.STRING,
    "dirty0": NvType.UINT64,
    "stat_read0": NvType.UINT64,
}
"""Every name a decoder looks for, with the type it wants."""

WORDS = st.sampled_from(["hole", "lzf", "crc32", "sha256", "none", "test", "", "x\nforged", "é" * 100, "z" * 3000])


def values(kind: NvType) -> st.SearchStrategy[Value]:
    if kind is NvType.STRING:
        return WORDS
    if kind is NvType.UINT8_ARRAY:
        return st.sampled_from([1, 4, 15, 16, 17, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
    if kind > NvType.INT8_ARRAY:
        return st.lists(integers(kind), min_size=1, max_size=5).map(tuple)
    return st.integers(0, 6) | integers(kind)


def entry(name: str) -> st.SearchStrategy[bytes]:
    kinds = st.sampled_from([KINDS[name]] * 9 + [NvType.STRING, NvType.UINT64])
    return kinds.flatmap(lambda kind: values(kind).map(lambda value: encode_entry(name, kind, value)))


@st.composite
def lists(draw: st.DrawFn) -> bytes:
    """Lists of the names that decoders look for, nearly always of the right type, with any value."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=14))
    return b"".join(draw(entry(name)) for name in names)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Such a list with data behind it, packed in one of the ways there are, as long as `size` says or not."""
    nv = draw(lists())
    data = draw(st.binary(max_size=60) | NUMBERS.map(lambda number: struct.pack("<I", number)) | st.just(bytes(LIMIT)))
    packed = draw(st.sampled_from(["", "hole", "lzf"]))
    if packed:
        nv = encode_entry("compression", NvType.STRING, packed) + nv
    size = draw(st.none() | st.just(len(data)) | NUMBERS)
    if size is not None:
        nv = encode_entry("size", NvType.UINT32, size) + nv
    return HEAD.pack(draw(st.integers(0, 2)), len(nv)) + nv + data


def joined(*frames: list[Buffer]) -> bytes:
    return b"".join(bytes(piece) for frame in frames for piece in frame)


def frames(raw: bytes, cuts: list[int], max_nv: int = MAX_NV, max_data: int = LIMIT) -> Iterator[Frame]:
    """Through a FrameReader, received in pieces of `cuts` bytes, again and again."""
    reader = FrameReader(max_nv, max_data)
    at = turn = 0
    while at < len(raw):
        room = reader.buffer()
        assert len(room), "there is always room for more"
        count = min(len(room), cuts[turn % len(cuts)], len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at, turn = at + count, turn + 1
        while (frame := reader.next()) is not None:
            yield frame
    reader.buffer()  # room for what is still to come, by what was announced


STANDING = Standing(1 << 20, 4096, 1, 2)
BLOCK = bytes(range(256)) * 4
STEP3 = Joining("test", bytes(range(16)), True, 77, 3, 4, Generations(5, 4, (3, 2)), Consistency.INCONSISTENT)
STEP4 = Terms(1 << 20, 4096, 1, 2, False, SyncSource.SECONDARY, b"\x05" + bytes(511), Generations(5))

HANDSHAKE = (
    joined(Hello("test", 3).encode()),
    joined(Welcome(2, bytes(range(16))).encode()),
    joined(Refusal("Split-brain condition!", True, STANDING).encode()),
    joined(STEP3.encode()),
    joined(STEP4.encode()),
    joined(STEP4.encode(Compression.HOLE, Checksum.CRC32)),
)
REQUESTS = (
    joined(encode_request(Command.READ, 1, 512, 1024), encode_keepalive()),
    joined(
        encode_request(Command.WRITE, 2, 0, 1024, memsync=True, packed=pack(BLOCK, Compression.NONE, Checksum.CRC32))
    ),
    joined(encode_request(Command.WRITE, 3, 0, 1024, packed=pack(bytes(1024), Compression.HOLE, Checksum.SHA256))),
    joined(encode_state(4, Consistency.CONSISTENT, Generations(1)), encode_request(Command.FLUSH, 5, 0, 0)),
)
REPLIES = (
    joined(encode_reply(1, received=True), encode_reply(1)),
    joined(encode_reply(2, packed=pack(BLOCK, Compression.HOLE, Checksum.SHA256)), encode_reply(3, error=5)),
)
CONTROL = (
    joined(control.Request(ControlCommand.SETROLE, Role.PRIMARY, True, ("test", "more")).encode()),
    joined(control.Reply(0, None, [ResourceStatus("test", role="init", dirty=7, stats={"stat_read": 1})] * 3).encode()),
)


@dataclass(frozen=True)
class Decoder:
    """One that takes frames. `valid`: what it was made for."""

    name: str
    decode: Callable[[Frame], object]
    valid: tuple[bytes, ...]


def request(frame: Frame) -> object:
    found = decode_request(frame, LIMIT)
    assert validate_request(found, 1 << 20, LIMIT) >= 0
    return found


def payload(frame: Frame) -> Payload:
    found = unpack(frame.nv, frame.data, LIMIT)
    assert found.length <= LIMIT
    assert found.data is None or len(found.data) == found.length
    return found


DECODERS = [
    Decoder("opening", handshake.decode_opening, HANDSHAKE),
    Decoder("hello", Hello.decode, HANDSHAKE),
    Decoder("joining", Joining.decode, HANDSHAKE),
    Decoder("welcome", Welcome.decode, HANDSHAKE),
    Decoder("refusal", Refusal.decode, HANDSHAKE),
    Decoder("terms", partial(Terms.decode, max_map=LIMIT), HANDSHAKE),
    Decoder("request", request, REQUESTS),
    Decoder("reply", partial(decode_reply, limit=LIMIT), REPLIES),
    Decoder("payload", payload, (*REQUESTS, *REPLIES)),
    Decoder("control request", control.Request.decode, CONTROL),
    Decoder("control reply", control.Reply.decode, CONTROL),
]
CUTS = st.lists(st.integers(1, 9) | st.just(1 << 20), min_size=1, max_size=4)

# A buffer at its usual size and its successor for the longest message; data, and what it unfolds to.
ROOM_FOR_FRAMES = 256 * 1024 + HEAD.size + MAX_NV + LIMIT + ROOM + 2 * LIMIT


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
@given(data=st.data())
def test_any_message_is_understood_or_refused_at_a_bounded_price(decoder: Decoder, data: st.DataObject) -> None:
    raw = data.draw(anything(*decoder.valid) | messages())
    cuts = data.draw(CUTS) if len(raw) < 5000 else [1 << 20]

    def decode(raw: bytes) -> None:
        for frame in frames(raw, cuts):
            decoder.decode(frame)

    priced(decode, ProtocolError, raw, ROOM_FOR_FRAMES)


@pytest.mark.parametrize("compression", ["hole", "lzf"])
@given(claimed=st.integers(0, (1 << 32) - 1), stream=st.binary(max_size=200), limit=st.sampled_from([512, 4096, LIMIT]))
def test_data_never_unfolds_beyond_what_is_allowed(compression: str, claimed: int, stream: bytes, limit: int) -> None:
    nv = Nv()
    nv.add("compression", NvType.STRING, compression)
    found = priced(lambda raw: unpack(nv, raw, limit), ProtocolError, struct.pack("<I", claimed) + stream, 2 * limit)
    assert found is None or found.length <= limit


BEYOND = LIMIT + 512
HOLE = pack_zeros(BEYOND, Checksum.NONE)


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (encode_request(Command.WRITE, 1, 0, LIMIT, packed=HOLE), request),
        (encode_reply(1, packed=HOLE), partial(decode_reply, limit=LIMIT)),
        (
            Terms(1 << 40, 4096, 1, 2, False, SyncSource.PRIMARY, bytes(BEYOND)).encode(Compression.HOLE),
            partial(Terms.decode, max_map=LIMIT),
        ),
    ],
    ids=["request", "reply", "terms"],
)
def test_a_hole_that_is_larger_than_allowed_is_refused(
    message: list[Buffer], decode: Callable[[Frame], object]
) -> None:
    (frame,) = frames(joined(message), [1 << 20])
    with pytest.raises(ProtocolError, match=f"{BEYOND} bytes"):
        decode(frame)


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (Hello("test", 3), Hello.decode),
        (Hello("test", 3), handshake.decode_opening),
        (STEP3, Joining.decode),
        (STEP3, handshake.decode_opening),
        (Welcome(2, bytes(range(16))), Welcome.decode),
        (Refusal("no", True, STANDING), Refusal.decode),
        (Refusal("no"), Welcome.decode),
        (Refusal("no"), partial(Terms.decode, max_map=LIMIT)),
        (STEP4, partial(Terms.decode, max_map=LIMIT)),
    ],
)
@given(cuts=CUTS)
def test_what_is_said_in_the_handshake_is_what_is_understood(
    message: Hello | Joining | Welcome | Refusal | Terms, decode: Callable[[Frame], object], cuts: list[int]
) -> None:
    (frame,) = frames(joined(message.encode()), cuts)
    assert decode(frame) == message


U64 = st.integers(0, (1 << 64) - 1)


@given(st.sampled_from([Command.READ, Command.DELETE, Command.FLUSH]), st.integers(1, (1 << 64) - 1), U64, U64, CUTS)
def test_requests_come_back(command: Command, seq: int, offset: int, length: int, cuts: list[int]) -> None:
    (frame,) = frames(joined(encode_request(command, seq, offset, length)), cuts)
    found = decode_request(frame, LIMIT)
    assert (found.command, found.seq, found.offset, found.length) == (command, seq, offset, length)


@given(st.integers(1, (1 << 64) - 1), st.integers(-(1 << 15), (1 << 15) - 1), CUTS)
def test_replies_come_back(seq: int, error: int, cuts: list[int]) -> None:
    (frame,) = frames(joined(encode_reply(seq, error=error)), cuts)
    found = decode_reply(frame, LIMIT)
    assert (found.seq, found.error, found.received, found.payload) == (seq, error, False, None)


@given(lists() | damaged(lists()))
def test_any_nv_list_is_understood_or_refused_at_a_bounded_price(raw: bytes) -> None:
    priced(Nv.decode, ProtocolError, raw)


def _same(name: str, kind: NvType, value: Value, total: int = 64 * 1024) -> bytes:
    one = encode_entry(name, kind, value)
    return one * (total // len(one))


def _numbered(prefix: str, numbers: range) -> bytes:
    return b"".join(encode_entry(f"{prefix}{number}", NvType.STRING, "x") for number in numbers)


@pytest.mark.parametrize(
    "nv",
    [
        pytest.param(_same("cmd", NvType.UINT8, 1), id="the same frequent name"),
        pytest.param(_same("x", NvType.STRING, "y"), id="the same name"),
        pytest.param(_same("seq", NvType.STRING, "y"), id="the same name of a wrong type"),
        pytest.param(_numbered("resource", range(2000)), id="many resources"),
        pytest.param(_numbered("resource", range(2000, 0, -1)), id="many resources from the end"),
        pytest.param(_numbered("resource9999", range(2000)), id="no resource 0, but large ones"),
        pytest.param(_same("9" * 200, NvType.STRING, "y"), id="names of digits"),
        pytest.param(_same("_" * 240 + "_queue_siz0", NvType.UINT64, 1), id="names that nearly match"),
        pytest.param(encode_entry("x", NvType.INT8_ARRAY, (-128,) * 65_000), id="an array of int8"),
        pytest.param(encode_entry("generation", NvType.UINT64_ARRAY, (1 << 63,) * 8000), id="an array of uint64"),
        pytest.param(encode_entry("errmsg", NvType.STRING, "x" * 65_000), id="a long text"),
        pytest.param(encode_entry("compression", NvType.STRING, "\n" * 65_000), id="a long compression"),
        pytest.param(encode_entry("checksum", NvType.STRING, "\n" * 65_000), id="a long checksum"),
        pytest.param(
            encode_entry("cmd", NvType.UINT8, 99) + encode_entry("x", NvType.STRING, "\n" * 60_000),
            id="an unknown command among much else",
        ),
        pytest.param(bytes(64 * 1024), id="zeros"),
    ],
)
def test_the_worst_lists_have_the_same_price(nv: bytes) -> None:
    raw = joined(encode(nv))
    for decoder in DECODERS:

        def decode(raw: bytes, decoder: Decoder = decoder) -> None:
            for frame in frames(raw, [1000], max_nv=64 * 1024):
                decoder.decode(frame)

        priced(decode, ProtocolError, raw, ROOM_FOR_FRAMES + 2 * 64 * 1024)


def test_the_longest_control_request_has_the_same_price() -> None:
    names = _numbered("resource", range(34_000))
    raw = joined(encode(encode_entry("cmd", NvType.UINT8, ControlCommand.STATUS) + names))
    assert MAX_REQUEST - 100_000 < len(raw) <= MAX_REQUEST

    def decode(raw: bytes) -> int:
        (frame,) = frames(raw, [64 * 1024], max_nv=MAX_REQUEST)
        return len(control.Request.decode(frame).resources)

    assert priced(decode, ProtocolError, raw, 2 * len(raw)) == 34_000


def test_a_message_byte_by_byte_costs_no_more_than_at_once() -> None:
    raw = joined(encode(_same("x", NvType.STRING, "y") + encode_entry("size", NvType.UINT32, LIMIT), bytes(LIMIT)))
    started = time.process_time()
    assert len(list(frames(raw, [1], max_nv=128 * 1024))) == 1
    assert time.process_time() - started <= CPU


# -- disk --------------------------------------------------------------------------------------------------------------

LAYOUT = Layout(1 << 30, 1 << 21)
WRITTEN = Metadata("test", LAYOUT.datasize, LAYOUT.extentsize, 64, LAYOUT.localoff, 7, 1, 2, Role.PRIMARY, 9)
ORIGINAL = metadata.encode(WRITTEN)[:254].ljust(COPY_SIZE, b"\0")
COPIES = st.sampled_from([metadata.encode(WRITTEN), ORIGINAL]) | anything(metadata.encode(WRITTEN), ORIGINAL)


def sector(raw: bytes) -> bytes:
    return raw[:COPY_SIZE].ljust(COPY_SIZE, b"\0")


def test_the_original_s_block_is_a_valid_one() -> None:
    assert metadata.decode_copy(ORIGINAL).serial == 0


@given(COPIES)
def test_any_sector_is_metadata_or_refused_at_a_bounded_price(raw: bytes) -> None:
    found = priced(metadata.decode_copy, MetadataError, sector(raw))
    if found is not None:
        assert found.nextents <= 8 * found.mapsize
        assert found.localoff + found.datasize < 1 << 64


@given(COPIES, COPIES)
def test_any_two_copies_are_metadata_or_refused_at_a_bounded_price(first: bytes, second: bytes) -> None:
    both = sector(first) + sector(second)
    priced(lambda raw: metadata.choose(raw[:COPY_SIZE], raw[COPY_SIZE:]), MetadataError, both)


PAGE = 4096
"""Bytes of the map that are kept in memory where one bit of them is set, in each of three bitmaps."""

MAPS = st.binary(max_size=600) | st.builds(lambda zeros, tail: bytes(zeros) + tail, st.integers(0, 20_000), st.binary())


@given(nextents=st.integers(1, 1 << 50), keepdirty=st.integers(0, (1 << 32) - 1), ondisk=MAPS, remote=MAPS)
def test_any_bytes_are_a_map_in_memory_that_follows_from_the_bytes_not_from_the_disks_size(
    nextents: int, keepdirty: int, ondisk: bytes, remote: bytes
) -> None:
    def load(raw: bytes) -> Activemap:
        found = Activemap(nextents, keepdirty, raw[: len(ondisk)])
        found.merge(raw[len(ondisk) :])
        return found

    # No refusals here: padding bits are ignored, what is missing is clear.
    pages = len(ondisk) // PAGE + len(remote) // PAGE + 2
    found = priced(load, ZeroDivisionError, ondisk + remote, 8 * PAGE * pages)
    assert found is not None
    expected = {
        bit for raw in (ondisk, remote) for bit in range(min(8 * len(raw), nextents)) if raw[bit // 8] & 1 << bit % 8
    }
    assert found.pending() == len(expected)
    assert found.next_out_of_sync(0) == min(expected, default=None)
    size = max(len(ondisk), len(remote))
    kept = found.to_bytes(size)
    assert {bit for bit in range(8 * size) if kept[bit // 8] & 1 << bit % 8} == expected


# -- text --------------------------------------------------------------------------------------------------------------

CONF = b"""timeout 5
listen tcp6://[::1]:8457
exec /hook # what happens
resource test {
    local /disk
    on me { remote tcp4://192.0.2.1 source 192.0.2.2 }
    on other { remote none }
}
"""


def config(raw: bytes) -> object:
    return parse(raw.decode("utf-8", errors="replace"), "hast.conf", ["me"])


@given(anything(CONF))
def test_any_file_is_a_configuration_or_refused_at_a_bounded_price(raw: bytes) -> None:
    assert config(CONF) is not None  # the grammar is read once, whoever comes first
    # The parser's own objects: a token of some hundred bytes for each word, and a word may be one byte.
    priced(config, ConfigError, raw, 1000 * len(raw), longest=LONGEST_REFUSAL + 2 * len(raw))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{" * 30_000, id="braces"),
        pytest.param("resource a { on b { " * 1500, id="sections in sections"),
        pytest.param("resource a {} " * 1500, id="the same resource"),
        pytest.param("on me { " + "listen a " * 3000, id="the same address"),
        pytest.param("a" * 30_000, id="a long word"),
        pytest.param("timeout " + "9" * 30_000, id="a long number"),
        pytest.param("listen " + "[" * 30_000, id="a long address"),
        pytest.param("listen " + "1." * 15_000, id="a long IPv4 address"),
        pytest.param("listen " + "::1" * 10_000, id="a long IPv6 address"),
        pytest.param("resource " + "r" * 30_000 + " {}", id="a long name"),
        pytest.param("control /" + "c" * 30_000, id="a long path"),
        pytest.param("#" * 30_000 + "\n}", id="a long comment"),
    ],
)
def test_the_worst_files_have_the_same_price(text: str) -> None:
    assert config(CONF) is not None
    assert priced(config, ConfigError, text.encode(), 1000 * len(text), longest=LONGEST_REFUSAL + 2 * len(text)) is None


ADDRESSES = (b"tcp4://192.0.2.1:8457", b"tcp6://[fe80::1%eth0]:1", b"host.example.org", b"unix:///var/run/hastctl")


@pytest.mark.parametrize("decode", [address.parse, address.parse_control])
@given(raw=anything(*ADDRESSES) | st.binary(min_size=1, max_size=4).map(lambda raw: raw * 5000))
def test_any_text_is_an_address_or_refused_at_a_bounded_price(decode: Callable[[str], object], raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(raw.decode("utf-8", errors="surrogateescape"))
    word = re.sub(r"[^a-zA-Z0-9.\-_/:\[\]%]", "", raw.decode("latin-1"))  # what hast.conf lets through
    priced(lambda raw: decode(raw.decode()), ValueError, word.encode(), longest=LONGEST_REFUSAL + 2 * len(word))


PACKETS = tuple(
    workerlink.encode(message)
    for message in (
        AskStatus(3),
        Stop(),
        Ready(),
        Happened("connect"),
        StatusAnswer(4, {"status": "complete", "dirty": 0, "extentsize": 1, "keepdirty": 2, "stats": {"stat_read": 1}}),
        Failed("because", 71, True),
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["AskStatus", "Stop", "Ready", "Happened", "StatusAnswer", "Failed"]) | JSON},
    optional={
        name: JSON | st.integers() | st.just({})
        for name in ("number", "event", "status", "message", "exit_code", "temporary")
    },
)


FIELDS = {"number": int, "event": str, "status": dict, "message": str, "exit_code": int, "temporary": bool}
"""What the rest of the daemon takes for granted."""


@given(anything(*PACKETS) | (OBJECTS | JSON).map(lambda value: json.dumps(value).encode()))
def test_any_packet_is_a_message_or_refused_at_a_bounded_price(raw: bytes) -> None:
    found = priced(workerlink.decode, LinkError, raw)
    assert found is None or all(type(value) is FIELDS[name] for name, value in asdict(found).items())


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"[" * 65_536, id="nested lists"),
        pytest.param(b'{"":' * 16_384, id="nested objects"),
        pytest.param(b"[" * 32_768 + b"]" * 32_768, id="nested lists that end"),
        pytest.param(b'{"kind": "AskStatus", "number": ' + b"9" * 65_000 + b"}", id="a long number"),
        pytest.param(b'{"kind": "Failed", "message": "", "exit_code": 1e999, "temporary": true}', id="infinity"),
        pytest.param(b'{"' + b"\\u0000" * 10_000 + b'": 1}', id="a long name"),
    ],
)
def test_the_worst_packets_have_the_same_price(packet: bytes) -> None:
    assert priced(workerlink.decode, LinkError, packet) is None
