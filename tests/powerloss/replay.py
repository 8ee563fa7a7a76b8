"""Replays a journal and asks, after each entry: what if the power fails now, on one node or on both? Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hastfs.errors import MetadataError
from hastfs.model import SECTOR_SIZE, Consistency
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout
from tests.powerloss.application import Application
from tests.powerloss.journal import Entry, Journal, Mark
from tests.powerloss.medium import Contents, Medium
from tests.powerloss.promises import NODES, State, broken, metadata_of

_COPIES = {position // SECTOR_SIZE: position for position in (0, SECOND_COPY)}
_SMASHED = b"\xa5" * COPY_SIZE


@dataclass(frozen=True, slots=True)
class Moment:
    """The power fails after entry number `at`, and this is what may be on the two disks."""

    at: int
    stage: str
    whole: str
    components: tuple[bytes, bytes]


@dataclass(slots=True)
class Report:
    """What was looked at. `states` are of the pair; `heads` the different metadata and maps found in them."""

    states: int = 0
    subsets: int = 0
    heads: set[bytes] = field(default_factory=set)


class BrokenPromise(AssertionError):
    """Says where in the journal, and how."""


class Replay:
    """One journal; `samples` subsets of what was volatile are drawn at each place, from `seed`."""

    def __init__(self, journal: Journal, layout: Layout, sectors: int, *, samples: int, seed: int = 0) -> None:
        self._journal = journal
        self._layout = layout
        self._samples = samples
        self._chance = random.Random(seed)
        self._media = (Medium(journal.start[0]), Medium(journal.start[1]))
        self.application = Application(sectors)
        self._at = 0
        self._stage = {"stage": "", "whole": "", "alone": "", "behind": ""}
        self._began = 0
        self._alone = ""
        self._before: Contents | None = None
        self.report = Report()

    def moments(self, first: int = 0) -> Iterator[Moment]:
        """Every moment from entry `first` on, one after the other; `application` is what it was then."""
        for at, entry in enumerate(self._journal.entries):
            self._at = at
            if isinstance(entry, Mark):
                self._mark(entry)
            else:
                self._media[entry.node].replay(entry)
            if self._at >= first:
                yield from self._moments_now(entry)

    def _moments_now(self, entry: Entry) -> Iterator[Moment]:
        if not isinstance(entry, Mark):
            self._smash(entry.node)
        for components in self._possible():
            yield Moment(self._at, self._stage["stage"], self._stage["whole"], components)

    def _mark(self, entry: Mark) -> None:
        if "stage" in entry.what:
            self._stage, self._began, self._alone = entry.what, self._at, ""
            self._note_who_is_behind()
            return
        acknowledged = self.application.replay(self._at, entry.what)
        if acknowledged is not None and acknowledged.began > self._began:
            self._alone = self._stage["alone"]

    def _note_who_is_behind(self) -> None:
        """Its disk as it is at the first of the stages in which it is."""
        behind = self._stage["behind"]
        if not behind:
            self._before = None
        elif self._before is None:
            self._before = self._media[NODES.index(behind)].contents()

    def _is_half_a_copy(self, components: tuple[bytes, bytes], states: list[State]) -> bool:
        """Whether a disk in the middle of a resync claims to be consistent (promise 6)."""
        if self._before is None:
            return False
        node = NODES.index(self._stage["behind"])
        return (
            states[node].metadata.consistency is Consistency.CONSISTENT
            and not self._before.include(components[node], self._layout.localoff)
            and bool(self.application.wrong(states[node].data))
        )

    def _possible(self) -> Iterable[tuple[bytes, bytes]]:
        lost = [medium.nothing() for medium in self._media]
        alive = [medium.everything() for medium in self._media]
        yield lost[0], lost[1]
        volatile = [bool(medium.volatile) for medium in self._media]
        if not any(volatile):
            return
        yield alive[0], alive[1]
        if all(volatile):
            yield lost[0], alive[1]
            yield alive[0], lost[1]
        for _ in range(self._samples):
            self.report.subsets += 1
            one, other = (medium.some(self._chance) for medium in self._media)
            # Both, or one of the two; what is volatile on one that is alive is there for whoever looks.
            yield self._chance.choice(((one, other), (one, alive[1]), (alive[0], other)))

    def check(self, moment: Moment) -> None:
        """Raises BrokenPromise."""
        self.report.states += 1
        try:
            states = [State.of(component, self._layout) for component in moment.components]
        except MetadataError as error:
            raise self._broken(f"no metadata: {error}") from error
        found = broken((states[0], states[1]), self.application, moment.whole, self._alone)
        if found:
            raise self._broken(found)
        if self._is_half_a_copy(moment.components, states):
            raise self._broken(f"{self._stage['behind']} is in the middle of a resync and does not say so")
        for component in moment.components:
            self.report.heads.add(component[: self._layout.localoff])

    def _smash(self, node: int) -> None:
        """Worse than a torn write: a copy of the metadata that was being written is no metadata at all."""
        medium = self._media[node]
        volatile = [_COPIES[sector] for sector in medium.volatile if sector in _COPIES]
        if not volatile:
            return
        for state in (medium.nothing(), medium.everything()):
            block = bytearray(state[:METADATA_SIZE])
            for position in volatile:
                block[position : position + COPY_SIZE] = _SMASHED
            try:
                metadata_of(bytes(block))
            except MetadataError as error:
                raise self._broken(f"{NODES[node]}: no copy of the metadata is whole: {error}") from error

    def _broken(self, how: str) -> BrokenPromise:
        entry = self._journal.entries[self._at]
        words = repr(entry)
        return BrokenPromise(f"entry {self._at} ({self._stage['stage']}, {words[:100]}): {how}")
