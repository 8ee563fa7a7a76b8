from __future__ import annotations

import dataclasses

import pytest

from hastfs.errors import DataError, MetadataError
from hastfs.model import Consistency, Generations, Role
from hastfs.ondisk.layout import COPY_SIZE
from hastfs.ondisk.metadata import Metadata, choose, crc32c, decode_copy, encode
from hastfs.protocol.nv import Nv, NvType, Value, encode_entry

METADATA = Metadata(
    resource="disk",
    datasize=67104256,
    extentsize=1 << 21,
    keepdirty=64,
    localoff=4608,
    resuid=(1 << 64) - 1,
    localcnt=2,
    remotecnt=1,
    prevrole=Role.PRIMARY,
    serial=7,
    generations=Generations(5, 4, (3, 2)),
    consistency=Consistency.INCONSISTENT,
)
NEWER = dataclasses.replace(METADATA, serial=8, localcnt=3)
DAMAGED = bytes([encode(METADATA)[0] ^ 4]) + encode(METADATA)[1:]
EMPTY = bytes(COPY_SIZE)
OURS = ("serial", "generation", "state", "crc")


def by_the_original(metadata: Metadata, **changes: tuple[NvType, Value]) -> bytes:
    """The block as the original would write it, with other values where wanted."""
    nv = Nv()
    for name, kind, value in Nv.decode(encode(metadata)):
        if name not in OURS:
            nv.add(name, *changes.get(name, (kind, value)))
    return nv.encode().ljust(COPY_SIZE, b"\0")


ORIGINAL = by_the_original(dataclasses.replace(METADATA, localcnt=9))


def test_a_copy_is_one_sector_and_comes_back() -> None:
    assert len(encode(METADATA)) == COPY_SIZE
    assert decode_copy(encode(METADATA)) == METADATA


def test_our_entries_follow_the_original_s_and_the_checksum_is_the_last() -> None:
    names = [name for name, _, _ in Nv.decode(encode(METADATA))]
    assert names == [
        *("resource", "datasize", "extentsize", "keepdirty", "offset", "resuid", "localcnt", "remotecnt", "prevrole"),
        *OURS,
    ]


def test_the_checksum_is_crc_32c_of_everything_before_it() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    block = encode(METADATA)
    at = Nv.decode(block).encoded_size - 22
    assert block[at : at + 22] == encode_entry("crc", NvType.UINT32, crc32c(block[:at]))


@pytest.mark.parametrize("role", Role)
def test_the_longest_name_fits_in_any_role(role: Role) -> None:
    metadata = dataclasses.replace(METADATA, resource="n" * 135, prevrole=role)
    assert decode_copy(encode(metadata)) == metadata
    with pytest.raises(DataError, match="too long"):
        encode(dataclasses.replace(metadata, resource="n" * 136))


def test_every_single_damaged_bit_is_noticed() -> None:
    block = encode(METADATA)
    for bit in range(COPY_SIZE * 8):
        damaged = bytearray(block)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(MetadataError, match="damaged"):
            decode_copy(bytes(damaged))


@pytest.mark.parametrize("lost", range(1, COPY_SIZE // 8))
def test_a_block_whose_end_is_lost_is_not_taken_for_the_original_s(lost: int) -> None:
    torn = encode(METADATA)[: -lost * 8].ljust(COPY_SIZE, b"\0")
    if torn != encode(METADATA) and torn.rstrip(b"\0") != by_the_original(METADATA).rstrip(b"\0"):
        with pytest.raises(MetadataError):
            decode_copy(torn)


def test_what_the_original_wrote_is_taken_without_a_checksum() -> None:
    expected = dataclasses.replace(
        METADATA, localcnt=9, serial=0, generations=Generations(), consistency=Consistency.CONSISTENT
    )
    assert decode_copy(ORIGINAL) == expected


def test_an_empty_block_is_not_initialised() -> None:
    with pytest.raises(MetadataError, match="not initialised"):
        decode_copy(EMPTY)


@pytest.mark.parametrize("name", ["resource", "datasize", "extentsize", "offset", "resuid", "localcnt", "prevrole"])
def test_a_missing_entry_is_named(name: str) -> None:
    with pytest.raises(MetadataError, match=f"{name} is missing"):
        decode_copy(by_the_original(METADATA, **{name: (NvType.INT8, 1)}))


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("extentsize", NvType.UINT32, 0),
        ("extentsize", NvType.UINT32, 256),
        ("extentsize", NvType.UINT32, 5120),
        ("extentsize", NvType.UINT32, 1 << 31),
        ("extentsize", NvType.UINT32, 512),  # more extents than the map has bits
        ("offset", NvType.UINT64, 4096),
        ("offset", NvType.UINT64, 4700),
        ("offset", NvType.UINT64, 1 << 63),
        ("datasize", NvType.UINT64, 0),
        ("datasize", NvType.UINT64, 1 << 63),
        ("prevrole", NvType.STRING, "boss"),
    ],
)
def test_values_that_cannot_be_are_refused(name: str, kind: NvType, value: Value) -> None:
    with pytest.raises(MetadataError, match="damaged"):
        decode_copy(by_the_original(METADATA, **{name: (kind, value)}))


def test_two_good_copies_need_no_warning() -> None:
    assert choose(encode(METADATA), encode(METADATA)) == (METADATA, None)


@pytest.mark.parametrize(
    ("first", "second", "chosen", "warning"),
    [
        (encode(NEWER), encode(METADATA), NEWER, "older"),
        (encode(METADATA), encode(NEWER), NEWER, "newer"),
        (DAMAGED, encode(METADATA), METADATA, "first copy of the metadata is damaged"),
        (EMPTY, encode(METADATA), METADATA, "first copy of the metadata is not initialised"),
        (encode(METADATA), DAMAGED, METADATA, "second copy of the metadata is damaged"),
        (encode(METADATA), EMPTY, METADATA, "second copy of the metadata is not initialised"),
    ],
)
def test_the_better_copy_is_used_with_a_warning(first: bytes, second: bytes, chosen: Metadata, warning: str) -> None:
    metadata, said = choose(first, second)
    assert metadata == chosen
    assert said is not None
    assert warning in said


@pytest.mark.parametrize("second", [encode(NEWER), EMPTY, DAMAGED])
def test_what_the_original_wrote_counts_whatever_the_second_copy_says(second: bytes) -> None:
    metadata, warning = choose(ORIGINAL, second)
    assert (metadata.localcnt, metadata.serial, warning) == (9, 0, None)


def test_without_a_good_copy_the_first_one_s_reason_is_told() -> None:
    with pytest.raises(MetadataError, match="not initialised"):
        choose(EMPTY, DAMAGED)
    with pytest.raises(MetadataError, match="damaged"):
        choose(DAMAGED, EMPTY)
