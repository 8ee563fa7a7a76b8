"""A plain file: what the ground itself can do. (Through a loop device it is the limit of all that have one.)"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import fill
from benchmarks.systems import System


@contextlib.contextmanager
def raw(root: Path, size: int) -> Iterator[System]:
    image = root / "image"
    fill(image, size)
    yield System("raw", image)
