"""Short fio runs, and what of their results counts."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import BenchmarkError, run


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of load. `unit` is what its rate is told in: operations a second (`IOPS`) or `MiB/s`."""

    name: str
    options: tuple[str, ...]
    unit: str = "IOPS"

    @property
    def reads_only(self) -> bool:
        return "read" in self.name


def _random(name: str, kind: str, depth: int, *more: str) -> Row:
    return Row(name, (f"--rw={kind}", "--bs=4k", f"--iodepth={depth}", *more))


def _sequential(name: str, kind: str) -> Row:
    return Row(name, (f"--rw={kind}", "--bs=1M", "--iodepth=8"), "MiB/s")


ROWS = {
    row.name: row
    for row in (
        _random("4k write d1", "randwrite", 1),
        _random("4k write d32", "randwrite", 32),
        _random("4k write d1 fsync", "randwrite", 1, "--fsync=1"),
        _random("4k write d32 fsync", "randwrite", 32, "--fsync=1"),
        _sequential("1M write d8", "write"),
        _random("4k read d1", "randread", 1),
        _random("4k read d32", "randread", 32),
        _sequential("1M read d8", "read"),
        _random("4k mix d32", "randrw", 32, "--rwmixread=70"),
    )
}
"""The mix is 70 % reads."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`rate` in the row's unit; latencies in microseconds, of writes where there are some (without their flushes)."""

    rate: float
    mean: float
    p99: float
    p999: float
    operations: int


def measure(target: str | Path, row: Row, seconds: float) -> Measured:
    """Direct I/O by libaio on a file or device. Raises BenchmarkError if fio fails."""
    return result(
        run(*_command(target, row, "--time_based", f"--runtime={round(seconds * 1000)}ms"), timeout=seconds + 60), row
    )


def count(target: str | Path, row: Row, operations: int) -> Measured:
    """As `measure`, for so many operations."""
    return result(run(*_command(target, row, f"--number_ios={operations}")), row)


def start(target: str | Path, row: Row, seconds: float) -> subprocess.Popen[str]:
    """As `measure`, meanwhile; for `result` of what it prints."""
    argv = [str(word) for word in _command(target, row, "--time_based", f"--runtime={round(seconds * 1000)}ms")]
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _command(target: str | Path, row: Row, *limits: str) -> list[str | Path]:
    return [
        "fio",
        "--name=bench",
        f"--filename={target}",
        "--ioengine=libaio",
        "--direct=1",
        "--thread",
        *limits,
        "--randrepeat=0",  # else every run writes the very same blocks
        "--norandommap",
        "--invalidate=0",
        "--allow_file_create=0",
        "--percentile_list=99:99.9",
        "--output-format=json",
        *row.options,
    ]


def result(output: str, row: Row) -> Measured:
    """Of what fio printed."""
    try:
        job: dict[str, Any] = json.loads(output[output.index("{") :])["jobs"][0]
    except (ValueError, LookupError) as error:
        raise BenchmarkError(f"fio printed no result: {output[-200:]!r}") from error
    if job["error"]:
        raise BenchmarkError(f"fio ended with error {job['error']}")
    reads, writes = job["read"], job["write"]
    rate = reads["iops"] + writes["iops"] if row.unit == "IOPS" else (reads["bw"] + writes["bw"]) / 1024
    latencies = (writes if writes["total_ios"] else reads)["clat_ns"]
    percentiles = latencies.get("percentile", {})
    return Measured(
        rate,
        latencies["mean"] / 1000,
        percentiles.get("99.000000", 0) / 1000,
        percentiles.get("99.900000", 0) / 1000,
        reads["total_ios"] + writes["total_ios"],
    )
