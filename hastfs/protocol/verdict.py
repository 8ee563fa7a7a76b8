"""What a connect decides: whose data counts, and how much of it has to be copied (design, promise 5).

HAST's counters. `localcnt` counts the times a node began to write alone, `remotecnt` is what it knows of the other's.
A sync that ends sets the primary's two to the secondary's two, crosswise. As long as every stint alone raises
`localcnt` (the original forgets to after a restart), S.localcnt > P.remotecnt says exactly that S wrote alone since
then, and the other way round; if both did, it is a split brain. One crash makes them accuse an innocent: between the
secondary's and the primary's commit at the end of a sync.

Generations (ours, version 3). Every stint alone draws a new `current`, so "Y has all that X ever acknowledged" is the
same as "X.current is in Y's line" (its current, base or history). They absolve after that crash, and they notice a
component that was put back from a copy. P is the primary, S the secondary, X the one and Y the other way round:

| generations                                                      | verdict                                   |
| ---------------------------------------------------------------- | ----------------------------------------- |
| one side's unknown or current 0                                  | the counters' (table at `_by_counters`)   |
| P.current = S.current                                            | dirty extents from P (*)                  |
| Y.current = X.base                                               | dirty extents from X                      |
| Y.base = 0, Y.history[0] = X.base, Y.localcnt = X.remotecnt (**) | dirty extents from X                      |
| Y.current in X.history                                           | everything from X                         |
| X.base unrecorded and Y.base = 0 (***)                           | the counters', if they say from X         |
| none of these, or one of the last four in both directions        | split brain                               |

(*) From S if P is inconsistent and S is not. (**) Y committed the end of a sync from X and did not write since; X
crashed before it committed, and wrote on alone, maybe in so many stints that Y.current fell out of its history.
(***) X's data was the original's, without a generation, until X wrote alone; Y, of a generation unknown to X, did not.

Before all that: a secondary that was never used takes what the primary has, a primary that was never used what the
secondary has, and different pairs refuse each other. After it: data in the middle of a resync is
never copied anywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hastfs.errors import HastError
from hastfs.model import UNRECORDED, Consistency, Generations, SyncSource
from hastfs.protocol.handshake import SPLIT_BRAIN, Joining, resuid_mismatch


class SplitBrain(HastError):
    """Both nodes wrote alone: neither may overwrite the other."""

    def __init__(self, message: str = SPLIT_BRAIN) -> None:
        super().__init__(message)


class ResuidMismatch(HastError):
    """The nodes belong to different pairs."""

    def __init__(self, primary: int, secondary: int) -> None:
        super().__init__(resuid_mismatch(primary, secondary))


class InconsistentSource(HastError):
    """The data to copy from is in the middle of a resync (promise 6); forced to be primary, a node is so no more."""


class Scope(enum.Enum):
    """What has to be copied."""

    NOTHING = "nothing"
    """Nothing but what the maps say, which should be nothing on the secondary's part."""

    DIRTY = "dirty"
    """The extents dirty in either map."""

    EVERYTHING = "everything"
    """All extents."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one node knows of itself. `virgin`: no write was ever made to it (of a secondary: its resuid was 0).
    `generations` None: the original's, or version 3 was not negotiated. `consistent`: not in the middle of a resync."""

    resuid: int
    localcnt: int
    remotecnt: int
    virgin: bool
    generations: Generations | None
    consistent: bool


