"""How often the map is written: the price of knowing what a resync has to copy."""

from __future__ import annotations

from collections import defaultdict

from benchmarks import fio
from benchmarks.machine import GIB
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import Pair
from benchmarks.table import Figure, Verdict, markdown

_RANDOM_WRITES = 20_000
_SEQUENTIAL_WRITES = 512


def measure(plan: Plan) -> list[Report]:
    report = Report("Map updates, 100 GiB")
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.rounds):
        plan.say(f"{report.title}: round {turn + 1}")
        with scratch("tmpfs") as root:
            pair = Pair(root)
            pair.create(100 * GIB, filled=False)
            with pair.running():
                found["per 1,000 random 4k writes, depth 32"].append(
                    _updates(pair, "4k write d32", _RANDOM_WRITES) / _RANDOM_WRITES * 1000
                )
                found["per 64 MiB of sequential 1M writes"].append(
                    _updates(pair, "1M write d8", _SEQUENTIAL_WRITES) / _SEQUENTIAL_WRITES * 64
                )
    report.raw = dict(found)
    report.blocks.append(markdown(["updates", ""], [[name, str(Figure.of(of))] for name, of in found.items()]))
    report.verdicts = [
        Verdict(name, Figure.of(of).median, bound, "updates", most=True)
        for (name, of), bound in zip(found.items(), (20, 1), strict=True)
    ]
    return [report]


def _updates(pair: Pair, row: str, writes: int) -> int:
    before = pair.a.map_updates()
    fio.count(pair.a.image(), fio.ROWS[row], writes)
    return pair.a.map_updates() - before
