from __future__ import annotations

import pytest

from hastfs.errors import DataError
from hastfs.ondisk.layout import METADATA_SIZE, Layout, check_geometry

MIB = 1 << 20
TIB = 1 << 40


def test_map_and_data_follow_the_metadata() -> None:
    layout = Layout(64 * MIB, 2 * MIB)
    assert (layout.nextents, layout.mapsize, layout.localoff, layout.datasize) == (32, 512, 4608, 67104256)


def test_one_extent_more_than_a_sector_of_bits_takes_another_sector() -> None:
    assert Layout(METADATA_SIZE + 4096 * 512, 512).mapsize == 512
    assert Layout(METADATA_SIZE + 4096 * 512 + 1, 512).mapsize == 1024


def test_an_application_sees_whole_sectors_of_an_odd_component() -> None:
    layout = Layout(10 * MIB + 100, 2 * MIB)
    assert layout.datasize == 10481252
    assert layout.provider_size == 10481152


@pytest.mark.parametrize(("mediasize", "extentsize"), [(64 * MIB, 512), (100 * TIB, 2 * MIB), (5120, 1 << 30)])
def test_sizes_that_make_sense_are_taken(mediasize: int, extentsize: int) -> None:
    check_geometry(mediasize, extentsize, 0)


@pytest.mark.parametrize(
    ("mediasize", "extentsize", "keepdirty", "reason"),
    [
        (64 * MIB, 5120, 64, r"^Extent size \(5120\) is not a power of two\.$"),
        (64 * MIB, 3 * MIB, 64, "power of two"),
        (64 * MIB, 256, 64, r"^Extent size \(256\) is less than sector size \(512\)\.$"),
        (64 * MIB, 1000, 64, r"^Extent size \(1000\) is not multiple of sector size \(512\)\.$"),
        (64 * MIB, 0, 64, "less than sector size"),
        (64 * MIB, -512, 64, "less than sector size"),
        (64 * MIB, 1 << 31, 64, "is more than 1073741824"),
        (64 * MIB, 2 * MIB, -1, r"dirty \(-1\)"),
        (64 * MIB, 2 * MIB, 1 << 32, r"dirty \(4294967296\)"),
        (100, 2 * MIB, 64, "too small"),
        (4096, 2 * MIB, 64, "too small"),
        (4096 + 512 + 511, 2 * MIB, 64, "too small"),
        (-1, 2 * MIB, 64, "too small"),
        (100 * TIB, 512, 64, "too large"),
        (1 << 63, 1 << 30, 64, "too large"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(mediasize: int, extentsize: int, keepdirty: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        check_geometry(mediasize, extentsize, keepdirty)
