"""The kept inputs of each target, a line of hexadecimal digits each: what reaches different code, what once failed.

`corpus/TARGET.hex` is made by run.py and as small as it can be; `crashes/TARGET.hex` only grows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import hastfs
from tests.fuzz.targets import Target

_HERE = Path(__file__).parent
_PRODUCT = str(Path(hastfs.__file__).parent)

Arc = tuple[str, int, int]
"""A file, a line of it, and the one that came next in the same call (0: none)."""


def kept(target: Target) -> list[bytes]:
    """Inputs that together reach whatever is known to be reachable."""
    return _read(_file("corpus", target))


def keep(target: Target, inputs: Iterable[bytes]) -> None:
    """These from now on."""
    _write(_file("corpus", target), inputs)


def crashes(target: Target) -> list[bytes]:
    """Inputs that something was wrong with."""
    return _read(_file("crashes", target))


def add_crash(target: Target, raw: bytes) -> Path:
    """Returns the file it is kept in."""
    path = _file("crashes", target)
    _write(path, {*crashes(target), raw})
    return path


def reached(target: Target, raw: bytes) -> set[Arc]:
    """The ways through the product's code that this input takes. Raises what `check` raises."""
    arcs: set[Arc] = set()
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(_PRODUCT):
            return None
        if event in ("call", "line"):
            arcs.add((path, before.get(frame, 0), frame.f_lineno))
            before[frame] = frame.f_lineno
        elif event == "return":
            arcs.add((path, before.pop(frame, 0), 0))
        return trace

    sys.settrace(trace)
    try:
        target.check(raw)
    finally:
        sys.settrace(None)
    return arcs


def smallest(target: Target, inputs: Iterable[bytes]) -> tuple[list[bytes], set[Arc]]:
    """Of these inputs, shortest first, those that reach what no one before did; and all that is reached."""
    needed: list[bytes] = []
    arcs: set[Arc] = set()
    for raw in sorted(set(inputs), key=_size):
        more = reached(target, raw)
        if not more <= arcs:
            arcs |= more
            needed.append(raw)
    return needed, arcs


def _size(raw: bytes) -> tuple[int, bytes]:
    return len(raw), raw


def _file(folder: str, target: Target) -> Path:
    return _HERE / folder / f"{target.name}.hex"


def _read(path: Path) -> list[bytes]:
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write(path: Path, inputs: Iterable[bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = (raw.hex() for raw in sorted(inputs, key=_size))
    path.write_text("".join(f"{line}\n" for line in lines))
