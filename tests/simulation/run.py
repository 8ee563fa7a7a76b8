#!/usr/bin/env python3
"""Lives of pairs, without end: tests/simulation/run.py --hours N [--seed S] [--jobs J], or one life in words.

    --hours N            lives with fresh seeds for that long, on all cores; says which fail, and the rate
    --count N            so many lives instead
    --seed S             lives the one with that seed, and says what happens in it
    --from S             with --hours or --count: seeds from that one on; otherwise they begin with the time of day

Exit status 1 if a life failed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

if not __package__:  # run as a script, by a Python that has what the tests need
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.simulation.history import run

BATCH = 25
"""Lives that a process is given at a time."""


@dataclass(frozen=True)
class Failure:
    """A life in which something went wrong."""

    seed: int
    reason: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.reason}\n  tests/simulation/run.py --seed {self.seed}"


def leaf(error: BaseException) -> BaseException:
    """What nurseries wrapped into groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def silence() -> Iterator[None]:
    """Engines say a lot in the lives they lead here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def failures(seeds: Iterable[int]) -> list[Failure]:
    """Of these lives. Any exception is one: of a checker, or of an engine."""
    found = []
    with silence():
        for seed in seeds:
            try:
                run(seed)
            except Exception as error:  # whatever it is, it is to be reported with its seed
                found.append(Failure(seed, f"{type(leaf(error)).__name__}: {leaf(error)}"))
    return found


def lives(seeds: Iterator[list[int]], jobs: int) -> Iterator[tuple[int, list[Failure]]]:
    """Batches of seeds on `jobs` processes; how many lives each had, and which failed."""
    # Not by fork: whoever asks may have threads.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: dict[Future[list[Failure]], int] = {}
        exhausted = False
        while under_way or not exhausted:
            while not exhausted and len(under_way) < 2 * jobs:
                batch = next(seeds, None)
                if batch is None:
                    exhausted = True
                else:
                    under_way[pool.submit(failures, batch)] = len(batch)
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(future), future.result()


def batches(first: int, number: int | None, until: float) -> Iterator[list[int]]:
    """Seeds from `first` on: `number` of them, or until that time."""
    for start in count(first, BATCH):
        left = BATCH if number is None else min(BATCH, first + number - start)
        if left <= 0 or time.monotonic() >= until:
            return
        yield list(range(start, start + left))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Lives of pairs of nodes, drawn from seeds.")
    parser.add_argument("--hours", type=float, help="how long")
    parser.add_argument("--count", type=int, help="how many lives")
    parser.add_argument("--seed", type=int, help="one life, in words")
    parser.add_argument("--from", dest="first", type=int, default=int(time.time()) * 1000, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    options = parser.parse_args()
    if options.seed is None and options.hours is None and options.count is None:
        parser.error("one of --hours, --count, --seed is needed")
    return options


def show(seed: int) -> int:
    """One life in words; the exit status."""
    try:
        with silence():
            run(seed, print)
    except Exception as error:
        print(f"seed {seed} failed: {type(leaf(error)).__name__}: {leaf(error)}")
        return 1
    print(f"seed {seed} is fine")
    return 0


def main() -> int:
    options = arguments()
    if options.seed is not None:
        return show(options.seed)
    began = time.monotonic()
    until = began + options.hours * 3600 if options.hours is not None else float("inf")
    done, failed, reported = 0, 0, began
    for lived, found in lives(batches(options.first, options.count, until), options.jobs):
        done += lived
        failed += len(found)
        for failure in found:
            print(failure, flush=True)
        if time.monotonic() - reported > 60:
            reported = time.monotonic()
            print(f"{done} lives, {failed} failed, {60 * done / (reported - began):.0f} a minute", flush=True)
    print(f"{done} lives, {failed} failed, {60 * done / (time.monotonic() - began):.0f} a minute")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
