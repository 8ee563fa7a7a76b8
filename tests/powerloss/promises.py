"""What must be so on the disks of a pair, whenever the power fails (docs/architecture.md, Promises). Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

from hastfs.errors import HastError
from hastfs.model import Consistency, SyncSource
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout
from hastfs.ondisk.metadata import Metadata, choose
from hastfs.protocol.verdict import Facts, decide
from tests.powerloss.application import Application

NODES = "ab"


@lru_cache(maxsize=65536)
def metadata_of(block: bytes) -> Metadata:
    """What the first METADATA_SIZE bytes of a component say. Raises MetadataError if neither copy is whole."""
    return choose(block[:COPY_SIZE], block[SECOND_COPY : SECOND_COPY + COPY_SIZE])[0]


@dataclass(frozen=True, slots=True)
class State:
    """One node's component after a power loss."""

    metadata: Metadata
    map: int
    data: bytes

    @classmethod
    def of(cls, component: bytes, layout: Layout) -> State:
        """Raises MetadataError."""
        return cls(
            metadata_of(component[:METADATA_SIZE]),
            int.from_bytes(component[METADATA_SIZE : layout.localoff], "little"),
            component[layout.localoff :],
        )


def differing_and_clean(one: State, other: State) -> list[int]:
    """The extents that differ though no map says so (promises 2 and 3)."""
    if one.data == other.data:
        return []
    size, maps = one.metadata.extentsize, one.map | other.map
    return [
        extent
        for extent in range(one.metadata.nextents)
        if not maps >> extent & 1
        and one.data[extent * size : (extent + 1) * size] != other.data[extent * size : (extent + 1) * size]
    ]


def may_be_primary(primary: Metadata, secondary: Metadata) -> bool:
    """Whether these two make a pair. A node that was never used founds one of its own, which a used one is not of."""
    return bool(primary.resuid) or not secondary.resuid


def sources(states: tuple[State, State]) -> set[int]:
    """Whose data counts if the nodes meet now, whichever of them is primary. Raises HastError if they refuse."""
    found = set()
    for number in range(2):
        primary, secondary = states[number].metadata, states[1 - number].metadata
        if may_be_primary(primary, secondary):
            verdict = decide(_as_primary(primary), _facts(secondary))
            found.add(number if verdict.source is SyncSource.PRIMARY else 1 - number)
    return found


def _as_primary(metadata: Metadata) -> Facts:
    facts = _facts(metadata)
    return dataclasses.replace(facts, resuid=facts.resuid or 1, virgin=metadata.virgin or facts.virgin)


def _facts(metadata: Metadata) -> Facts:
    return Facts(
        metadata.resuid,
        metadata.localcnt,
        metadata.remotecnt,
        not metadata.resuid,
        metadata.generations,
        metadata.consistency is Consistency.CONSISTENT,
    )


def on_record(writer: Metadata, other: Metadata) -> bool:
    """Whether the writer's metadata tells that it wrote alone (promise 4): by HAST's counters, and by generations."""
    theirs = other.generations
    known = (theirs.current, theirs.base, *theirs.history)
    return writer.localcnt > other.remotecnt and writer.generations.current not in known


def broken(states: tuple[State, State], application: Application, whole: str, alone: str) -> str:
    """Which promise this pair of disks breaks, in words; empty if none.

    `whole`: the nodes whose disk alone holds all that was flushed. `alone`: the node that acknowledged a change alone.
    """
    if clean := differing_and_clean(*states):
        return f"extents {clean} differ and are clean in both maps"
    for node in whole:
        if wrong := application.wrong(states[NODES.index(node)].data):
            return f"{node}: {wrong}"
    if alone:
        writer, other = states if alone == "a" else states[::-1]
        if not on_record(writer.metadata, other.metadata):
            return f"{alone} wrote alone, and {writer.metadata} does not say so to {other.metadata}"
    try:
        counting = sources(states)
    except HastError as error:
        return f"one history, and yet: {error} ({states[0].metadata}, {states[1].metadata})"
    for number in counting - {NODES.index(node) for node in whole}:
        if wrong := application.wrong(states[number].data):
            return f"{NODES[number]} is to be copied to the other node, and {wrong}"
    return ""
