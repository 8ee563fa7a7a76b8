"""What each node's disk may hold, and who has written what the other node does not have: the checkers' knowledge.

The grain is a cell, half a sector, filled with one byte value (so that some writes are of half sectors). For each node
and cell there is the set of values that its disk may show, and the set of those that a power loss may leave:

- a write that begins may be there from then on; one that is acknowledged is there, with those that overlapped it,
- on the other node it is when the mode of replication says so (`Write.is_replicated`),
- a flush that is acknowledged leaves nothing older to a power loss, on both nodes if they were linked,
- a node that is brought up to date may show what the other one has, and has nothing else when that is over,
- from the moment when a primary parts with its component, the other node's disk alone is what counts: nothing is
  known of its own one, but that it may show whatever is written, until it is brought up to date.

An engine that claims less is wrong at the moment it claims it: `check` looks at the disk itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import trio

from hastfs.model import Consistency, Replication
from hastfs.ondisk.metadata import Metadata
from tests.simulation.disk import SimulatedDisk
from tests.simulation.fence import Program
from tests.simulation.lostcache import LostCache
from tests.simulation.node import Node

CELL = 256
"""Bytes; the model's grain, and half a sector: writes of half sectors are completed by the engine."""

EXTENT = 2048
CELLS = 96
SIZE = 4096 + 512 + CELLS * CELL + 100
"""Bytes of a component: 12 extents and an odd end."""

PER_EXTENT = EXTENT // CELL


class Violation(AssertionError):
    """A promise is broken."""


def values_on(disk: SimulatedDisk) -> bytes:
    """The value of each cell as reads see it."""
    start = disk.layout.localoff
    return bytes(disk.content[start : start + CELLS * CELL : CELL])


def is_uniform(disk: SimulatedDisk) -> bool:
    """Whether each cell is filled with one value: no write is of less than a cell, and no sector tears."""
    start = disk.layout.localoff
    content = disk.content[start : start + CELLS * CELL]
    return content == b"".join(bytes([value]) * CELL for value in values_on(disk))


class Copy:
    """What one node's disk may hold, by cell: `now`, and `stable`: after a power loss."""

    def __init__(self, values: Iterable[int]) -> None:
        self.now = [{value} for value in values]
        self.stable = [set(values) for values in self.now]

    def add(self, cell: int, values: set[int]) -> None:
        """These may be there, too."""
        self.now[cell] |= values
        self.stable[cell] |= values

    def settle(self, cell: int, values: set[int]) -> None:
        """One of these is there, though what was there before may still be all that survives."""
        self.now[cell] = set(values)
        self.stable[cell] |= values

    def settle_durably(self, cell: int, values: set[int]) -> None:
        """One of these is there, and survives."""
        self.now[cell] = set(values)
        self.stable[cell] = set(values)


