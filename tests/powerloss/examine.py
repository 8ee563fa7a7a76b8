"""Everything that can be asked of a recorded life without daemons."""

from __future__ import annotations

import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio

from hastfs.errors import HastError
from tests.kernel.node import RESOURCE
from tests.powerloss.application import Application
from tests.powerloss.journal import Journal
from tests.powerloss.life import LAYOUT, SECTORS
from tests.powerloss.mistakes import Mistake
from tests.powerloss.promises import NODES, State, may_be_primary
from tests.powerloss.replay import BrokenPromise, Moment, Replay
from tests.powerloss.restart import resynced, start_all


@dataclass(slots=True)
class Figures:
    """How much was looked at."""

    entries: int = 0
    states: int = 0
    subsets: int = 0
    starts: int = 0
    resyncs: int = 0

    def add(self, other: Figures) -> None:
        """Sums up."""
        self.entries += other.entries
        self.states += other.states
        self.subsets += other.subsets
        self.starts += other.starts
        self.resyncs += other.resyncs

    def __str__(self) -> str:
        return (
            f"{self.entries} entries, {self.states} states of the pair ({self.subsets} of them sampled subsets of what "
            f"was not flushed), {self.starts} different metadata and maps started on, {self.resyncs} resyncs"
        )


def examine(journal: Journal, *, samples: int, resyncs: int, seed: int = 0) -> Figures:
    """Replays the journal: every place, `samples` subsets at each; about `resyncs` of the states become a pair again,
    with either node as primary; a primary starts on every different metadata and map.

    Raises BrokenPromise; then the journal is kept in a file.
    """
    try:
        return _examine(journal, samples, resyncs, seed)
    except BrokenPromise as error:
        kept = Path(tempfile.gettempdir()) / f"hastfs-power-loss-{os.getpid()}.journal"
        journal.save(kept)
        again = f"python -m tests.powerloss.run --journal {kept} --samples {samples} --resyncs {resyncs} --seed {seed}"
        raise BrokenPromise(f"{error}\nExactly this again: {again}") from error


def _examine(journal: Journal, samples: int, resyncs: int, seed: int) -> Figures:
    replay = Replay(journal, LAYOUT, SECTORS, samples=samples, seed=seed)
    chance = random.Random(seed + 1)
    share = resyncs / (len(journal.entries) * (3 + samples))
    resynced_states = 0
    for moment in replay.moments():
        replay.check(moment)
        if chance.random() < share:
            resynced_states += _resync(moment, replay.application)
    report = replay.report
    return Figures(len(journal.entries), report.states, report.subsets, _start(replay), resynced_states)


def _start(replay: Replay) -> int:
    with tempfile.TemporaryDirectory() as folder:
        complaints = start_all(replay.report.heads, Path(folder) / "component", RESOURCE, LAYOUT)
    if complaints:
        raise BrokenPromise(f"a primary cannot start: {complaints[0]}")
    return len(replay.report.heads)


def _resync(moment: Moment, application: Application) -> int:
    states = [State.of(component, LAYOUT).metadata for component in moment.components]
    primaries = [node for node in range(2) if may_be_primary(states[node], states[1 - node])]
    for primary in primaries:
        where = f"after entry {moment.at} ({moment.stage}), with {NODES[primary]} as primary"
        try:
            ours, theirs = resynced(moment.components, LAYOUT, primary=primary)
        except* (HastError, trio.TooSlowError) as errors:
            raise BrokenPromise(f"{where}: no resync: {errors.exceptions}") from errors
        if ours != theirs:
            raise BrokenPromise(f"{where}: a resync leaves a difference")
        if wrong := application.wrong(ours):
            raise BrokenPromise(f"{where}: after a resync {wrong}")
    return len(primaries)


def is_noticed(mistake: Mistake) -> bool:
    """Whether a checker objects to one of the last places in which the mistake can be seen, without any sampling."""
    replay = Replay(mistake.journal, LAYOUT, SECTORS, samples=0)
    try:
        for moment in replay.moments(mistake.since):
            if moment.at > mistake.until:
                break
            replay.check(moment)
    except BrokenPromise:
        return True
    return False
