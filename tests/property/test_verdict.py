"""The verdict against a model: two nodes that write, crash, swap roles and sync, with data that can be compared.

The model knows the truth: `log` is every write whose acknowledgement a node's data stands for. A sync is right if the
target's log is part of the source's; there is a split brain if neither is part of the other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from hastfs.model import UNRECORDED, Generations, SyncSource
from hastfs.protocol.verdict import Facts, InconsistentSource, ResuidMismatch, Scope, SplitBrain, Verdict, decide

EXTENTS = 3


@dataclass
class Node:
    """One node's durable state, and whether its present stint alone is on record."""

    resuid: int = 0
    localcnt: int = 0
    remotecnt: int = 0
    generations: Generations = field(default_factory=Generations)
    consistent: bool = True
    recorded: bool = False
    hopeless: bool = False
    """Forced although it never got to the end of its first sync: calling that a split brain is always right."""
    moved: bool = False
    """It was the original's for a while; by the counters alone, a crash can make an innocent look guilty."""
    map: set[int] = field(default_factory=set)
    data: list[int] = field(default_factory=lambda: [0] * EXTENTS)
    log: set[int] = field(default_factory=set)

    def facts(self, *, virgin: bool) -> Facts:
        return Facts(self.resuid, self.localcnt, self.remotecnt, virgin, self.generations, self.consistent)


NODES = st.integers(0, 1)
PLACES = st.integers(0, EXTENTS - 1)


class Pair(RuleBasedStateMachine):
    """What our engines do to two components; every connect is judged by `decide` and compared with the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [Node(), Node()]
        self.numbers = itertools.count(UNRECORDED + 1)

    def begin_alone(self, node: Node, *, forced: bool = False) -> None:
        """The first write of a stint: count and generation are durable before it is acknowledged."""
        if not node.recorded:
            node.recorded = True
            node.localcnt += 1
            used = node.resuid != 0 and not forced
            node.resuid = node.resuid or next(self.numbers)
            node.generations = node.generations.diverge(next(self.numbers), used=used)

    def put(self, place: int, *nodes: Node, acknowledged: bool = True) -> None:
        number = next(self.numbers)
        for node in nodes:
            node.data[place] = number
            if acknowledged:
                node.log.add(number)

    @rule(which=NODES, place=PLACES)
    def write_alone(self, which: int, place: int) -> None:
        node = self.nodes[which]
        if node.consistent:  # otherwise refused as primary
            self.begin_alone(node)
            node.map.add(place)
            self.put(place, node)

    @rule(which=NODES)
    def restart(self, which: int) -> None:
        self.nodes[which].recorded = False

    @rule(which=NODES)
    def create_again(self, which: int) -> None:
        self.nodes[which] = Node()

    @rule(which=NODES)
    def be_served_by_the_original(self, which: int) -> None:
        """It writes metadata as it knows them: what is ours is gone."""
        node = self.nodes[which]
        if node.resuid and node.consistent and not any(node.hopeless for node in self.nodes):
            node.generations = Generations()
            node.moved = True

    @rule(which=NODES, place=PLACES)
    def force_an_inconsistent_one(self, which: int, place: int) -> None:
        node = self.nodes[which]
        # By the counters alone, half a copy that was forced to be primary can look like the one that knows better.
        if not node.consistent and not any(node.moved for node in self.nodes):
            node.recorded = False
            node.hopeless = not node.generations.current
            self.begin_alone(node, forced=True)
            node.consistent = True
            node.map.add(place)
            self.put(place, node)

    @rule(
        primary=NODES,
        merged=st.booleans(),
        copied=st.integers(0, EXTENTS),
        writes=st.lists(PLACES, max_size=2),
        commits=st.integers(0, 2),
        in_flight=st.none() | st.tuples(PLACES, NODES),
    )
    def connect(
        self,
        primary: int,
        merged: bool,
        copied: int,
        writes: list[int],
        commits: int,
        in_flight: tuple[int, int] | None,
    ) -> None:
        """Handshake and, as far as the arguments let it come, merge, sync, writes to both, commit; then the cut."""
        first, second = self.nodes[primary], self.nodes[1 - primary]
        verdict = self.judge(first, second)
        if verdict is None or not merged:
            return
        from_primary = verdict.source is SyncSource.PRIMARY
        source, target = (first, second) if from_primary else (second, first)
        first.recorded = second.recorded = False  # whatever comes after the cut is a new stint
        first.map |= second.map if verdict.scope is not Scope.EVERYTHING else set(range(EXTENTS))
        second.map = set()
        if first.map:
            target.consistent = False
        for place in sorted(first.map)[:copied]:
            target.data[place] = source.data[place]
            first.map.discard(place)
        for place in writes:
            was_dirty = place in first.map
            first.map.add(place)
            self.put(place, first, second)
            if not was_dirty:
                first.map.discard(place)
        if commits and not first.map:
            self.commit(first, source, target, commits)
        if in_flight is not None:  # on one disk, but not acknowledged, when the primary crashes
            place, where = in_flight
            first.map.add(place)
            self.put(place, self.nodes[where], acknowledged=False)

    def commit(self, first: Node, source: Node, target: Node, commits: int) -> None:
        """The two steps at the end of a sync; with one, a crash falls between. The target is always the first.

        The other way round the source would forget where the target was left behind before the target has moved on.
        """
        assert target.data == source.data, "declared in sync, but the data differs"
        second = self.nodes[1] if first is self.nodes[0] else self.nodes[0]
        agreed = source.generations.rejoined()
        counters = second.remotecnt, second.localcnt

        def settle(node: Node) -> None:
            node.generations, node.consistent = agreed, True
            if node is target:
                node.log = set(source.log)
            if node is first:
                node.localcnt, node.remotecnt = counters

        for node in (target, source)[:commits]:
            settle(node)

    def judge(self, first: Node, second: Node) -> Verdict | None:
        """`decide` compared with the truth; the secondary's adoption if it is new."""
        virgin = not first.resuid
        if virgin:
            first.resuid = next(self.numbers)
            first.generations = first.generations.diverge(next(self.numbers), used=False)
        second_virgin = not second.resuid
        ahead, behind = bool(first.log - second.log), bool(second.log - first.log)
        try:
            verdict = decide(first.facts(virgin=virgin), second.facts(virgin=second_virgin))
        except ResuidMismatch:
            assert first.resuid != second.resuid
            return None
        except SplitBrain:
            assert (ahead and behind) or any(node.hopeless or node.moved for node in self.nodes), (
                "split brain was called, but one node has all that the other acknowledged"
            )
            return None
        except InconsistentSource:
            for one, other in ((first, second), (second, first)):
                whole = one.consistent and one.generations.current and one.log >= other.log
                assert not whole, "there is a good copy, but it is not the one that was chosen"
            return None
        if verdict.source is SyncSource.PRIMARY:
            assert not behind, "the secondary's acknowledged writes would be lost"
        else:
            assert not ahead, "the primary's acknowledged writes would be lost"
        if second_virgin:
            second.resuid = first.resuid
            if verdict.scope is Scope.NOTHING:
                second.generations = first.generations
            else:
                second.consistent = False
        return verdict


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=400, stateful_step_count=25, deadline=None)
