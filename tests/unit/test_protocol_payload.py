from __future__ import annotations

import hashlib
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
@pytest.mark.parametrize("data", [bytes(512), b"x" * 512])
def test_what_was_packed_is_unpacked(data: Buffer, checksum: Checksum) -> None:
    packed = pack(data, Compression.HOLE, checksum)
    payload = unpack(nv_of(packed), packed.data, 512)
    assert payload.length == 512
    assert payload.data == (None if is_zero(data) else data)


def test_lzf_cannot_be_sent_yet() -> None:
    with pytest.raises(ValueError, match="lzf"):
        pack(b"x" * 4096, Compression.LZF, Checksum.NONE)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("hash", (NvType.UINT8_ARRAY, b"1234"), "does not match"),
        ("hash", (NvType.STRING, "1234"), "does not match"),
        ("checksum", (NvType.STRING, "md5"), "checksum 'md5'"),
        ("checksum", (NvType.STRING, "none"), "checksum 'none'"),
        ("compression", (NvType.STRING, "lzf"), "compression 'lzf'"),
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
