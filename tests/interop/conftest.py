"""Fixtures of the replays."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.interop.stage import Setting, Stage
from tests.kernel import machine

LONGEST_TEST = 120.0
"""Seconds; on a quiet machine with two cores none takes more than 15."""


class MakeStage(Protocol):
    """Gives a node that is cleaned up after the test; its daemon does not run yet."""

    def __call__(self, setting: Setting = ...) -> Stage: ...


@pytest.fixture
def make_stage() -> Iterator[MakeStage]:
    """One that takes too long is killed: nothing else wakes up who waits for its disk."""
    root = Path(tempfile.mkdtemp(prefix="hast-"))  # short enough for UNIX sockets
    made: list[Stage] = []
    late = threading.Event()

    def make(setting: Setting | None = None) -> Stage:
        folder = root / str(len(made))
        folder.mkdir()
        made.append(Stage(folder, setting or Setting()))
        return made[-1]

    def give_up() -> None:
        late.set()
        for stage in made:
            machine.kill_sessions(stage.sessions)

    watchdog = threading.Timer(LONGEST_TEST, give_up)
    watchdog.start()
    try:
        yield make
    finally:
        watchdog.cancel()
        for stage in made:
            stage.clean_up()
        logs = "\n".join(stage.tail(200) for stage in made)
        print(logs)  # shown if the test fails
        shutil.rmtree(root)
    assert not late.is_set(), f"the test was not over after {LONGEST_TEST:g} s, and its node was killed"
    assert "Traceback" not in logs, "the node crashed"
