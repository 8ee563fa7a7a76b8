"""fio on every system, through the image and through a loop device on it.

In each round every row visits all systems, one after the other, so that noise that lasts hits all alike.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from benchmarks import fio, machine
from benchmarks.fio import ROWS, Measured, Row
from benchmarks.machine import MIB, BenchmarkError
from benchmarks.plan import PLACES, Plan, Report, scratch
from benchmarks.systems import Start
from benchmarks.systems.files import raw
from benchmarks.systems.gluster import gluster
from benchmarks.systems.hast import alone, pair
from benchmarks.systems.null import null
from benchmarks.systems.qemu import qemu
from benchmarks.table import Figure, Verdict, best, markdown, number, ratio

SYSTEMS: dict[str, tuple[Start, int]] = {
    "raw": (raw, 1),
    "null": (null, 0),
    "none": (alone, 1),
    "async": (pair("async"), 2),
    "memsync": (pair("memsync"), 2),
    "fullsync": (pair("fullsync"), 2),
    "qemu": (qemu, 2),
    "gluster": (gluster, 2),
}
"""How each is started, and how many files of the image's size it keeps."""

PEERS = ("qemu", "gluster")
LOOP = " +loop"
"""Marks the same system through a loop device."""

BESIDE_PEERS = {
    "4k write d1": 1.5,
    "4k write d32": 3.0,
    "4k write d1 fsync": 1.5,
    "4k write d32 fsync": 1.5,
    "1M write d8": 2.0,
    "4k read d1": 2.0,
    "4k read d32": 2.0,
    "1M read d8": 2.0,
    "4k mix d32": 1.0,
}
"""How many times the best peer's rate fullsync should reach."""

BESIDE_NULL = {"4k write d32": 0.5, "1M write d8": 0.5, "4k read d1": 0.9, "4k read d32": 0.9, "1M read d8": 0.9}
"""What part of our own frontend's rate alone fullsync should reach."""

Results = dict[str, dict[str, list[Measured]]]
"""Target (a system, perhaps with LOOP) to row to what the rounds measured."""


def measure(plan: Plan) -> list[Report]:
    return [_measure_on(place, plan) for place in plan.places]


def _measure_on(place: str, plan: Plan) -> Report:
    report = Report(f"I/O, components on {place}")
    names = [name for name in SYSTEMS if not plan.systems or name in plan.systems]
    rows = [row for name, row in ROWS.items() if not plan.rows or name in plan.rows]
    size = _image_size(plan, place, sum(SYSTEMS[name][1] for name in names))
    with scratch(place) as root, contextlib.ExitStack() as stack:
        targets = _start(names, root, size, stack, plan=plan, report=report)
        results = _rounds(targets, rows, plan, report)
        report.raw["tcp round trip us"] = machine.round_trip()
        report.raw["fdatasync us"] = machine.sync_time(root)
    report.raw |= {
        "size MiB": size // MIB,
        "targets": {
            target: {row: [asdict(one) for one in measured] for row, measured in of.items()}
            for target, of in results.items()
        },
    }
    report.blocks += [
        f"Images of {size // MIB} MiB, {plan.rounds} rounds of {plan.seconds:g} s. A TCP round trip (4 KiB there,"
        f" 24 bytes back) takes {report.raw['tcp round trip us']:.0f} us, fdatasync of one dirty page"
        f" {report.raw['fdatasync us']:.0f} us. Rates are operations a second, for 1M MiB a second.",
        _rates(results, rows),
        _latencies(results, rows),
    ]
    report.verdicts += judge(_figures(results), report.raw["tcp round trip us"])
    return report


def _image_size(plan: Plan, place: str, copies: int) -> int:
    """As asked for, unless that takes more than half of what is free."""
    fits = shutil.disk_usage(PLACES[place]).free // 2 // max(copies, 1)
    size = plan.size
    while size > fits and size > 64 * MIB:
        size //= 2
    return size


def _start(
    names: list[str], root: Path, size: int, stack: contextlib.ExitStack, *, plan: Plan, report: Report
) -> dict[str, str]:
    """Target to path. What cannot run here is reported and left out."""
    images: dict[str, str] = {}
    devices: dict[str, str] = {}
    for name in names:
        plan.say(f"{report.title}: starting {name}")
        directory = root / name
        directory.mkdir()
        try:
            system = stack.enter_context(SYSTEMS[name][0](directory, size))
            devices[name + LOOP] = stack.enter_context(machine.loop_device(system.image))
        except BenchmarkError as error:
            report.blocks.append(f"`{name}` does not run here: {error}")
            plan.say(report.blocks[-1])
            continue
        images[name] = str(system.image)
    return images | devices


