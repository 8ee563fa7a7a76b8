"""The verdict's tables, and by name the histories that an earlier rule got wrong."""

from __future__ import annotations

import itertools

import pytest

from hastfs.model import UNRECORDED, Generations, SyncSource
from hastfs.protocol.verdict import Facts, InconsistentSource, ResuidMismatch, Scope, SplitBrain, Verdict, decide

P, S = SyncSource.PRIMARY, SyncSource.SECONDARY
FROM_P, FROM_S = Verdict(P, Scope.DIRTY), Verdict(S, Scope.DIRTY)
ALL_FROM_P, ALL_FROM_S = Verdict(P, Scope.EVERYTHING), Verdict(S, Scope.EVERYTHING)
NEVER = Generations()


def node(
    line: Generations | None = None,
    local: int = 0,
    remote: int = 0,
    *,
    resuid: int = 77,
    virgin: bool = False,
    consistent: bool = True,
) -> Facts:
    return Facts(resuid, local, remote, virgin, line, consistent)


def line(current: int, base: int = 0, *history: int) -> Generations:
    return Generations.from_tuple((current, base, *history, 0, 0)[:4])


def by_the_reference(p_local: int, p_remote: int, s_local: int, s_remote: int) -> Verdict | None:
    """hast(8)'s table as it is written there; None is split brain."""
    if s_local > p_remote and s_remote == p_local:
        return FROM_S
    if s_local == p_remote and (s_remote == p_local or s_remote < p_local):
        return FROM_P
    if s_local > p_remote and p_local > s_remote:
        return None
    return ALL_FROM_S if s_local > p_remote else ALL_FROM_P


@pytest.mark.parametrize("known", ["unknown", "never drawn"])
@pytest.mark.parametrize("counters", list(itertools.product(range(4), repeat=4)))
def test_counters_alone_decide_as_in_the_reference(counters: tuple[int, int, int, int], known: str) -> None:
    p_local, p_remote, s_local, s_remote = counters
    generations = None if known == "unknown" else NEVER
    primary, secondary = node(generations, p_local, p_remote), node(generations, s_local, s_remote)
    expected = by_the_reference(*counters)
    if expected is None:
        with pytest.raises(SplitBrain):
            decide(primary, secondary)
    else:
        assert decide(primary, secondary) == expected


@pytest.mark.parametrize(("virgin", "scope"), [(True, Scope.NOTHING), (False, Scope.EVERYTHING)])
def test_a_secondary_that_was_never_used_takes_what_the_primary_has(virgin: bool, scope: Scope) -> None:
    primary = node(line(5), 1, virgin=virgin)
    assert decide(primary, node(NEVER, resuid=0, virgin=True)) == Verdict(P, scope)


def test_a_primary_that_was_never_used_takes_what_the_secondary_has() -> None:
    assert decide(node(NEVER, resuid=0, virgin=True), node(line(5))) == ALL_FROM_S


def test_nodes_of_different_pairs_refuse_each_other_in_the_original_s_words() -> None:
    with pytest.raises(ResuidMismatch, match=r"^Resource unique ID mismatch \(primary=77, secondary=78\)\.$"):
        decide(node(), node(resuid=78))


def test_split_brain_is_called_in_the_original_s_words() -> None:
    with pytest.raises(SplitBrain, match=r"^Split-brain condition!$"):
        decide(node(local=1), node(local=1))


@pytest.mark.parametrize(
    ("primary", "secondary", "verdict"),
    [
        pytest.param(line(5), line(5), FROM_P, id="same data"),
        pytest.param(line(6, 5), line(5), FROM_P, id="primary wrote alone"),
        pytest.param(line(5), line(6, 5), FROM_S, id="secondary wrote alone"),
        pytest.param(line(7, 6, 5), line(5), ALL_FROM_P, id="secondary put back from a copy"),
        pytest.param(line(5), line(7, 6, 5), ALL_FROM_S, id="primary put back from a copy"),
        pytest.param(line(6, 5), line(7, 5), None, id="both wrote alone"),
        pytest.param(line(9, 8, 7, 6), line(5), None, id="nothing in common"),
    ],
)
@pytest.mark.parametrize("counters", [0, 1])
def test_generations_decide(
    primary: Generations, secondary: Generations, verdict: Verdict | None, counters: int
) -> None:
    """Whatever the counters say: they know less."""
    ours, theirs = node(primary, counters), node(secondary, counters)
    if verdict is None:
        with pytest.raises(SplitBrain):
            decide(ours, theirs)
    else:
        assert decide(ours, theirs) == verdict


