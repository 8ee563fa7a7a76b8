"""The systems that are measured, each behind one small interface."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class System:
    """One that runs. `image` is what an application opens; `pids` by what they do, for their CPU time."""

    name: str
    image: Path
    pids: dict[str, int] = field(default_factory=dict)


Start = Callable[[Path, int], contextlib.AbstractContextManager[System]]
"""Starts a system with a disk of (about) so many bytes, all its files below an empty directory; leaving the context
takes everything down again, also after a failure. Raises BenchmarkError if it cannot run here."""
