"""Start-up and memory of resources of all sizes: neither may grow with the disk. Sparse components on tmpfs."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.machine import GIB, memory
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import RESOURCE, Node, make_component
from benchmarks.table import Figure, Verdict, markdown

_SIZES = {"1 GiB": GIB, "1 TiB": 1 << 40, "100 TiB": 100 << 40}


def measure(plan: Plan) -> list[Report]:
    report = Report("Start-up and memory of a worker, by size of the resource")
    lines = []
    for name, size in _SIZES.items():
        plan.say(f"{report.title}: {name}")
        found = [_start(size) for _ in range(plan.rounds)]
        report.raw[name] = found
        figures = {what: Figure.of([one[what] for one in found]) for what in found[0]}
        lines.append([name, *map(str, figures.values())])
        if size == max(_SIZES.values()):
            report.verdicts = [
                Verdict(f"{name}: role primary to usable", figures["usable"].median, 1, "s", most=True),
                Verdict(f"{name}: private memory", figures["private"].median, 60, "MiB", most=True),
                Verdict(f"{name}: resident memory", figures["resident"].median, 60, "MiB", most=True),
            ]
    header = ["", "`hastctl create`, s", "role primary to usable, s", "private, MiB", "resident, MiB"]
    report.blocks.append(markdown(header, lines))
    return [report]


def _start(size: int) -> dict[str, Any]:
    with scratch("tmpfs") as root:
        node = Node(root, "a")
        node.configure("none")
        make_component(node.component(), size, filled=False)
        start = time.monotonic()
        node.hastctl("create", RESOURCE)
        created = time.monotonic() - start
        with node.running():
            start = time.monotonic()
            node.become_primary()
            usable = time.monotonic() - start
            return {"create": created, "usable": usable, **memory(node.worker())}
