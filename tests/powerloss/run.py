"""More lives, and more of each, than the tests have time for. As root: `python -m tests.powerloss.run --help`"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from tests.powerloss.examine import Figures, examine
from tests.powerloss.journal import Journal, load
from tests.powerloss.life import pair_of, record

MODES = ("fullsync", "memsync", "async")


def main() -> None:
    """Ends with BrokenPromise at the first one."""
    parser = argparse.ArgumentParser(description="Records lives of pairs, and lets the power fail at every moment.")
    parser.add_argument(
        "--lives", type=int, default=3, help="how many are recorded, in one replication mode after the other"
    )
    parser.add_argument("--rounds", type=int, default=12, help="what each application does in a stage of a life")
    parser.add_argument("--samples", type=int, default=20, help="subsets of what is not flushed, at each place")
    parser.add_argument("--resyncs", type=int, default=500, help="states of each life that become a pair again")
    parser.add_argument("--seed", type=int, default=0, help="of the first life; the next has the next one")
    parser.add_argument("--journal", type=Path, help="one that was kept, instead of new lives")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    total, began = Figures(), time.monotonic()
    for life in range(1 if arguments.journal else arguments.lives):
        seed = arguments.seed + life
        journal = load(arguments.journal) if arguments.journal else _record(seed, arguments.rounds)
        figures = examine(journal, samples=arguments.samples, resyncs=arguments.resyncs, seed=seed)
        print(f"life {seed}: {figures}", flush=True)
        total.add(figures)
    print(f"no promise broken in {time.monotonic() - began:.0f} s: {total}")


def _record(seed: int, rounds: int) -> Journal:
    with pair_of(MODES[seed % len(MODES)]) as pair:
        return record(pair, seed=seed, rounds=rounds)


if __name__ == "__main__":
    main()
