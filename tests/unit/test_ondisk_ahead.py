"""Marking ahead: how often a map has to be written, and how much is marked for it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.ahead import Ahead

MIB = 1 << 20
EXTENT = 2 * MIB
GIB_100 = 100 * 1024 * MIB // EXTENT
KEEPDIRTY = 64
DEPTH = 32


class Disk:
    """A map, and writers to its extents, `DEPTH` at a time.

    An update of the map takes longer than any write, and the next one begins when it is over, with all who wait then.
    """

    def __init__(self, nextents: int) -> None:
        self.map = Activemap(nextents, KEEPDIRTY, ahead=Ahead(nextents))
        self.updates = 0
        self._pages: list[tuple[int, bytes]] = []
        self._joined: list[int] = []
        self._waiting: list[int] = []

    def write(self, extents: Iterator[int]) -> None:
        """One write to each of them."""
        ended = False
        while not ended:
            while not ended and len(self._joined) + len(self._waiting) < DEPTH:
                extent = next(extents, None)
                if extent is None:
                    ended = True
                elif self.map.begin_write(extent, extent):
                    self._end(extent)
                elif self.map.is_being_written(extent, extent):
                    self._joined.append(extent)
                else:
                    self._waiting.append(extent)
                    self._begin_update()
            self._end_update()
        while self._waiting or self._joined:
            self._end_update()

    def _begin_update(self) -> None:
        if not self._pages and self.map.must_write:
            self.updates += 1
            self._pages = self.map.changed_pages()
            self._joined, self._waiting = self._waiting, []

    def _end_update(self) -> None:
        self.map.pages_written(self._pages)
        self._pages = []
        for extent in self._joined:
            self._end(extent)
        self._joined = []
        self._begin_update()

    def _end(self, extent: int) -> None:
        assert self.map.is_durable(extent, extent)
        self.map.end_write(extent, extent, replicated=True)

    def look(self) -> None:
        """What the primary does every few seconds. Updates for which nobody waits are not counted."""
        self.map.flush_done(self.map.flush_begun())
        self.map.clean()
        self.map.age()
        while self.map.may_write:
            self.map.pages_written(self.map.changed_pages())

    @property
    def marked(self) -> int:
        """Extents that a crash would make the resync copy."""
        return sum(byte.bit_count() for byte in self.map.to_bytes((self.map.nextents + 7) // 8))


def at_random(count: int, nextents: int = GIB_100, seed: int = 1) -> Iterator[int]:
    chosen = random.Random(seed)
    return (chosen.randrange(nextents) for _ in range(count))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_1000_random_writes_over_100_gib_need_at_most_20_updates(seed: int) -> None:
    disk = Disk(GIB_100)
    disk.write(at_random(1000, seed=seed))
    assert disk.updates <= 20


def test_a_random_writer_is_not_slowed_down_by_cleaning() -> None:
    """A minute of it on a slow disk: 8,000 writes between two looks."""
    disk = Disk(GIB_100)
    disk.write(at_random(8000))
    first = disk.updates
    for look in range(12):
        disk.look()
        disk.write(at_random(8000, seed=look))
    assert disk.updates - first <= 12


@pytest.mark.parametrize("times", [1, 3], ids=["once", "again and again"])
def test_a_sequential_writer_needs_at_most_one_update_for_64_mib(times: int) -> None:
    """4 GiB in writes of 64 KiB, 500 MiB a second."""
    disk = Disk(GIB_100)
    written = 0
    for _ in range(times):
        for start in range(0, 2048, 1250):
            disk.write(extent for extent in range(start, min(start + 1250, 2048)) for _ in range(32))
            disk.look()
        written += 4096
    assert disk.updates <= written // 64


def test_several_sequential_writers_are_told_apart() -> None:
    disk = Disk(GIB_100)
    starts = [100, 9000, 20000, 41000]
    disk.write(start + step for step in range(512) for start in starts for _ in range(4))
    assert disk.updates <= len(starts) * 512 * EXTENT // (64 * MIB)


def test_a_few_writes_here_and_there_mark_little() -> None:
    disk = Disk(GIB_100)
    for round_ in range(20):
        disk.write(at_random(2, seed=round_))
        disk.look()
    assert disk.marked <= 2 * KEEPDIRTY


def test_what_was_marked_in_vain_is_cleaned_when_the_writer_rests() -> None:
    disk = Disk(GIB_100)
    disk.write(at_random(5000))
    assert disk.marked > GIB_100 // 2
    for _ in range(2):
        disk.look()
    assert disk.marked == KEEPDIRTY


def test_on_a_disk_that_is_too_large_for_it_only_so_much_is_marked() -> None:
    disk = Disk(100 * 1024 * GIB_100 // 100)
    disk.write(at_random(20_000, disk.map.nextents))
    assert disk.marked <= 20_000 + (1 << 16) + 256


def test_what_is_marked_ahead_does_not_show_as_dirty() -> None:
    disk = Disk(GIB_100)
    disk.write(at_random(1000))
    assert disk.marked > 10_000
    assert disk.map.pending() == 0
    disk.map.begin_write(5, 5)
    assert disk.map.pending() == 1


def test_what_is_marked_ahead_is_not_out_of_sync_when_the_link_is_lost() -> None:
    disk = Disk(GIB_100)
    disk.write(iter([0, 1]))
    assert disk.marked == 9
    disk.map.link_lost()
    assert disk.map.pending() == 2


def test_a_sequential_writer_s_steps_grow_to_128_mib() -> None:
    ahead = Ahead(GIB_100)
    assert [ahead.missed(extent) for extent in (7, 8, 16, 80)] == [
        range(7, 8),
        range(8, 16),
        range(16, 80),
        range(80, 144),
    ]


def test_groups_around_random_writes_are_aligned_and_grow_with_the_misses() -> None:
    ahead = Ahead(GIB_100)
    groups = [ahead.missed(extent) for extent in range(5000, 50_000, 333)]
    assert [len(group) for group in groups[:6]] == [1, 4, 8, 8, 16, 16]
    assert len(groups[-1]) == 256
    assert all(group.start % len(group) == 0 for group in groups)
    for _ in range(10):
        ahead.age()
    assert len(ahead.missed(4000)) == 1


def test_nothing_is_marked_past_the_end() -> None:
    ahead = Ahead(10, largest_group=8, largest_step=8)
    assert [ahead.missed(extent) for extent in (0, 5, 9)] == [range(1), range(4, 8), range(8, 10)]


def test_of_a_small_disk_only_a_small_share_is_marked() -> None:
    ahead = Ahead(512)
    assert max(len(ahead.missed(extent)) for extent in range(1, 512, 4)) == 2
    ahead = Ahead(512)
    assert max(len(ahead.missed(extent)) for extent in (0, 1, 9, 41)) == 32
    ahead = Ahead(511)
    assert max(len(ahead.missed(extent)) for extent in range(511)) == 1
