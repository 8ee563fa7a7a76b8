"""Do the checkers of the random histories bite? Each mistake in mutations.py has to be caught by some history."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulation.mutations import MUTATIONS, Catch, caught
from tests.simulation.run import failures

SEEDS = 1000
"""Histories within which each has to be caught; most are by one of the first fifty."""


@pytest.fixture(scope="module")
def catches() -> Iterator[dict[str, Future[Catch | None]]]:
    """Of each mutation, by its name; all cores are at work while the first test waits."""
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {name: pool.submit(caught, name, range(SEEDS)) for name in MUTATIONS}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(catches: dict[str, Future[Catch | None]], name: str) -> None:
    assert catches[name].result() is not None, f"{SEEDS} histories did not notice"


def test_without_a_mutation_the_same_histories_are_clean() -> None:
    assert not failures(range(20))
