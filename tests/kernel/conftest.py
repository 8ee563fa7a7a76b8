"""Fixtures of the tests with real processes, FUSE, loop devices and file systems."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.kernel.failing_disk import Disks
from tests.kernel.node import Options
from tests.kernel.pair import Pair

LONGEST_TEST = 150.0
"""Seconds; on a quiet machine with two cores none takes more than 20."""

_failed = pytest.StashKey[bool]()


class MakePair(Protocol):
    """Gives a pair that is cleaned up after the test; its daemons do not run yet."""

    def __call__(self, options: Options = ..., *, own_names: bool = ...) -> Pair: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets the fixtures know that the test failed, so that they show the nodes' logs."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder with a path short enough for UNIX sockets, gone after the test: components are large."""
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    yield root
    shutil.rmtree(root)


@pytest.fixture
def disks(scratch: Path) -> Iterator[Disks]:
    """Makes disks that fail; they are gone after the test, and after the nodes that used them."""
    made = Disks(scratch)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def made_pairs(disks: Disks) -> Iterator[list[Pair]]:
    """The pairs of this test. One that takes too long loses its nodes: nothing else wakes up who waits for a disk."""
    made: list[Pair] = []
    late = threading.Event()

    def give_up() -> None:
        late.set()
        disks.let_go()
        for pair in made:
            pair.kill()

    watchdog = threading.Timer(LONGEST_TEST, give_up)
    watchdog.start()
    yield made
    watchdog.cancel()
    watchdog.join()
    assert not late.is_set(), f"the test was not over after {LONGEST_TEST} s, and its nodes were killed"


@pytest.fixture
def make_pair(
    scratch: Path, disks: Disks, made_pairs: list[Pair], request: pytest.FixtureRequest
) -> Iterator[MakePair]:
    def make(options: Options | None = None, *, own_names: bool = True) -> Pair:
        root = scratch / f"{scratch.name}-{len(made_pairs)}"
        root.mkdir()
        made_pairs.append(Pair(root, options or Options(), own_names=own_names))
        return made_pairs[-1]

    try:
        yield make
    finally:
        disks.let_go()  # a process that waits for its disk cannot even be killed
        for pair in made_pairs:
            pair.clean_up()
        if request.node.stash.get(_failed, False):
            print(*(pair.logs() for pair in made_pairs), sep="\n")
    for pair in made_pairs:
        assert "Traceback" not in pair.logs(), f"a node crashed:\n{pair.logs()}"


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """A running pair with the usual options, no roles yet, no device nodes."""
    made = make_pair()
    made.start()
    return made
