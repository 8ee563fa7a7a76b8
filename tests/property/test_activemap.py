"""The activemap against a model of plain sets, through random histories that include crashes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.ahead import Ahead

NEXTENTS = 20
MAPSIZE = 512
AHEAD = 4
"""Extents that are marked at most around a write, or before a sequential writer."""

extents = st.integers(0, NEXTENTS - 1)


def as_set(ondisk: bytes) -> set[int]:
    return {extent for extent in range(NEXTENTS) if ondisk[extent // 8] & 1 << extent % 8}


class ActivemapModel(RuleBasedStateMachine):
    """`differs`: extents whose content may differ between the nodes, or be in a volatile cache of one of them."""

    marks_ahead = False

    def __init__(self) -> None:
        super().__init__()
        self.keepdirty = 3
        self.disk = bytes(MAPSIZE)
        self.map = self.new_map()
        self.writing: list[tuple[int, bytes]] = []  # pages on their way to the disk
        self.inflight: dict[int, int] = {}
        self.unflushed: dict[int, int] = {}  # extent -> number of the last complete write
        self.clock = 0
        self.life = 0
        self.out_of_sync: set[int] = set()

    def new_map(self) -> Activemap:
        ahead = Ahead(NEXTENTS, AHEAD, AHEAD) if self.marks_ahead else None
        return Activemap(NEXTENTS, self.keepdirty, self.disk, ahead=ahead)

    writes = Bundle("writes")
    flushes = Bundle("flushes")

    @rule(target=writes, first=extents, length=st.integers(0, 3))
    def begin(self, first: int, length: int) -> tuple[int, int, int]:
        last = min(first + length, NEXTENTS - 1)
        durable = self.map.begin_write(first, last)
        assert durable == self.map.is_durable(first, last)
        # Whoever may not go on has something to wait for.
        assert durable or self.map.must_write or self.map.is_being_written(first, last)
        for extent in range(first, last + 1):
            self.inflight[extent] = self.inflight.get(extent, 0) + 1
        return self.life, first, last

    @rule(write=consumes(writes), replicated=st.booleans())
    def end(self, write: tuple[int, int, int], replicated: bool) -> None:
        life, first, last = write
        if life != self.life:
            return  # it died with the process
        while not self.map.is_durable(first, last):
            self.writing = self.writing or self.map.changed_pages()
            self._finish_pages(fails=False)
        assert self.map.is_durable(first, last)
        self.map.end_write(first, last, replicated=replicated)
        self.clock += 1
        for extent in range(first, last + 1):
            self.inflight[extent] -= 1
            if replicated:
                self.unflushed[extent] = self.clock
            else:
                self.out_of_sync.add(extent)

    @rule(target=flushes)
    def flush(self) -> tuple[int, int, int]:
        return self.life, self.map.flush_begun(), self.clock

    @rule(token=consumes(flushes))
    def flushed(self, token: tuple[int, int, int]) -> None:
        life, epoch, clock = token
        if life == self.life:
            self.map.flush_done(epoch)
            self.unflushed = {extent: at for extent, at in self.unflushed.items() if at > clock}

    @rule()
    def clean(self) -> None:
        self.map.clean()

    @rule()
    def age(self) -> None:
        self.map.age()

    @rule()
    def clean_kept(self) -> None:
        self.map.clean_kept()

    @rule()
    @precondition(lambda self: not self.writing)
    def write_pages(self) -> None:
        self.writing = self.map.changed_pages()

    @rule(fails=st.booleans())
    def pages_done(self, fails: bool) -> None:
        coming = [extent for extent in range(NEXTENTS) if self.map.is_being_written(extent, extent)]
        needed = {extent for extent, count in self.inflight.items() if count}
        self._finish_pages(fails=fails)
        if not fails:
            assert all(self.map.is_durable(extent, extent) for extent in coming if extent in needed)

    def _finish_pages(self, *, fails: bool) -> None:
        if fails:
            self.map.pages_failed(self.writing)
        else:
            for number, page in self.writing:
                assert number == 0
                self.disk = page[:MAPSIZE]
            self.map.pages_written(self.writing)
        self.writing = []

    @rule()
    def link_lost(self) -> None:
        self.map.link_lost()
        self.out_of_sync |= set(self.unflushed)
        self.unflushed.clear()

    @rule()
    def resync_one(self) -> None:
        extent = self.map.next_out_of_sync(0)
        assert (extent is None) == (not self.out_of_sync)
        if extent is not None:
            assert extent == min(self.out_of_sync)
            self.map.copy_begun(extent)
            self.map.copied(extent)
            self.clock += 1
            self.out_of_sync.discard(extent)
            self.unflushed[extent] = self.clock

    @rule(remote=st.sets(extents))
    def merge(self, remote: set[int]) -> None:
        bits = sum(1 << extent for extent in remote)
        self.map.merge(bits.to_bytes(MAPSIZE, "little"))
        self.out_of_sync |= remote

    @rule()
    def crash(self) -> None:
        """What is on disk is all that is left; the pages on their way may or may not have got there."""
        self.life += 1
        self.map = self.new_map()
        self.out_of_sync = as_set(self.disk)
        self.inflight.clear()
        self.unflushed.clear()
        self.writing = []

    @invariant()
    def what_is_called_durable_is_on_disk_whatever_becomes_of_the_pages_on_their_way(self) -> None:
        durable = {extent for extent in range(NEXTENTS) if self.map.is_durable(extent, extent)}
        assert durable <= as_set(self.disk)
        for _, page in self.writing:
            assert durable <= as_set(page)

    @invariant()
    def every_possible_difference_stays_in_the_map(self) -> None:
        busy = {extent for extent, count in self.inflight.items() if count}
        needed = busy | set(self.unflushed) | self.out_of_sync
        assert needed <= as_set(self.map.to_bytes(MAPSIZE))

    @invariant()
    def nothing_is_out_of_sync_that_is_not(self) -> None:
        found = {extent for extent in range(NEXTENTS) if self.map.is_out_of_sync(extent, extent)}
        assert found == self.out_of_sync
        busy = {extent for extent, count in self.inflight.items() if count}
        assert self.map.pending() == len(found | busy)
        assert self.map.in_sync == (not found)

    @invariant()
    def no_bit_is_set_past_the_end(self) -> None:
        bits = int.from_bytes(self.map.to_bytes(MAPSIZE), "little")
        assert bits < 1 << NEXTENTS

    @invariant()
    def what_could_be_cleaned_is_nothing_that_is_needed(self) -> None:
        busy = sum(1 for count in self.inflight.values() if count)
        assert self.map.cleanable <= NEXTENTS - busy


class MarkingAheadModel(ActivemapModel):
    """The same, with extents marked that nobody writes to."""

    marks_ahead = True


TestActivemap = ActivemapModel.TestCase
TestMarkingAhead = MarkingAheadModel.TestCase
TestActivemap.settings = TestMarkingAhead.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
