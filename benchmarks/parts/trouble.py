"""How long writes take when something else goes on. A pair in fullsync on tmpfs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import fio
from benchmarks.fio import ROWS, Measured
from benchmarks.machine import GIB, MIB
from benchmarks.parts.resync import diverge
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import RESOURCE, SYNC_BEGINS, SYNC_ENDS, Pair
from benchmarks.table import markdown, number
from hastfs.model import Role

_OTHER = "other"
_ROWS = ("4k write d1", "4k write d32")


def measure(plan: Plan) -> list[Report]:
    report = Report("Latency of writes under trouble")
    found: dict[str, dict[str, list[Measured]]] = {}
    with scratch("tmpfs") as root:
        (root / "p").mkdir()
        pair = Pair(root / "p", resources=(RESOURCE, _OTHER))
        pair.create(min(plan.size, 512 * MIB), filled=True)
        with pair.running():
            troubles: dict[str, Callable[[], AbstractContextManager[None]]] = {
                "none": contextlib.nullcontext,
                "a resync runs": lambda: _resync(pair),
                "the secondary is stopped for 50 ms every 500 ms": lambda: _stops(pair),
                "another resource is busy (4k write d32)": lambda: _busy(pair, plan),
            }
            for turn in range(plan.rounds):
                for trouble, during in troubles.items():
                    plan.say(f"{report.title}: round {turn + 1}, {trouble}")
                    for row in _ROWS:
                        with during():
                            _note(found, trouble, row, fio.measure(pair.a.image(), ROWS[row], plan.seconds))
        _over_100_gib(root, plan, found)
    report.raw = {trouble: {row: [asdict(o) for o in m] for row, m in of.items()} for trouble, of in found.items()}
    report.blocks.append(_table(found))
    return [report]


def _note(found: dict[str, dict[str, list[Measured]]], trouble: str, row: str, measured: Measured) -> None:
    found.setdefault(trouble, {}).setdefault(row, []).append(measured)


def _table(found: dict[str, dict[str, list[Measured]]]) -> str:
    header = ["trouble", *(f"{row}: {what}" for row in _ROWS for what in ("IOPS", "mean us", "p99", "p99.9"))]
    lines = []
    for trouble, of in found.items():
        cells = []
        for row in _ROWS:
            values = [(one.rate, one.mean, one.p99, one.p999) for one in of[row]]
            cells += [number(median(column)) for column in zip(*values, strict=True)]
        lines.append([trouble, *cells])
    return markdown(header, lines)


def _over_100_gib(root: Path, plan: Plan, found: dict[str, dict[str, list[Measured]]]) -> None:
    (root / "q").mkdir()
    pair = Pair(root / "q")
    pair.create(100 * GIB, filled=False)
    with pair.running():
        for _ in range(plan.rounds):
            for row in _ROWS:
                plan.say(f"Latency of writes under trouble: map updates, {row}")
                measured = fio.measure(pair.a.image(), ROWS[row], plan.seconds)
                _note(found, "every write needs the map (random over 100 GiB)", row, measured)


@contextlib.contextmanager
def _resync(pair: Pair) -> Iterator[None]:
    """It may be over before the measurement is."""
    diverge(pair, os.getpid())
    begins, ends = pair.a.said(SYNC_BEGINS), pair.a.said(SYNC_ENDS)
    pair.b.role(Role.SECONDARY)
    pair.a.wait_said(SYNC_BEGINS, begins)
    yield
    pair.a.wait_said(SYNC_ENDS, ends)


@contextlib.contextmanager
def _stops(pair: Pair) -> Iterator[None]:
    worker = pair.b.worker()
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.wait(0.45):
            os.kill(worker, signal.SIGSTOP)
            over.wait(0.05)
            os.kill(worker, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _busy(pair: Pair, plan: Plan) -> Iterator[None]:
    neighbour = fio.start(pair.a.image(_OTHER), ROWS["4k write d32"], plan.seconds + 2)
    try:
        yield
    finally:
        neighbour.terminate()
        neighbour.communicate()