class Request:
    """Something an application asked of the primary `node`, and has not heard of. `link`: the one it may go over."""

    backed = False
    """Whether the other node could do it just as well if the disk here fails, or has to anyway."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.restart()

    def restart(self) -> None:
        """It is asked now: for the first time, or of a new worker since the last one died."""
        primary = self.node.primary
        assert primary is not None
        self.primary = primary
        self.since = trio.current_time()
        self.link = primary.link
        self.connects = primary.telemetry.connects
        self.stale = primary.stale
        self.errors = self._errors()
        self.ways = self._ways()

    def _errors(self) -> tuple[int, int]:
        node, other = self.node, self.node.other
        assert node.out is not None
        assert other.out is not None
        return node.disk.errors, other.disk.errors + other.deaths + node.out.lies + other.out.lies

    def _ways(self) -> tuple[int, float]:
        out, back = self.node.out, self.node.other.out
        assert out is not None
        assert back is not None
        return out.changes + back.changes, out.delay + back.delay

    @property
    def kept_link(self) -> bool:
        """Whether it went over one link, from its begin until now."""
        return self.link is not None and self.link is self.primary.link

    @property
    def disks_were_well(self) -> tuple[bool, bool]:
        """Whether the disk here, and the one there, did all that was asked since it began, and kept it.

        The one here may have refused an update of the map just before, which the request joined before that was known.
        The one there may also have been asked for something that makes no sense, or lied.
        """
        here, there = self._errors()
        joined = self.node.disk.update_refused_at == self.since
        return here == self.errors[0] and not joined, there == self.errors[1]

    @property
    def round_trip(self) -> float:
        """Seconds that an answer of the other node takes at least, as far as known."""
        changes, delay = self.ways
        return delay if changes == self._ways()[0] else 0.0


class Write(Request):
    """A write, or (value 0) a discard."""

    def __init__(self, node: Node, first: int, count: int, value: int) -> None:
        super().__init__(node)
        self.cells = range(first, first + count)
        self.value = value
        self.overlapped: dict[int, set[int]] = {cell: set() for cell in self.cells}
        self.shared = self.link is not None
        """Whether the other node may get to see it."""
        self.modes = {node.config.replication}
        """In which it may be acknowledged."""

    @property
    def waits_for_nobody(self) -> bool:
        """Whether it may be acknowledged without a word of the other node."""
        return Replication.ASYNC in self.modes and not self._stays_stale

    def is_replicated(self) -> bool:
        """Whether the other node must have it on its disk if it is acknowledged now."""
        if self.primary.detached:
            return self.disks_were_well[1]
        whole = self.kept_link and self.disks_were_well[1]
        return whole and (self._stays_stale or self.modes == {Replication.FULLSYNC})

    @property
    def _stays_stale(self) -> bool:
        """The other node has had the good copy all the time."""
        return self.stale and self.primary.stale


class Flush(Request):
    """A flush. `busy`: the cells that were being written when it began; `number`: the writes begun before it; `reads`:
    those answered before it (LostCache)."""

    def __init__(self, node: Node, number: int, reads: int, busy: set[int]) -> None:
        super().__init__(node)
        self.number = number
        self.reads = reads
        self.busy = busy

    def restart(self) -> None:
        super().restart()
        self.out_of_sync = _out_of_sync(self.primary)


class Read(Request):
    """A read. `allowed`: what may be found, by cell; `number`: the writes begun before it."""

    def __init__(self, node: Node, first: int, count: int, number: int, allowed: list[set[int]]) -> None:
        super().__init__(node)
        self.first = first
        self.count = count
        self.number = number
        self.allowed = allowed


def _mishaps(node: Node) -> int:
    """How often the node's disk refused something, or somebody lied on its way there or back."""
    assert node.out is not None
    assert node.other.out is not None
    return node.disk.errors + node.out.lies + node.other.out.lies


def _out_of_sync(primary: Any) -> set[int]:
    """Extents that the engine knows to differ."""
    found, at = set(), primary.map.next_out_of_sync(0)
    while at is not None:
        found.add(at)
        at = primary.map.next_out_of_sync(at + 1)
    return found