def _rounds(targets: dict[str, str], rows: list[Row], plan: Plan, report: Report) -> Results:
    results: Results = {target: defaultdict(list) for target in targets}
    for turn in range(plan.rounds):
        for row in rows:
            plan.say(f"{report.title}: round {turn + 1}, {row.name}")
            for target, path in targets.items():
                os.sync()  # what the one before left in caches is not to be this one's burden
                try:
                    results[target][row.name].append(fio.measure(path, row, plan.seconds))
                except BenchmarkError as error:
                    report.blocks.append(f"{target}, {row.name}: {error}")
                    plan.say(report.blocks[-1])
    return results


def _figures(results: Results) -> dict[str, dict[str, Figure]]:
    return {
        target: {row: Figure.of([one.rate for one in measured]) for row, measured in of.items()}
        for target, of in results.items()
    }


def _rates(results: Results, rows: list[Row]) -> str:
    """A line for each row, and the ratio to the best peer for fullsync."""
    figures = _figures(results)
    lines = []
    for row in rows:
        cells = [str(figures[target][row.name]) if row.name in figures[target] else "-" for target in results]
        for suffix in ("", LOOP):
            ours, theirs = figures.get("fullsync" + suffix, {}).get(row.name), _best_peer(figures, row.name, suffix)
            cells.append(f"{number(ratio(ours.median, theirs.median))}x" if ours and theirs else "-")
        lines.append([row.name, *cells])
    return markdown(["", *results, "fullsync / best peer", "the same +loop"], lines)


def _latencies(results: Results, rows: list[Row]) -> str:
    def cell(measured: list[Measured]) -> str:
        if not measured:
            return "-"
        fields = ([one.mean for one in measured], [one.p99 for one in measured], [one.p999 for one in measured])
        return " / ".join(number(Figure.of(samples).median) for samples in fields)

    lines = [[row.name, *(cell(of.get(row.name, [])) for of in results.values())] for row in rows]
    return markdown(["us: mean / p99 / p99.9", *results], lines)


def _best_peer(figures: dict[str, dict[str, Figure]], row: str, suffix: str) -> Figure | None:
    return best([figures[peer + suffix][row] for peer in PEERS if row in figures.get(peer + suffix, {})])


def judge(figures: dict[str, dict[str, Figure]], round_trip: float) -> list[Verdict]:
    """What was measured, beside what it should be. What was not measured is not judged."""
    found = []
    for suffix in ("", LOOP):
        ours = figures.get("fullsync" + suffix, {})
        for row, figure in ours.items():
            if peer := _best_peer(figures, row, suffix):
                found.append(
                    Verdict(
                        f"{row}{suffix}: fullsync / best peer", ratio(figure.median, peer.median), BESIDE_PEERS[row]
                    )
                )
        found += _against(figures, suffix, "fullsync", "null", BESIDE_NULL)
        found += _against(figures, suffix, "memsync", "fullsync", dict.fromkeys(ROWS, 1.0))
        found += _against(figures, suffix, "async", "none", dict.fromkeys(ROWS, 0.8))
    ours = figures.get("fullsync", {})
    if "4k write d1" in ours:
        found.append(
            Verdict("4k write d1: fullsync, mean time", 1e6 / ours["4k write d1"].median, 100, "us", most=True)
        )
    if "4k write d1 fsync" in ours and "4k write d1 fsync" in figures.get("raw", {}):
        # Both nodes are on one disk here, and sync at the same time: the bound is stricter than on two machines.
        bound = 1.3 * (1e6 / figures["raw"]["4k write d1 fsync"].median + round_trip)
        took = 1e6 / ours["4k write d1 fsync"].median
        found.append(Verdict("4k write d1 fsync: fullsync, write and flush", took, bound, "us", most=True))
    return found


def _against(
    figures: dict[str, dict[str, Figure]], suffix: str, ours: str, theirs: str, bounds: dict[str, float]
) -> list[Verdict]:
    of_ours, of_theirs = figures.get(ours + suffix, {}), figures.get(theirs + suffix, {})
    return [
        Verdict(f"{row}{suffix}: {ours} / {theirs}", ratio(of_ours[row].median, of_theirs[row].median), bound)
        for row, bound in bounds.items()
        if row in of_ours and row in of_theirs
    ]