def facts_of_primary(joining: Joining, *, versioned: bool) -> Facts:
    """What a primary says of itself in step 3. `versioned`: version 3 was negotiated."""
    return Facts(
        joining.resuid,
        joining.localcnt,
        joining.remotecnt,
        joining.virgin,
        joining.generations if versioned else None,
        joining.consistency is Consistency.CONSISTENT,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whose data is copied to the other node, and how much of it."""

    source: SyncSource
    scope: Scope


def decide(primary: Facts, secondary: Facts) -> Verdict:
    """The verdict, or SplitBrain, ResuidMismatch, InconsistentSource."""
    if not secondary.resuid:
        verdict = Verdict(SyncSource.PRIMARY, Scope.NOTHING if primary.virgin else Scope.EVERYTHING)
    elif not primary.resuid:
        verdict = Verdict(SyncSource.SECONDARY, Scope.EVERYTHING)
    elif primary.resuid != secondary.resuid:
        raise ResuidMismatch(primary.resuid, secondary.resuid)
    else:
        verdict = _between_partners(primary, secondary)
    source = primary if verdict.source is SyncSource.PRIMARY else secondary
    if not source.consistent:
        raise InconsistentSource(
            f"The {verdict.source.name.lower()} has what the other node lacks, but is in the middle of a resync: "
            "its data must not be copied."
        )
    return verdict


def _between_partners(primary: Facts, secondary: Facts) -> Verdict:
    """The verdict for two nodes of one pair."""
    ours, theirs = primary.generations, secondary.generations
    if ours is None or theirs is None or not ours.current or not theirs.current:
        return _by_counters(primary, secondary)
    if ours.current == theirs.current:
        swap = secondary.consistent and not primary.consistent
        return Verdict(SyncSource.SECONDARY if swap else SyncSource.PRIMARY, Scope.DIRTY)
    from_primary = _scope(primary, ours, secondary, theirs)
    from_secondary = _scope(secondary, theirs, primary, ours)
    if from_primary is None and from_secondary is None:
        return _from_unrecorded(primary, ours, secondary, theirs)
    if from_primary is not None and from_secondary is not None:
        raise SplitBrain
    if from_primary is not None:
        return Verdict(SyncSource.PRIMARY, from_primary)
    return Verdict(SyncSource.SECONDARY, from_secondary or Scope.EVERYTHING)


def _from_unrecorded(primary: Facts, ours: Generations, secondary: Facts, theirs: Generations) -> Verdict:
    """By the counters, if the one whose line begins with data of the original is the only one that wrote alone."""
    alone = {
        SyncSource.PRIMARY: ours.base == UNRECORDED and not theirs.base,
        SyncSource.SECONDARY: theirs.base == UNRECORDED and not ours.base,
    }
    verdict = _by_counters(primary, secondary)
    if not alone[verdict.source]:
        raise SplitBrain
    return verdict


def _scope(x: Facts, x_line: Generations, y: Facts, y_line: Generations) -> Scope | None:
    """How much y needs from x if x has all that y ever acknowledged; None if that is not so."""
    if y_line.current == x_line.base:
        return Scope.DIRTY
    no_lone_write = not y_line.base and y.localcnt == x.remotecnt
    if x_line.base and x_line.base == y_line.history[0] and no_lone_write:
        return Scope.DIRTY
    if y_line.current in x_line.history:
        return Scope.EVERYTHING
    return None


def _by_counters(primary: Facts, secondary: Facts) -> Verdict:
    """The original's table (S.local, S.remote, P.local, P.remote are the counters of secondary and primary):

    | counters                                                 | verdict                    |
    | -------------------------------------------------------- | -------------------------- |
    | S.local > P.remote and P.local > S.remote                | split brain                |
    | S.local > P.remote and S.remote = P.local                | dirty extents from S       |
    | S.local = P.remote and S.remote <= P.local               | dirty extents from P       |
    | S.local > P.remote, else                                 | everything from S          |
    | else                                                     | everything from P          |

    Beyond the table: if neither wrote alone, a consistent S goes before an inconsistent P; and a target that was
    adopted into the pair but never got all of the data needs everything (the source's map may not say so, if the
    source crashed before it merged the target's).
    """
    primary_wrote = primary.localcnt > secondary.remotecnt
    secondary_wrote = secondary.localcnt > primary.remotecnt
    if primary_wrote and secondary_wrote:
        raise SplitBrain
    if secondary_wrote:
        clean = secondary.remotecnt == primary.localcnt
    else:
        clean = secondary.localcnt == primary.remotecnt and secondary.remotecnt <= primary.localcnt
    swap = not primary_wrote and secondary.consistent and not primary.consistent
    from_secondary = secondary_wrote or swap
    source, target = (secondary, primary) if from_secondary else (primary, secondary)
    scope = Scope.DIRTY if clean and not _unfinished(source, target) else Scope.EVERYTHING
    return Verdict(SyncSource.SECONDARY if from_secondary else SyncSource.PRIMARY, scope)


def _unfinished(source: Facts, target: Facts) -> bool:
    """The target may never have got to the end of its first sync: no source ever confirmed a generation to it."""
    if target.generations is None or target.generations.current or source.virgin:
        return False
    counting = source.generations is not None and source.generations.current != 0
    return counting or not target.consistent
