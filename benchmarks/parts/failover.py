"""The primary's node dies: how long until the other one's device can be read."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import MIB, wait_until
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import RESOURCE, Node, Pair
from benchmarks.table import Figure, Verdict, markdown
from hastfs.model import Role

_HOW: dict[str, Callable[[Node], object]] = {
    "with hastctl": lambda node: node.hastctl("role", "primary", RESOURCE),
    "request alone": lambda node: node.role(Role.PRIMARY),
}


def measure(plan: Plan) -> list[Report]:
    report = Report("Failover: `role primary` to a read of /dev/hast/NAME")
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.rounds):
        for how, ask in _HOW.items():
            plan.say(f"{report.title}: round {turn + 1}, {how}")
            taken[how].append(_take_over(ask))
    report.raw = dict(taken)
    report.blocks.append(markdown(["", "seconds"], [[how, str(Figure.of(of))] for how, of in taken.items()]))
    report.verdicts = [Verdict(how, Figure.of(of).median, 0.3, "s", most=True) for how, of in taken.items()]
    return [report]


def _take_over(ask: Callable[[Node], object]) -> float:
    with scratch("tmpfs") as root:
        pair = Pair(root, device=True)
        pair.create(256 * MIB, filled=True)
        with pair.running():
            pair.a.kill()
            start = time.monotonic()
            ask(pair.b)
            wait_until(lambda: _readable(pair.b.device()), "the device can be read", interval=0.001)
            return time.monotonic() - start


def _readable(device: Path) -> bool:
    try:
        descriptor = os.open(device, os.O_RDONLY)
        try:
            return len(os.pread(descriptor, 4096, 1 * MIB)) == 4096
        finally:
            os.close(descriptor)
    except OSError:
        return False
