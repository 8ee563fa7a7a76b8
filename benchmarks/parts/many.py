"""Many resources that do nothing: what they cost."""

from __future__ import annotations

import time

from benchmarks.machine import MIB, cpu_seconds, memory
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import Node, Pair
from benchmarks.table import Figure, Verdict, markdown


def measure(plan: Plan) -> list[Report]:
    count, seconds = (8, 5.0) if plan.quick else (50, 20.0)
    report = Report(f"{count} idle resources, all pairs connected")
    lines = []
    with scratch("tmpfs") as root:
        pair = Pair(root, resources=[f"r{number}" for number in range(count)])
        pair.create(24 * MIB, filled=False)
        plan.say(report.title)
        with pair.running():
            time.sleep(3)  # what follows a start is not idleness
            workers = {node.label: [node.worker(name) for name in node.resources] for node in pair.nodes}
            before = {node.label: _cpu(node, workers[node.label]) for node in pair.nodes}
            time.sleep(seconds)
            for node, role in zip(pair.nodes, ("primary", "secondary"), strict=True):
                used = (_cpu(node, workers[node.label]) - before[node.label]) / seconds * 100
                private = Figure.of([memory(pid)["private"] for pid in workers[node.label]])
                resident = Figure.of([memory(pid)["resident"] for pid in workers[node.label]])
                lines.append([role, f"{used:.2f}", str(private), str(resident), f"{memory(node.pid)['private']:.1f}"])
                report.raw[role] = {"cpu %": used, "private MiB": private.median, "resident MiB": resident.median}
                report.verdicts += [
                    Verdict(f"{role} node: CPU of {count} idle resources", used, 2, "%", most=True),
                    Verdict(f"{role} node: private memory of a worker", private.median, 12, "MiB", most=True),
                ]
    header = ["node", "CPU, % of a core in all", "private MiB of a worker", "resident MiB of a worker", "hastd, MiB"]
    report.blocks.append(markdown(header, lines))
    return [report]


def _cpu(node: Node, workers: list[int]) -> float:
    return sum(cpu_seconds(pid) for pid in (node.pid, *workers))
