from __future__ import annotations

import hashlib
import random
import tracemalloc
import zlib

import pytest

from hastfs.errors import ProtocolError
from hastfs.model import MAX_REQUEST, Checksum, Compression
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import Packed, is_zero, pack, pack_zeros, unpack, zeros
from hastfs.volume import Buffer


def nv_of(packed: Packed, **changes: tuple[NvType, int | str | bytes]) -> Nv:
    nv = Nv()
    for name, kind, value in packed.fields:
        nv.add(name, *changes.get(name, (kind, value)))
    return nv


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("length", [1, 512, MAX_REQUEST, MAX_REQUEST + 512, 3 * MAX_REQUEST])
def test_zeros_are_told_from_data_at_any_length(kind: type, length: int) -> None:
    data = bytearray(length)
    assert is_zero(kind(data))
    data[-1] = 1
    assert not is_zero(kind(data))


@pytest.mark.parametrize("length", [0, 512, MAX_REQUEST, MAX_REQUEST + 1])
def test_zeros_are_as_many_as_wanted(length: int) -> None:
    assert zeros(length) == bytes(length)


def test_zeros_go_as_a_hole_that_says_how_long_it_is() -> None:
    packed = pack(bytes(4096), Compression.HOLE, Checksum.NONE)
    assert packed.data == (4096).to_bytes(4, "little")
    assert packed.fields == [("compression", NvType.STRING, "hole"), ("size", NvType.UINT32, 4)]
    assert packed == pack_zeros(4096, Checksum.NONE)


def test_without_compression_zeros_go_as_they_are() -> None:
    assert pack(bytes(512), Compression.NONE, Checksum.NONE).data == bytes(512)


def test_data_is_not_copied() -> None:
    data = memoryview(b"x" * 512)
    assert pack(data, Compression.HOLE, Checksum.SHA256).data is data


def test_the_checksum_covers_the_compressed_bytes() -> None:
    packed = pack(bytes(4096), Compression.HOLE, Checksum.CRC32)
    expected = zlib.crc32((4096).to_bytes(4, "little")).to_bytes(4, "little")
    assert ("hash", NvType.UINT8_ARRAY, expected) in packed.fields
    assert [name for name, _, _ in packed.fields] == ["compression", "checksum", "hash", "size"]


def test_sha256_is_sent_whole() -> None:
    packed = pack(b"abc", Compression.NONE, Checksum.SHA256)
    assert ("hash", NvType.UINT8_ARRAY, hashlib.sha256(b"abc").digest()) in packed.fields


@pytest.mark.parametrize("checksum", Checksum)
@pytest.mark.parametrize("compression", [Compression.HOLE, Compression.LZF])
@pytest.mark.parametrize("data", [bytes(4096), b"x" * 4096, memoryview(bytearray(b"y" * 4096))])
def test_what_was_packed_is_unpacked(data: Buffer, compression: Compression, checksum: Checksum) -> None:
    packed = pack(data, compression, checksum)
    payload = unpack(nv_of(packed), memoryview(bytearray(packed.data)), 4096)
    assert payload.length == 4096
    assert payload.data == (None if is_zero(data) else data)


def lzf_stream(announced: int, stream: bytes) -> tuple[Nv, bytes]:
    nv = Nv()
    nv.add("compression", NvType.STRING, "lzf")
    return nv, announced.to_bytes(4, "little") + stream


def test_lzf_announces_the_length_before_its_stream() -> None:
    packed = pack(b"x" * 4096, Compression.LZF, Checksum.NONE)
    assert [name for name, _, _ in packed.fields] == ["compression", "size"]
    assert bytes(packed.data[:4]) == (4096).to_bytes(4, "little")
    assert len(packed.data) < 100


@pytest.mark.parametrize("length", [512, 1024, 1025, 1026])
def test_short_data_is_not_compressed(length: int) -> None:
    data = b"x" * length
    assert pack(data, Compression.LZF, Checksum.NONE).data == data


def test_data_that_would_save_too_little_is_not_compressed() -> None:
    data = bytes(range(256)) * 4 + random.Random(1).randbytes(3072)
    assert pack(data, Compression.LZF, Checksum.NONE).data == data


def test_zeros_are_a_hole_with_lzf_too() -> None:
    assert pack(bytes(512), Compression.LZF, Checksum.CRC32) == pack_zeros(512, Checksum.CRC32)


# A literal of one byte, then 262 times the byte before: each copy makes 264 bytes out of three.
BOMB = b"\x00x" + b"\xe0\xff\x00" * 5000


@pytest.mark.parametrize(
    ("announced", "stream", "reason"),
    [
        (4097, BOMB, "4097 bytes, 4096 are allowed"),
        (0xFFFFFFFF, BOMB, "4294967295 bytes, 4096 are allowed"),
        (4096, BOMB, "does not unfold to the 4096 bytes"),
        (4096, b"\x00x", "does not unfold to the 4096 bytes"),
        (0, b"\x00x", "does not unfold to the 0 bytes"),
        (4096, b"\xff\xff\xff", "does not unfold"),
        (4096, b"\x1fabc", "does not unfold"),
        (4096, b"", "does not unfold"),
    ],
)
def test_an_lzf_stream_that_is_damaged_or_too_long_is_refused(announced: int, stream: bytes, reason: str) -> None:
    nv, data = lzf_stream(announced, stream)
    with pytest.raises(ProtocolError, match=reason):
        unpack(nv, data, 4096)


def test_an_lzf_bomb_makes_nothing_longer_than_what_is_allowed() -> None:
    nv, data = lzf_stream(1 + 264 * 5000, BOMB)
    assert unpack(nv, data, 2 << 20).data == b"x" * (1 + 264 * 5000)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            unpack(nv, data, 4096)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("hash", (NvType.UINT8_ARRAY, b"1234"), "does not match"),
        ("hash", (NvType.STRING, "1234"), "does not match"),
        ("checksum", (NvType.STRING, "md5"), "checksum 'md5'"),
        ("checksum", (NvType.STRING, "none"), "checksum 'none'"),
        ("compression", (NvType.STRING, "zip"), "compression 'zip'"),
    ],
)
def test_what_is_damaged_or_unknown_is_refused(field: str, value: tuple[NvType, str | bytes], reason: str) -> None:
    packed = pack_zeros(4096, Checksum.CRC32)
    with pytest.raises(ProtocolError, match=reason):
        unpack(nv_of(packed, **{field: value}), packed.data, 4096)


@pytest.mark.parametrize("data", [b"", b"\0\x10\0", b"\0\x10\0\0\0", bytes(4)])
def test_a_hole_without_a_length_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="hole"):
        unpack(nv_of(pack_zeros(4096, Checksum.NONE)), data, 4096)


def test_a_hole_may_not_be_longer_than_allowed() -> None:
    packed = pack_zeros(4096, Checksum.NONE)
    with pytest.raises(ProtocolError, match="4096 bytes, 2048 are allowed"):
        unpack(nv_of(packed), packed.data, 2048)


def test_data_may_not_be_longer_than_allowed() -> None:
    with pytest.raises(ProtocolError, match="513 bytes"):
        unpack(Nv(), bytes(513), 512)