def test_a_generation_on_one_side_only_proves_nothing() -> None:
    assert decide(node(line(6), 1), node(None)) == FROM_P
    with pytest.raises(SplitBrain):
        decide(node(line(6), 1), node(None, 1))


@pytest.mark.parametrize("generations", [line(5), NEVER, None])
def test_of_the_same_data_the_consistent_copy_counts(generations: Generations | None) -> None:
    broken, whole = node(generations, consistent=False), node(generations)
    assert decide(broken, whole).source is S
    assert decide(whole, broken).source is P


@pytest.mark.parametrize(
    ("primary", "secondary"),
    [
        (node(line(6, 5), 1, consistent=False), node(line(5))),
        (node(line(5)), node(line(6, 5), 1, consistent=False)),
        (node(line(5), consistent=False), node(NEVER, resuid=0, virgin=True)),
        (node(line(5), consistent=False), node(line(5), consistent=False)),
    ],
)
def test_data_in_the_middle_of_a_resync_is_never_copied(primary: Facts, secondary: Facts) -> None:
    with pytest.raises(InconsistentSource, match="middle of a resync"):
        decide(primary, secondary)


# -- histories ---------------------------------------------------------------------------------------------------------


def test_both_wrote_after_a_sync_from_the_secondary_and_restarts() -> None:
    """The original's undetected split brain: with a counter raised in every stint it is seen."""
    with pytest.raises(SplitBrain):
        decide(node(None, 1, 1), node(None, 2, 0))
    with pytest.raises(SplitBrain):
        decide(node(line(8, 6, 5), 1, 1), node(line(7, 6, 5), 2, 0))


def test_primary_died_between_the_two_commits_and_the_secondary_wrote_on() -> None:
    """The counters accuse both; the generations know that the secondary had it all."""
    assert decide(node(line(6, 5), 1), node(line(7, 6, 5), 1)) == FROM_S


def test_primary_died_between_the_two_commits_and_wrote_on_alone() -> None:
    """By its history alone this would cost a full sync."""
    assert decide(node(line(7, 5, 6), 2), node(line(6, 0, 5))) == FROM_P


def test_primary_died_between_the_two_commits_and_wrote_on_in_many_stints() -> None:
    """Its history no longer reaches the secondary's generation: a false split brain without the common base."""
    assert decide(node(line(10, 5, 9, 8), 5), node(line(6, 0, 5))) == FROM_P
    assert decide(node(line(6, 0, 5)), node(line(10, 5, 9, 8), 5)) == FROM_S


def test_primary_died_between_the_two_commits_and_both_wrote_on() -> None:
    with pytest.raises(SplitBrain):
        decide(node(line(10, 5, 9, 8), 5), node(line(7, 6, 5), 1))


def test_the_first_sync_ended_early_and_the_primary_forgot_it() -> None:
    """The secondary belongs to the pair by then, and the counters see nothing to do."""
    assert decide(node(line(5), 1), node(NEVER, consistent=False)) == ALL_FROM_P
    assert decide(node(line(5), 1), node(NEVER)) == ALL_FROM_P


def test_a_node_that_never_got_its_first_sync_is_primary_now() -> None:
    assert decide(node(NEVER, consistent=False), node(line(5))) == ALL_FROM_S


@pytest.mark.parametrize(
    ("primary", "secondary", "verdict"),
    [
        pytest.param(node(line(7, UNRECORDED), 1), node(line(5)), FROM_P, id="primary moved"),
        pytest.param(node(line(5)), node(line(7, UNRECORDED), 1), FROM_S, id="secondary moved"),
        pytest.param(node(line(8, UNRECORDED, 7), 2), node(line(5)), FROM_P, id="moved, in two stints"),
        pytest.param(node(line(7, UNRECORDED), 1), node(line(6, 5), 1), None, id="the other one wrote too"),
        pytest.param(node(line(7, UNRECORDED), 1), node(line(6, 5)), None, id="the other one wrote, uncounted"),
        pytest.param(node(line(7, UNRECORDED), 1), node(line(6, UNRECORDED)), None, id="both moved"),
        pytest.param(node(line(7, UNRECORDED)), node(line(5), 1), None, id="the counters say the opposite"),
        pytest.param(node(line(7), 1), node(line(5)), None, id="half a copy, forced"),
    ],
)
def test_what_the_original_left_and_then_wrote_alone_here_goes_by_the_counters(
    primary: Facts, secondary: Facts, verdict: Verdict | None
) -> None:
    if verdict is None:
        with pytest.raises(SplitBrain):
            decide(primary, secondary)
    else:
        assert decide(primary, secondary) == verdict
