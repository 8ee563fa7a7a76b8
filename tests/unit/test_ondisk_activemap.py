"""The activemap, one behaviour at a time."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.bitmap import PAGE_BITS, Bitmap
from hastfs.ondisk.keepdirty import KeepDirty


def settle(activemap: Activemap) -> list[tuple[int, bytes]]:
    pages = activemap.changed_pages()
    activemap.pages_written(pages)
    return pages


def write(activemap: Activemap, extent: int, *, replicated: bool = True) -> None:
    activemap.begin_write(extent, extent)
    settle(activemap)
    activemap.end_write(extent, extent, replicated=replicated)


def flush(activemap: Activemap) -> None:
    activemap.flush_done(activemap.flush_begun())


def test_a_first_write_has_to_wait_for_its_bit_and_a_second_has_not() -> None:
    activemap = Activemap(100, keepdirty=4)
    assert not activemap.begin_write(7, 7)
    pages = settle(activemap)
    assert pages == [(0, b"\x80" + bytes(4095))]
    assert activemap.begin_write(7, 7)


def test_only_changed_pages_are_written() -> None:
    activemap = Activemap(10 * PAGE_BITS, keepdirty=100)
    write(activemap, 5)
    activemap.begin_write(3 * PAGE_BITS, 3 * PAGE_BITS)
    assert [number for number, _ in activemap.changed_pages()] == [3]


def test_a_written_extent_is_not_cleaned_before_both_nodes_have_flushed() -> None:
    activemap = Activemap(100, keepdirty=0)
    write(activemap, 5)
    activemap.clean()
    assert activemap.to_bytes(512)[0] == 1 << 5
    flush(activemap)
    activemap.clean()
    assert activemap.to_bytes(512) == bytes(512)
    assert activemap.may_write
    assert not activemap.must_write


def test_a_flush_that_began_before_the_write_was_complete_proves_nothing() -> None:
    activemap = Activemap(100, keepdirty=0)
    activemap.begin_write(5, 5)
    settle(activemap)
    token = activemap.flush_begun()
    activemap.end_write(5, 5, replicated=True)
    activemap.flush_done(token)
    activemap.clean()
    assert activemap.to_bytes(512)[0] == 1 << 5


def test_the_most_recently_written_extents_stay_dirty() -> None:
    activemap = Activemap(100, keepdirty=2)
    for extent in (1, 2, 3, 1):
        write(activemap, extent)
    flush(activemap)
    activemap.clean()
    assert activemap.to_bytes(512)[0] == 1 << 1 | 1 << 3


def test_an_orderly_stop_cleans_what_is_kept_but_not_what_is_out_of_sync() -> None:
    activemap = Activemap(100, keepdirty=10)
    write(activemap, 1)
    write(activemap, 2, replicated=False)
    flush(activemap)
    activemap.clean_kept()
    assert activemap.to_bytes(512)[0] == 1 << 2


def test_when_the_link_is_lost_all_that_is_not_proven_flushed_is_out_of_sync() -> None:
    activemap = Activemap(100, keepdirty=10)
    write(activemap, 1)
    flush(activemap)
    write(activemap, 2)
    activemap.link_lost()
    assert not activemap.is_out_of_sync(1, 1)
    assert activemap.is_out_of_sync(2, 2)


def test_an_extent_that_falls_out_of_sync_while_it_is_copied_is_copied_again() -> None:
    activemap = Activemap(100, keepdirty=0)
    write(activemap, 4, replicated=False)
    activemap.copy_begun(4)
    write(activemap, 4, replicated=False)
    activemap.copied(4)
    assert activemap.next_out_of_sync(0) == 4


def test_dirty_extents_found_on_disk_are_out_of_sync() -> None:
    activemap = Activemap(100, keepdirty=0, ondisk=b"\x01\x80" + bytes(510))
    assert activemap.next_out_of_sync(0) == 0
    assert activemap.next_out_of_sync(1) == 15
    assert activemap.next_out_of_sync(16) is None
    assert activemap.begin_write(15, 15), "its bit is on disk already"


def test_padding_bits_of_a_full_sync_are_no_extents() -> None:
    activemap = Activemap(100, keepdirty=0)
    activemap.merge(b"\xff" * 512)
    assert activemap.pending() == 100
    assert activemap.next_out_of_sync(99) == 99


def test_pages_that_could_not_be_written_are_written_again() -> None:
    activemap = Activemap(100, keepdirty=0)
    activemap.begin_write(9, 9)
    pages = activemap.changed_pages()
    activemap.pages_failed(pages)
    assert not activemap.is_durable(9, 9)
    assert activemap.must_write
    assert settle(activemap) == pages
    assert activemap.is_durable(9, 9)


def test_a_map_of_100_tib_costs_next_to_nothing_until_it_is_used() -> None:
    nextents = 100 * 2**40 // 2**21
    tracemalloc.start()
    try:
        activemap = Activemap(nextents, keepdirty=64)
        for extent in range(0, nextents, nextents // 50):
            write(activemap, extent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("bit", [-1, 100])
def test_a_bit_outside_the_map_is_an_error(bit: int) -> None:
    with pytest.raises(IndexError):
        Bitmap(100).add(bit)


@given(st.sets(st.integers(0, 29)), st.integers(0, 29), st.integers(1, 30))
def test_a_range_of_bits_is_as_good_as_one_after_the_other(before: set[int], start: int, length: int) -> None:
    """Where two pages meet."""
    offset = PAGE_BITS - 15
    bits = range(offset + start, offset + min(start + length, 30))
    bitmap = Bitmap(offset + 30)
    for bit in before:
        bitmap.add(offset + bit)
    assert sorted(bitmap.add_range(bits)) == [bit for bit in bits if bit - offset not in before]
    assert set(bitmap) == set(bits) | {offset + bit for bit in before}
    assert len(bitmap) == len(set(bitmap))


def test_keepdirty_tells_which_extent_is_no_longer_recent() -> None:
    recent = KeepDirty(2)
    assert [recent.touch(extent) for extent in (1, 2, 1, 3)] == [None, None, None, 2]
    assert 1 in recent
    assert 2 not in recent
    with pytest.raises(ValueError, match="negative"):
        KeepDirty(-1)
