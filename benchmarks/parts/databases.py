"""Commits a second of SQLite and PostgreSQL (pgbench) on ext4 on the device."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import MIB, BenchmarkError
from benchmarks.parts.io import SYSTEMS
from benchmarks.plan import Plan, Report, scratch
from benchmarks.table import Figure, markdown

_SYSTEMS = ("raw", "none", "async", "memsync", "fullsync", "qemu", "gluster")
_CLIENTS = (1, 8)


def measure(plan: Plan) -> list[Report]:
    return [_measure_on(place, plan) for place in plan.places]


def _measure_on(place: str, plan: Plan) -> Report:
    report = Report(f"Databases on ext4 on the device, components on {place}")
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    size = min(plan.size, 512 * MIB)
    for turn in range(plan.rounds):
        for name in (name for name in _SYSTEMS if not plan.systems or name in plan.systems):
            plan.say(f"{report.title}: round {turn + 1}, {name}")
            try:
                with scratch(place) as root, _file_system(name, root, size) as at:
                    found[name]["sqlite"].append(_sqlite(at, plan.seconds))
                    for what, rate in _pgbench(at, plan.seconds).items():
                        found[name][what].append(rate)
            except (BenchmarkError, OSError, sqlite3.Error) as error:
                report.blocks.append(f"{name}: {error}")
                plan.say(report.blocks[-1])
    report.raw = {name: dict(of) for name, of in found.items()}
    columns = ["sqlite", *(f"pgbench, {clients} clients" for clients in _CLIENTS)]
    lines = [[name, *(str(Figure.of(of[c])) if of[c] else "-" for c in columns)] for name, of in found.items()]
    report.blocks.append(markdown(["commits a second", *columns], lines))
    return report


@contextlib.contextmanager
def _file_system(name: str, root: Path, size: int) -> Iterator[Path]:
    (root / "s").mkdir()
    (root / "s").chmod(0o755)
    with (
        SYSTEMS[name][0](root / "s", size) as system,
        machine.loop_device(system.image) as device,
        machine.ext4(device, root / "fs") as at,
    ):
        yield at


def _sqlite(at: Path, seconds: float) -> float:
    """One row each, with the default journal and synchronous=FULL."""
    connection = sqlite3.connect(at / "db.sqlite", isolation_level=None)
    try:
        connection.execute("pragma synchronous=full")
        connection.execute("create table t (n integer, text text)")
        count, start = 0, time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            connection.execute("insert into t values (?, ?)", (count, "x" * 100))
            count += 1
        return count / passed
    finally:
        connection.close()


def _pgbench(at: Path, seconds: float) -> dict[str, float]:
    """pgbench's own transactions, scale 4."""
    data = at / "pg"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    _postgres("initdb", "-D", data, "-A", "trust", "--no-sync")
    options = f"-k {data} -c listen_addresses= -c shared_buffers=64MB -c max_wal_size=256MB"
    _postgres("pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
    try:
        client = ("pgbench", "-h", data, "-U", "postgres")
        _postgres(*client, "-i", "-q", "-s", "4", "postgres")
        found = {}
        for clients in _CLIENTS:
            said = _postgres(*client, "-c", str(clients), "-T", str(max(2, round(seconds))), "-n", "postgres")
            rate = re.search(r"tps = ([\d.]+)", said)
            if rate is None:
                raise BenchmarkError(f"pgbench says no rate: {said}")
            found[f"pgbench, {clients} clients"] = float(rate[1])
        return found
    finally:
        _postgres("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _postgres(program: str, *arguments: str | Path) -> str:
    """As its user, which has no right to the directory we are in."""
    installed = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    path = os.path.join(installed[-1], program) if installed else program
    return machine.run("runuser", "-u", "postgres", "--", path, *arguments, cwd=Path("/"))
