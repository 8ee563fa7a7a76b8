"""Random lives of a pair (tests/simulation/history.py), and those that once failed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.failing_seeds import FAILING_FENCED_SEEDS, FAILING_SEEDS
from tests.simulation.history import run
from tests.simulation.run import batches, lives

LIVES = 2000
"""On every run."""


def test_a_pair_survives_any_history() -> None:
    """The same ones on every run, so that what fails is the change's fault. New ones: run.py --hours."""
    first = 1
    found = [one for _, some in lives(batches(first, LIVES, float("inf")), os.cpu_count() or 1) for one in some]
    assert not found, "\n".join(str(one) for one in found)


@pytest.mark.parametrize("seed", FAILING_SEEDS)
def test_a_history_that_once_failed_does_not(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", FAILING_FENCED_SEEDS)
def test_a_fenced_history_that_once_failed_does_not(seed: int) -> None:
    run(seed, fenced=True)


def digest(seed: int) -> str:
    """Of all that happens in the life of that seed."""
    happened: list[str] = []
    run(seed, happened.append)
    return hashlib.sha256("\n".join(happened).encode()).hexdigest()


def test_a_seed_is_the_same_history_in_any_process() -> None:
    seeds = [3, 8, 9, 50, 54]
    code = f"from tests.simulation.test_random_histories import digest\nfor seed in {seeds}: print(digest(seed))"
    for order in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": order},
        )
        assert answer.stdout.split() == [digest(seed) for seed in seeds], answer.stderr