class Model:
    """What is known of a pair."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.nodes = nodes
        self.programs: dict[str, Program] = {}
        """The nodes' fence programs."""
        self.leaving = ""
        """The node that ends being primary in order."""
        self.left_held = False
        """Whether it was held meanwhile, though a link may be back: what it was asked for may get errors."""
        self.copies = {node.name: Copy(values_on(node.disk)) for node in nodes}
        self.writes: list[Write] = []
        self.number = 0
        """Of writes begun."""
        self.touched = [0] * CELLS
        """By cell, the number of the last write that was begun."""
        self.wrote = {node.name: False for node in nodes}
        """Anything at all since the nodes last agreed, acknowledged or not."""
        self.alone = {node.name: False for node in nodes}
        """Acknowledged something without the other node, which surely does not have it."""
        self.target: dict[str, Any] = {node.name: None for node in nodes}
        """The link over which the node is being brought up to date."""
        self.done: dict[str, Any] = {node.name: None for node in nodes}
        """The link over which it was, when that was lost already: more may come that was on the way."""
        self.half = {node.name: False for node in nodes}
        """Got some of what the other node has, and not all."""
        self.unmet = False
        """One of them was made anew, and no map says yet that all is to be copied to it."""
        self.under_way: dict[str, set[int]] = {node.name: set() for node in nodes}
        """Cells that the node has acknowledged before the other one had them."""
        self.mishaps = {node.name: -1 for node in nodes}
        """What had gone wrong with the node until the nodes last agreed."""
        self.lost_cache = {node.name: LostCache() for node in nodes}
        """Of the other node, as the applications of this one see it."""
        self.lost_power_while_parting = {node.name: False for node in nodes}
        """The other node, after this one had begun to part with its component, and before that was done."""
        self.replaced: dict[str, Any] = {}
        """By node, the worker that died, as long as its successor is to come."""
        self.boots = {node.name: 0 for node in nodes}
        """Of the other node, when this one was last linked to it."""
        self.counted = {node.name: 0 for node in nodes}
        """How often the node has it on record that it wrote alone."""
        self.deaths = {node.name: 0 for node in nodes}
        """Of each node, when one was last made anew."""
        self.give_up: Callable[[], object] = lambda: None
        """Is called when nothing is promised any more.

        That is so with an old secondary that was made anew, if the primary died after it had told it who it is (step
        3), and before it heard (step 4) that all is to be copied: an old node does not say so twice.
        """

    # -- requests --------------------------------------------------------------------------------------------------

    def begin(self, write: Write) -> None:
        """An application writes."""
        self.number += 1
        for other in self.writes:
            if other.node is write.node:
                for cell in write.cells:
                    if cell in other.overlapped:
                        write.overlapped[cell].add(other.value)
                        other.overlapped[cell].add(write.value)
        for cell in write.cells:
            self.touched[cell] = self.number
        if not write.primary.detached:
            self.wrote[write.node.name] = True
        self.writes.append(write)

    def ended(self, write: Write, error: int) -> None:
        """It is answered; any error: it may have been done, or not."""
        self.writes.remove(write)
        node, other, detached = write.node, write.node.other, write.primary.detached
        here, there = self.copies[node.name], self.copies[other.name]
        if not error:
            self.check_allowed(write)
        is_here, is_there = not error and not detached, not error and write.is_replicated()
        for cell in write.cells:
            values = {write.value} | write.overlapped[cell]
            if is_here:
                here.settle(cell, values)
            else:
                here.add(cell, {write.value})
            if is_there:
                there.settle(cell, values)
            elif write.shared:
                there.add(cell, values)
        if is_here:
            self.check(node, write.cells, "an acknowledged write is not there")
        if is_there:
            self.check(other, write.cells, "a write was acknowledged before the other node had it")
        elif not error and write.modes != {Replication.FULLSYNC}:
            self.under_way[node.name].update(write.cells)
        if not error:
            self.lost_cache[node.name].acknowledged(write.cells)
        if not error and detached:
            self.alone[other.name] = True
        elif not error and write.primary.link is None:
            self.alone[node.name] = True
            self._check_record(node)

    def _check_record(self, node: Node) -> None:
        """Promise 4. (Which of the two is ahead, the verdict of the next connect shows.)"""
        disk = node.disk
        recorded = (disk.stable_metadata if node.config.metaflush else disk.metadata).generations.current
        other = node.other.disk.metadata
        if recorded == other.generations.current and other.consistency is Consistency.CONSISTENT:
            raise Violation(f"{node.name} acknowledged a write alone, and that is not on record")

    def lost(self, write: Write) -> None:
        """Nobody will answer it any more."""
        self.ended(write, 1)

    def flushed(self, flush: Flush) -> None:
        """A flush succeeded: all that was acknowledged before it survives, wherever it was linked to."""
        node, other, detached = flush.node, flush.node.other, flush.primary.detached
        source, target = (other, node) if flush.stale or detached else (node, other)
        quiet = [cell for cell in range(CELLS) if cell not in flush.busy and self.touched[cell] <= flush.number]
        self.check_allowed(flush)
        self._forget_what_is_here(flush.primary, node)
        link = flush.link if flush.kept_link else None
        gone = self.lost_cache[node.name].flushed(quiet, flush.number, flush.reads, link)
        if gone:
            raise Violation(f"a flush was acknowledged, cells {gone} were lost with the cache of {other.name}")
        if flush.stale and not flush.kept_link:
            return
        self.check(source, range(CELLS), "before a flush")
        truth = self.copies[source.name]
        for cell in quiet:
            truth.settle_durably(cell, truth.now[cell])
        self.check_survivors(source, quiet, "a flush was acknowledged too early")
        if not flush.kept_link or not flush.disks_were_well[1] or self.unmet or detached:
            return
        behind = flush.out_of_sync | _out_of_sync(flush.primary)
        equal = [cell for cell in quiet if cell // PER_EXTENT not in behind]
        copy = self.copies[target.name]
        for cell in equal:
            copy.settle_durably(cell, truth.now[cell])
        self.check_survivors(target, equal, "a flush was acknowledged before the other node had flushed")
        if target.version >= 3 and target.disk.stable_metadata.consistency is Consistency.CONSISTENT:
            found = target.disk
            for cell in quiet:
                if not found.survivors(found.layout.localoff + cell * CELL) <= truth.now[cell]:
                    raise Violation(
                        f"a flush was acknowledged, cell {cell} is not on {target.name}, which calls itself consistent"
                    )

    # -- what is where ---------------------------------------------------------------------------------------------

    def may_be(self, node: Node, cell: int) -> set[int]:
        """All values that a read of the cell may find on that node now."""
        values = set(self.copies[node.name].now[cell])
        for write in self.writes:
            if cell in write.overlapped and (write.node is node or write.shared):
                values.add(write.value)
        return values

    def readable(self, node: Node, cell: int) -> set[int]:
        """All values that the primary `node` may answer a read of the cell with.

        One that is being brought up to date and has the cell already, answers from its own disk: with what the other
        node had. As long as it does not know that the link is lost, that may be more than a loss of power left there.
        """
        primary = node.primary
        begun = {write.value for write in self.writes if write.node is node and cell in write.overlapped}
        if primary is None or not primary.stale:
            return self.may_be(node, cell) | begun
        values = self.may_be(node.other, cell) | begun
        if not primary.detached and cell // PER_EXTENT not in _out_of_sync(primary):
            values |= self.lost_cache[node.name].seen(cell, primary.link)
        return values

    def check(self, node: Node, cells: Iterable[int], what: str) -> None:
        """The disk shows what it may."""
        found, now = values_on(node.disk), self.copies[node.name].now
        for cell in cells:
            if found[cell] not in now[cell] and found[cell] not in self.may_be(node, cell):
                allowed = self.may_be(node, cell)
                raise Violation(f"{what}: cell {cell} of {node.name} holds {found[cell]}, not {allowed}")

    def check_survivors(self, node: Node, cells: Iterable[int], what: str) -> None:
        """Nor does it after a power loss, at whatever instant."""
        start = node.disk.layout.localoff
        for cell in cells:
            found = node.disk.survivors(start + cell * CELL)
            if not found <= self.copies[node.name].stable[cell] and not found <= self._may_survive(node, cell):
                raise Violation(
                    f"{what}: cell {cell} of {node.name} may hold {found} after a power loss, "
                    f"not only {self._may_survive(node, cell)}"
                )

    def _may_survive(self, node: Node, cell: int) -> set[int]:
        return self.copies[node.name].stable[cell] | self.may_be(node, cell)

    def was_read(self, read: Read, values: Mapping[int, int]) -> None:
        """By cell, what was found where nobody wrote meanwhile. An old node does not say that it was started anew."""
        if read.primary.stale and read.node.version >= 3:
            seen = {cell: (value, self.touched[cell]) for cell, value in values.items()}
            self.lost_cache[read.node.name].shown(seen, read.primary.link or read.link)

    # -- what happens to nodes -------------------------------------------------------------------------------------

    def check_allowed(self, request: Request) -> None:
        """It succeeded. Without the other node, nothing does before that is fenced.

        What was begun with a link may be answered after it is lost, if the mode does not wait for the other node.
        """
        node = request.node
        if node.config.fence is None or node.config.remote is None or request.primary.link is not None:
            return
        never = request.link is None and request.primary.telemetry.connects == request.connects
        waits = not isinstance(request, Read) and not (
            isinstance(request, Write) and request.modes != {Replication.FULLSYNC}
        )
        if (never or waits) and not (request.primary.stale or self.programs[node.name].allowed):
            raise Violation(
                f"{node.name} goes on without the other node, which is not fenced: {type(request).__name__}"
            )

    def linked(self, node: Node) -> None:
        """The primary `node` is connected: one of the two is brought up to date from the other."""
        primary = node.engine
        if self.programs:
            self.programs[node.name].linked()
        assert primary is not None
        source, target = (node.other, node) if primary.stale else (node, node.other)
        self._forget_what_is_here(primary, node)
        self.boots[node.name] = node.other.disk.boots
        if self.unmet and node.version < 3 and node.deaths != self.deaths[node.name]:
            self.give_up()
            return
        # What is not secondary any more cannot be told or asked anything: its word was on the way for a while.
        if self.alone[target.name] and node.other.secondary is not None:
            raise Violation(f"{target.name} wrote alone, and is to be overwritten by {source.name}")
        for write in self.writes:
            if write.node is node:
                write.shared = True
        if primary.detached:
            return
        self.unmet = self.unmet and not target.disk.metadata.resuid  # it may be the answer of the one before
        truth, copy = self.copies[source.name], self.copies[target.name]
        for cell in range(CELLS):
            copy.add(cell, truth.now[cell])
        self.target[source.name] = None
        behind = not primary.map.in_sync or self.half[target.name]
        self.target[target.name] = primary.link if behind else None

    def is_half_met(self) -> bool:
        """An old node that was made anew knows who it is (step 3), and whoever told it died.

        Nobody says any more that all is to be copied, and their counters, of which one began anew, say anything.
        """
        names = {node.disk.metadata.resuid for node in self.nodes}
        died = any(node.deaths != self.deaths[node.name] for node in self.nodes)
        return self.unmet and died and self.nodes[0].version < 3 and len(names) == 1 and 0 not in names

    def is_backed(self, node: Node) -> bool:
        """Whether the other node, well and still linked, can do alone what is asked of the primary `node` now."""
        primary, other = node.primary, node.other
        if primary is None or primary.link is None or node.version < 3:
            return False
        if primary.stale:
            return True
        # A write that began on another link may turn out to be here only.
        late = any(write.node is node and write.link is not primary.link for write in self.writes)
        whole = primary.map.in_sync and other.disk.consistent and _mishaps(other) == self.mishaps[other.name]
        return whole and not late

    def detached(self, node: Node) -> None:
        """The primary parts with its component: the other node has all that was ever acknowledged, and counts alone."""
        other, loose = node.other, self.under_way[node.name]
        here, there = self.copies[node.name], self.copies[other.name]
        if self.lost_power_while_parting[node.name]:
            self.lost_power_while_parting[node.name] = False
            self._cache_is_gone(node, here.now)
        else:
            for cell in range(CELLS):
                if cell not in loose:
                    there.settle(cell, here.now[cell] & there.now[cell])
        self.check(other, set(range(CELLS)) - loose, "a component was given up that has what the other one lacks")
        self.target[node.name] = self.target[other.name] = None
        self.half[other.name] = False
        self._has_less(node)

    def attached(self, node: Node) -> None:
        """What the primary parted with may be used again, once it is brought up to date."""
        self._has_less(node)

    def _has_less(self, node: Node) -> None:
        # One that could not be marked looks complete.
        self.half[node.name] = not node.disk.consistent
        self.wrote[node.other.name] = True

    def data_written(self, node: Node) -> None:
        """Something was written to the data of a node."""
        follows = node.engine is None or node.engine.stale
        link = self.target[node.name]
        if follows and link is not None and link is not self.done[node.name]:
            self.half[node.name] = True

    def state_written(self, node: Node) -> None:
        """The metadata of a node was written: if it calls itself consistent, it has to be."""
        self._recorded(node)
        link = self.target[node.name]
        if link is None or not node.disk.consistent or (node.version < 3 and node.engine is None):
            return  # an old secondary is never told what it is
        primary = node.engine or node.other.engine
        # The primary may not have noticed that its source is not what it was: its own copy is the better one.
        ended = node.engine is not None and self._lost_power_since_linked(node.other)
        same = primary is not None and primary.link is link and not ended
        if same and not self.unmet:
            self.caught_up(node)
        elif not same:
            self.was_caught_up(node)

    def state_survived(self, node: Node, before: Metadata) -> None:
        """A power loss came while the metadata was written, and the new one is what is there."""
        self._recorded(node)
        if node.disk.consistent and before.consistency is Consistency.INCONSISTENT:
            self.was_caught_up(node)

    def _recorded(self, node: Node) -> None:
        """A node that has it on record that nobody is behind it, though somebody was, has agreed with the other one.

        One that has it on record that it wrote alone, may have done so, or is a primary's only copy.
        """
        counted, self.counted[node.name] = self.counted[node.name], node.disk.metadata.localcnt
        if node.disk.metadata.localcnt > counted:
            self.wrote[node.name] = True
        if self.target[node.other.name] is not None and not node.disk.metadata.generations.base:
            self.was_caught_up(node.other)

    def was_caught_up(self, target: Node) -> None:
        """The node had all that the other one had when the link was lost. What that one has now, is another matter."""
        self.half[target.name] = self.alone[target.other.name] = False
        self.done[target.name] = self.target[target.name]

    def caught_up(self, target: Node) -> None:
        """The node has all that the other one had when that was said, which may be a while ago."""
        truth, copy = self.copies[target.other.name], self.copies[target.name]
        for cell in range(CELLS):
            copy.settle_durably(cell, truth.stable[cell] | truth.now[cell])
        self.check(target, range(CELLS), "called equal")
        self.check_survivors(target, range(CELLS), "called equal")
        self.target[target.name] = None
        self.half[target.name] = self.alone[target.other.name] = False
        for node in self.nodes:
            self.wrote[node.name] = self._may_lack_partner(node)

    def _may_lack_partner(self, node: Node) -> bool:
        """Whether something is under way that the other node may never get."""
        unproven = node.engine is not None and node.engine.map.unproven
        return unproven or any(write.node is node for write in self.writes)

    def agreed(self) -> None:
        """The nodes are the same, but for what is being written."""
        for node in self.nodes:
            self.alone[node.name] = self.half[node.name] = False
            self.target[node.name] = None
            self.under_way[node.name].clear()
            self.mishaps[node.name] = _mishaps(node)
            self.lost_power_while_parting[node.name] = False
            self.wrote[node.name] = self._may_lack_partner(node)

    def lost_power(self, node: Node) -> None:
        """What is on the disk is what survived."""
        copy = self.copies[node.name]
        before = copy.now
        copy.now = [set(values) for values in copy.stable]
        self.check(node, range(CELLS), "after a power loss")
        self.observe(node)
        primary = node.other.engine or self.replaced.get(node.other.name)
        if primary is None or not (primary.stale or primary.detaching):
            return
        self.lost_power_while_parting[node.other.name] = primary.detaching and not primary.detached
        self._may_lose_cache(node, primary.link)
        if primary.stale:
            self.lost_cache[node.other.name].unnoticed(before, primary.link)
            self._cache_is_gone(node.other, before)

    def _may_lose_cache(self, node: Node, link: object) -> None:
        """What only the node's cache has is gone, or it may be; the other one, primary, is linked to it by `link`."""
        cache = self.lost_cache[node.other.name]
        if cache.is_at_risk or any(write.node is node.other for write in self.writes):
            cache.happened(link)

    def flush_refused(self, node: Node) -> None:
        """The node's disk could not flush: if the only good copy is there, it is not enough that the engine knows."""
        primary = node.other.engine
        if primary is not None and primary.stale:
            self._may_lose_cache(node, primary.link)

    def _cache_is_gone(self, node: Node, before: list[set[int]]) -> None:
        """The other node lost power, and its copy alone counts for the applications of `node`.

        Lost is what was acknowledged to them, and is none of the values that it may have had `before`, nor being
        written. (That nothing is lost that was flushed, the check after a loss of power says.)
        """
        cache, found = self.lost_cache[node.name], values_on(node.other.disk)
        begun = {cell: set[int]() for cell in cache.unflushed}
        for write in self.writes:
            if write.node is node:
                for cell in begun.keys() & write.overlapped:
                    begun[cell].add(write.value)
        gone = [cell for cell in begun if found[cell] not in before[cell] | begun[cell]]
        cache.gone({cell: self.touched[cell] for cell in gone})
        cache.holds(found, self.touched)

    def _forget_what_is_here(self, primary: Any, node: Node) -> None:
        """The primary has caught up although the other node lost power before it was told of that."""
        if not primary.stale and self._lost_power_since_linked(node.other):
            self.lost_cache[node.name].is_here()

    def _lost_power_since_linked(self, node: Node) -> bool:
        """Since the other one, the primary, was last linked to it."""
        return node.disk.boots != self.boots[node.other.name]

    def told_of_lost_cache(self, node: Node) -> bool:
        """A flush on `node` failed, nothing else explains it: whether it tells that the other node lost its cache."""
        cache = self.lost_cache[node.name]
        told, cache.may_tell = cache.may_tell, False
        return told

    def unlinked(self, node: Node) -> None:
        """The primary `node` is not connected any more. An old node does not say whether it lost its cache since."""
        primary, cache = node.engine, self.lost_cache[node.name]
        self.left_held = self.left_held or self.is_left_held(node)
        if primary is not None and primary.stale and node.version < 3 and cache.is_at_risk:
            cache.happened(None)

    def leaves(self, node: Node) -> None:
        """It begins to end being primary, in order."""
        self.leaving, self.left_held = node.name, node.fencing.held

    def is_left_held(self, node: Node) -> bool:
        """Whether its role is being left, and nobody waits for the other node to be fenced."""
        return node.name == self.leaving and (self.left_held or node.fencing.held)

    def observe(self, node: Node) -> None:
        """Nothing is being written: what may be there is what is there."""
        copy = self.copies[node.name]
        for cell, value in enumerate(values_on(node.disk)):
            copy.now[cell] = {value}
            copy.stable[cell] = node.disk.survivors(node.disk.layout.localoff + cell * CELL)

    def forced(self, node: Node) -> None:
        """Half of a copy is to be primary by force: that begins a history of its own."""
        for name in self.wrote:
            self.wrote[name] = True
        self.half[node.name] = False

    def applications_begin(self, node: Node) -> None:
        """Nobody who is to use it from now on has asked it for anything yet."""
        self.lost_cache[node.name] = LostCache()
        self.lost_power_while_parting[node.name] = False

    def promoted(self, node: Node) -> None:
        """The node is primary now, with its own data or (stale) with that of the other one."""
        primary = node.primary
        assert primary is not None
        if primary.stale:
            return
        self.target[node.name] = None
        if self.half[node.name] and node.version >= 3:
            raise Violation(f"{node.name} is in the middle of a resync, and serves")
        self.check(node, range(CELLS), "a node became primary")
        if not any(write.node is node for write in self.writes) and primary.link is None:
            self.observe(node)

    def made_anew(self, node: Node) -> None:
        """hastctl create: it has nothing."""
        self.copies[node.name] = Copy(values_on(node.disk))
        self.wrote[node.name] = self.alone[node.name] = self.half[node.name] = False
        self.target[node.name] = None
        self.unmet = True
        self.deaths = {one.name: one.deaths for one in self.nodes}
