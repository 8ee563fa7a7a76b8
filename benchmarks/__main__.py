"""The command line of `benchmarks/run.sh`: runs the parts that are asked for and prints their tables."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import machine
from benchmarks.fio import ROWS
from benchmarks.parts import activemap, cost, databases, failover, io, many, resync, startup, trouble
from benchmarks.plan import PLACES, Plan, Report
from benchmarks.table import Figure

PARTS: dict[str, Callable[[Plan], list[Report]]] = {
    "io": io.measure,
    "databases": databases.measure,
    "resync": resync.measure,
    "map": activemap.measure,
    "failover": failover.measure,
    "startup": startup.measure,
    "many": many.measure,
    "cost": cost.measure,
    "trouble": trouble.measure,
}


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("benchmarks: only root can mount images and make loop devices.", file=sys.stderr)
        return os.EX_NOPERM
    signal.signal(signal.SIGTERM, _end)
    plan = _plan(options)
    facts = machine.facts()
    reports: dict[str, list[Report]] = {}
    for part in options.parts or PARTS:
        reports[part] = _measure(part, plan)
        for report in reports[part]:
            print(report.markdown(), end="\n\n", flush=True)
    facts["cpu probe"] = plan.probes
    print(_facts(facts, plan))
    if options.json:
        Path(options.json).write_text(json.dumps(_raw(facts, reports), indent=1) + "\n")
    return 0


def _measure(part: str, plan: Plan) -> list[Report]:
    """A part that fails must not cost the others' results."""
    try:
        return PARTS[part](plan)
    except Exception as error:
        traceback.print_exc()
        return [Report(part, [f"This part failed: {error}"])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.sh", description="Measures HastFS and its peers.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one round, short, small")
    parser.add_argument("--rounds", type=int, help="how often (default: 3)")
    parser.add_argument("--seconds", type=float, help="of one fio run (default: 2)")
    parser.add_argument("--size", type=int, default=1024, help="of the images, MiB (default: 1024, or what fits)")
    parser.add_argument("--systems", type=_names(io.SYSTEMS), default=(), help=",".join(io.SYSTEMS))
    parser.add_argument("--rows", type=_names(ROWS), default=(), help=",".join(ROWS))
    parser.add_argument("--where", type=_names(PLACES), default=tuple(PLACES), help="tmpfs,disk (default: both)")
    parser.add_argument("--json", metavar="FILE", help="write all raw numbers there")
    return parser


def _names(known: Any) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return read


def _plan(options: argparse.Namespace) -> Plan:
    for part in options.parts:
        if part not in PARTS:
            raise SystemExit(f"benchmarks: {part} is none of {', '.join(PARTS)}.")
    return Plan(
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (1 if options.quick else 2),
        size=(256 if options.quick else options.size) * machine.MIB,
        places=options.where,
        systems=options.systems,
        rows=options.rows,
        quick=options.quick,
    )


def _facts(facts: dict[str, Any], plan: Plan) -> str:
    probe = Figure.of(plan.probes or [0.0])
    noise = (probe.high - probe.low) / probe.median * 100 if probe.median else 0
    return (
        f"Linux {facts['kernel']}, {facts['cores']} cores ({facts['processor']}), Python {facts['python']},"
        f" {facts['memory MiB']} MiB of memory; {facts['start']}, load {facts['load at start']:.2f} at the start;"
        f" a fixed loop's speed varied by {noise:.0f} % during the run. Cells: median (least-most)."
    )


def _raw(facts: dict[str, Any], reports: dict[str, list[Report]]) -> dict[str, Any]:
    return {
        "facts": facts,
        "parts": {
            part: [
                {
                    "title": report.title,
                    "raw": report.raw,
                    "verdicts": [asdict(verdict) | {"met": verdict.met} for verdict in report.verdicts],
                    "remarks": report.blocks,
                }
                for report in of
            ]
            for part, of in reports.items()
        },
    }


def _end(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C: everything that was started is taken down."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
