"""Power that fails at every moment of a real pair's life: what is left keeps the promises, and hastd starts on it."""

from __future__ import annotations

import copy
import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.node import Node
from tests.powerloss import mistakes
from tests.powerloss.application import Application
from tests.powerloss.examine import examine, is_noticed
from tests.powerloss.journal import Journal
from tests.powerloss.life import LAYOUT, SECTORS, pair_of, record, start
from tests.powerloss.replay import Moment, Replay

pytestmark = pytest.mark.kernel

SAMPLES = 3
RESYNCS = 40
ROUNDS = 8


def lived(replication: str) -> Journal:
    with pair_of(replication) as pair:
        return record(pair, seed=1, rounds=ROUNDS)


@pytest.fixture(scope="module")
def journal() -> Journal:
    """A life in fullsync."""
    return lived("fullsync")


def assert_no_promise_is_broken(journal: Journal) -> None:
    figures = examine(journal, samples=SAMPLES, resyncs=RESYNCS)
    print(figures)
    assert figures.states > 3 * figures.entries, "much is volatile most of the time"
    assert figures.starts > 100, "the map and the metadata were written often"
    assert figures.resyncs > RESYNCS // 2


def test_no_power_loss_in_a_life_breaks_a_promise(journal: Journal) -> None:
    assert_no_promise_is_broken(journal)


def test_nor_in_async_where_only_a_flush_waits_for_the_other_node() -> None:
    assert_no_promise_is_broken(lived("async"))


# -- do the checkers bite? ---------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[..., Iterator[mistakes.Mistake]], float]] = {
    "metadata is not flushed": (mistakes.volatile_metadata, 1.0),
    "the map is not flushed": (mistakes.volatile_map, 1.0),
    "writing alone is not counted": (mistakes.uncounted, 1.0),
    "half a copy is called consistent": (mistakes.unmarked, 1.0),
    "a bit is set only after the data": (mistakes.map_after_data, 1.0),
    "a flush is acknowledged before it is done": (mistakes.lost_flush, 0.5),  # there may be nothing to flush
}
"""With the share of places to make it in where it has to be noticed."""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(journal: Journal, name: str) -> None:
    make, share = MISTAKES[name]
    noticed = [is_noticed(mistake) for mistake in itertools.islice(make(journal, LAYOUT), 40)]
    assert noticed, "the life gave no occasion for it"
    assert noticed.count(True) >= share * len(noticed), f"{noticed.count(True)} of {len(noticed)} were noticed"


# -- real daemons ------------------------------------------------------------------------------------------------------


def moments_of(journal: Journal, stages: list[str]) -> list[tuple[Moment, Application]]:
    """For each stage, the moment in its middle in which the two disks differ most."""
    found: dict[int, tuple[int, Moment, Application]] = {}
    replay = Replay(journal, LAYOUT, SECTORS, samples=1)
    for moment in replay.moments():
        number = next((n for n, stage in enumerate(stages) if stage == moment.stage), None)
        if number is None:
            continue
        one, other = (component[LAYOUT.localoff :] for component in moment.components)
        difference = sum(x != y for x, y in zip(one[::512], other[::512], strict=True))
        if number not in found or difference > found[number][0]:
            found[number] = difference, moment, copy.deepcopy(replay.application)
    return [(moment, application) for _, moment, application in found.values()]


def content_of(device: Path) -> bytes:
    """Not through any cache."""
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        size = SECTORS * 512
        with mmap.mmap(-1, size) as room:
            assert os.preadv(fd, [room], 0) == size
            return bytes(room)
    finally:
        os.close(fd)


def test_hastd_starts_on_what_is_left_and_serves_what_was_flushed(journal: Journal) -> None:
    moments = moments_of(journal, ["connected", "connected again", "a is out of date"])
    assert len(moments) == 3
    for moment, application in moments:
        with pair_of("fullsync") as pair:
            for node, component in zip(pair.nodes, moment.components, strict=True):
                node.component.write_bytes(component)
            start(pair)
            good, other = pair.nodes if "a" in moment.whole else pair.nodes[::-1]
            assert_is_served(good, application)
            done = good.count("syncdone")
            other.role("secondary")
            good.until_event("syncdone", before=done)
            assert_is_served(good, application)
            pair.rest()
            pair.assert_equal()


def assert_is_served(node: Node, application: Application) -> None:
    if node.status().role != "primary":
        node.become_primary()
    assert not application.wrong(content_of(node.device))
