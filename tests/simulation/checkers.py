"""What must be true of a pair: of both disks at every write to either of them, and of both nodes when all is quiet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hastfs.model import SECTOR_SIZE, Consistency
from hastfs.ondisk.layout import METADATA_SIZE
from tests.simulation.disk import SimulatedDisk
from tests.simulation.model import CELLS, EXTENT, Model, Violation, is_uniform, values_on
from tests.simulation.node import Node


class Coverage:
    """Promises 2 and 3: where the disks differ, or might after a power loss, a map that survives says so.

    That is looked at after each single write to a disk, whoever made it.
    """

    def __init__(self, model: Model, violated: Callable[[Violation], None]) -> None:
        self._model = model
        self._violated = violated
        self._nodes = model.nodes
        self.durable = True
        """Whether map updates survive a power loss (metaflush)."""
        for node in model.nodes:
            self.watch(node)

    def watch(self, node: Node) -> None:
        """Also again, when it has a new disk."""
        disk = node.disk

        def written(position: int, length: int) -> None:
            try:
                self._written(node, disk, position, length)
            except Violation as violation:
                self._violated(violation)  # raised here, it would leave whoever wrote without an answer

        disk.watch = written
        disk.flush_refused = partial(self._model.flush_refused, node)

    def _written(self, node: Node, disk: SimulatedDisk, position: int, length: int) -> None:
        base = disk.layout.localoff
        if position >= base:
            self._model.data_written(node)
            self.check(range((position - base) // EXTENT, (position + length - base - 1) // EXTENT + 1))
        elif position >= METADATA_SIZE:
            self.check(range(CELLS * SECTOR_SIZE // (2 * EXTENT)))
        else:
            self._model.state_written(node)

    def check(self, extents: range) -> None:
        """Those of them that no map has are equal on both, for good."""
        if self._model.unmet:
            return
        maps = int.from_bytes(self._map(0), "little") | int.from_bytes(self._map(1), "little")
        for extent in extents:
            if not maps >> extent & 1 and not self._is_equal(extent):
                raise Violation(f"extent {extent} differs, or may, and no map has it")

    def _map(self, number: int) -> bytes:
        disk = self._nodes[number].disk
        medium = disk.stable if self.durable else disk.content
        return bytes(medium[METADATA_SIZE : METADATA_SIZE + disk.layout.mapsize])

    def _is_equal(self, extent: int) -> bool:
        one, two = (node.disk for node in self._nodes)
        start = one.layout.localoff + extent * EXTENT
        at = slice(start, start + EXTENT)
        truth = one.stable[at]
        if not (truth == one.content[at] == two.stable[at] == two.content[at]):
            return False
        for disk in (one, two):
            for sector in range(at.start // SECTOR_SIZE, at.stop // SECTOR_SIZE):
                versions = disk.unflushed.get(sector, ())
                content = disk.content[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE]
                if any(version != content for version in versions):
                    return False
        return True


def are_strangers(node: Node) -> bool:
    """The nodes began to write before they ever met, each on its own: two pairs with one node each."""
    ours, theirs = node.disk.metadata, node.other.disk.metadata
    return bool(ours.resuid and theirs.resuid and ours.resuid != theirs.resuid)


def have_agreed(node: Node) -> bool:
    """The primary is in sync with the other node, and both have written that down."""
    primary = node.primary
    if primary is None or primary.link is None or primary.stale or primary.active or not primary.map.in_sync:
        return False
    if node.other.secondary is None:
        return False  # the primary does not know yet
    ours, theirs = node.disk.metadata, node.other.disk.metadata
    if node.other.version < 3:
        return (ours.localcnt, ours.remotecnt) == (theirs.remotecnt, theirs.localcnt)
    return ours.generations == theirs.generations and ours.consistency is theirs.consistency


def is_detached(node: Node) -> bool:
    """It is primary, and has parted with its component."""
    return node.primary is not None and node.primary.detached


def no_whole_copy(node: Node) -> bool:
    """Neither node has all: nobody there can say that all is well."""
    return Consistency.CONSISTENT not in (node.disk.metadata.consistency, node.other.disk.metadata.consistency)


def check_equal(model: Model, node: Node) -> None:
    """The nodes agreed and nothing is under way: their disks are the same, and hold what was written."""
    ours, theirs = values_on(node.disk), values_on(node.other.disk)
    different = [cell for cell in range(CELLS) if ours[cell] != theirs[cell]]
    if different or node.disk.data[: CELLS * 256] != node.other.disk.data[: CELLS * 256]:
        raise Violation(f"the nodes are in sync, and cells {different} differ")
    for one in model.nodes:
        model.check(one, range(CELLS), "in sync")
        if not is_uniform(one.disk):
            raise Violation(f"a cell of {one.name} is torn")
