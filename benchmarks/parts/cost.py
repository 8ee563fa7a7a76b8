"""CPU time of each side for what is written, HastFS beside QEMU."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from statistics import median

from benchmarks import fio
from benchmarks.machine import GIB, MIB, cpu_seconds
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import pair
from benchmarks.systems.qemu import qemu
from benchmarks.table import markdown, number

_ROWS = {"4k write d1": 4096, "4k write d32": 4096, "1M write d8": MIB}


def measure(plan: Plan) -> list[Report]:
    report = Report("CPU seconds per GiB written (user and system time of the worker or server)")
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with scratch("tmpfs") as root, contextlib.ExitStack() as stack:
        systems = []
        for name, start in (("fullsync", pair("fullsync")), ("qemu", qemu)):
            (root / name).mkdir()
            systems.append(stack.enter_context(start(root / name, min(plan.size, 512 * MIB))))
        for turn in range(plan.rounds):
            plan.say(f"{report.title}: round {turn + 1}")
            for row, length in _ROWS.items():
                for system in systems:
                    before = {side: cpu_seconds(pid) for side, pid in system.pids.items()}
                    written = fio.measure(system.image, fio.ROWS[row], plan.seconds).operations * length / GIB
                    for side, pid in system.pids.items():
                        found[system.name, side][row].append((cpu_seconds(pid) - before[side]) / written)
    lines = [[f"{name}, {side}", *(number(median(of[row])) for row in _ROWS)] for (name, side), of in found.items()]
    report.raw = {f"{name} {side}": dict(of) for (name, side), of in found.items()}
    report.blocks.append(markdown(["", *_ROWS], lines))
    return [report]
