"""Journals as engines with mistakes would have written them: do the checkers notice? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hastfs.model import Consistency, Generations
from hastfs.ondisk.layout import METADATA_SIZE, Layout
from hastfs.ondisk.metadata import Metadata, decode_copy, encode
from tests.powerloss.journal import Done, Entry, Flush, Journal, Mark, Write


@dataclass(frozen=True, slots=True)
class Mistake:
    """A journal with one mistake in it, to be noticed at one of the entries from `since` to `until`."""

    journal: Journal
    since: int
    until: int


def volatile_metadata(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """Metadata is written without waiting for the disk."""
    yield from _volatile(journal, lambda entry: entry.offset < METADATA_SIZE)


def volatile_map(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """The map is written without waiting for the disk."""
    yield from _volatile(journal, lambda entry: METADATA_SIZE <= entry.offset < layout.localoff)


def _volatile(journal: Journal, chosen: Callable[[Write], bool]) -> Iterator[Mistake]:
    entries: list[Entry] = [
        replace(entry, durable=False) if isinstance(entry, Write) and chosen(entry) else entry
        for entry in journal.entries
    ]
    yield Mistake(Journal(journal.start, entries), 0, len(entries))


def uncounted(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """Whoever writes alone does not write that down."""
    yield _with_metadata(journal, lambda metadata: replace(metadata, localcnt=0, generations=Generations()))


def unmarked(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """Nobody is ever in the middle of a resync."""
    yield _with_metadata(journal, lambda metadata: replace(metadata, consistency=Consistency.CONSISTENT))


def _with_metadata(journal: Journal, change: Callable[[Metadata], Metadata]) -> Mistake:
    entries: list[Entry] = [
        replace(entry, data=encode(change(decode_copy(entry.data))))
        if isinstance(entry, Write) and entry.offset < METADATA_SIZE
        else entry
        for entry in journal.entries
    ]
    return Mistake(Journal(journal.start, entries), 0, len(entries))


def map_after_data(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """A bit is set on disk only after the first write to its extent."""
    maps = [_bits(start[METADATA_SIZE : layout.localoff]) for start in journal.start]
    for at, entry in enumerate(journal.entries):
        if isinstance(entry, Write) and METADATA_SIZE <= entry.offset < layout.localoff:
            # The map is small: every writing of it is the whole of it.
            before, maps[entry.node] = maps[entry.node], _bits(entry.data)
            behind = _first_write_to(journal, layout, at, entry, maps[entry.node] & ~before)
            if behind is not None:
                yield Mistake(_moved(journal, entry, at, behind), at, behind)


def _bits(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _first_write_to(journal: Journal, layout: Layout, at: int, written: Write, extents: int) -> int | None:
    """Where the first write that relies on a writing of the map is done; None if it may change nothing (a discard)."""
    for place in range(at + 1, len(journal.entries)):
        entry = journal.entries[place]
        if isinstance(entry, Write) and entry.node == written.node and _extents_of(entry, layout) & extents:
            return journal.entries.index(Done(entry.node, entry.number), place) if any(entry.data) else None
    return None


def _extents_of(entry: Write, layout: Layout) -> int:
    """As bits."""
    if entry.offset < layout.localoff:
        return 0
    first = (entry.offset - layout.localoff) // layout.extentsize
    last = (entry.offset - layout.localoff + len(entry.data) - 1) // layout.extentsize
    return (1 << last + 1) - (1 << first)


def _moved(journal: Journal, entry: Write, at: int, behind: int) -> Journal:
    done = Done(entry.node, entry.number)
    rest = [other for other in journal.entries[at + 1 : behind + 1] if other != done]
    return Journal(journal.start, [*journal.entries[:at], *rest, entry, done, *journal.entries[behind + 1 :]])


def lost_flush(journal: Journal, layout: Layout) -> Iterator[Mistake]:
    """A flush is acknowledged that one of the nodes has not done."""
    asked: dict[int, int] = {}
    whole = ""
    for at, entry in enumerate(journal.entries):
        if not isinstance(entry, Mark):
            continue
        whole = entry.what.get("whole", whole)
        if "flush" in entry.what:
            asked[entry.what["flush"]] = at
        elif "flushed" in entry.what:
            since = asked.pop(entry.what["flushed"])
            for node in range(2):
                if "ab"[node] in whole:
                    yield Mistake(_without_flushes(journal, node, since, at), at, at)


def _without_flushes(journal: Journal, node: int, since: int, until: int) -> Journal:
    """The node's flushes in between are answered at once, and do nothing. (Places stay the same: marks instead.)"""
    flushes = {
        entry.number for entry in journal.entries[since:until] if isinstance(entry, Flush) and entry.node == node
    }
    nothing = Mark({})
    entries: list[Entry] = [
        nothing if isinstance(entry, (Flush, Done)) and entry.node == node and entry.number in flushes else entry
        for entry in journal.entries
    ]
    return Journal(journal.start, entries)
