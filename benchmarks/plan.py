"""What a run is asked for, and what it has found."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_probe
from benchmarks.table import Verdict, verdicts

PLACES = {"tmpfs": "/dev/shm", "disk": "/var/tmp"}


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` of `seconds` each; empty `systems` and `rows`: all of them. `size` in bytes: of the images, at most."""

    rounds: int
    seconds: float
    size: int
    places: tuple[str, ...]
    systems: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    quick: bool = False
    probes: list[float] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Progress, for whoever waits; not part of the table."""
        self.probes.append(cpu_probe())
        print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Report:
    """One part's result: tables and remarks in markdown, verdicts, and all raw numbers for JSON."""

    title: str
    blocks: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        judged = [verdicts(self.verdicts)] if self.verdicts else []
        return "\n\n".join((f"## {self.title}", *self.blocks, *judged))


@contextlib.contextmanager
def scratch(place: str) -> Iterator[Path]:
    """An empty directory on tmpfs or the disk, gone afterwards. Its name is short: it has UNIX sockets."""
    with tempfile.TemporaryDirectory(prefix="hb-", dir=PLACES[place], ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o711)  # PostgreSQL is not root
        yield Path(path)
