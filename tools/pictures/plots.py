#!/usr/bin/env python3
"""Draws docs/pictures/benchmarks.svg from the tables of docs/performance.md: the figures are written down once, there.

usage: tools/pictures/plots.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from draw import PICTURES, Picture

PERFORMANCE = PICTURES.parent / "performance.md"

BARS = (
    ("tmpfs, image", "tmpfs", -2),
    ("tmpfs, loop", "tmpfs", -1),
    ("disk, image", "disk", -2),
    ("disk, loop", "disk", -1),
)
"""What a bar is called, whose components, and the column of the table with the ratio to the best peer."""

_LEFT, _SCALE, _BAR, _GAP = 130, 170, 9, 14  # pixels: of the names, of a ratio of 1, of a bar, between two groups
_MOST = 3.2
"""The ratio at the right edge."""


def tables(page: str) -> dict[str, dict[str, list[str]]]:
    """The cells of the two tables by `tmpfs` and `disk`, then by row; the first cell is the raw file's."""
    found: dict[str, dict[str, list[str]]] = {}
    for where, opening in (("tmpfs", "Components on tmpfs"), ("disk", "Components on the disk")):
        lines = page[page.index(opening) :].splitlines()
        begin = next(number for number, line in enumerate(lines) if line.startswith("| --- "))
        rows = (line for line in lines[begin + 1 :])
        found[where] = {}
        for line in rows:
            if not line.startswith("|"):
                break
            name, *cells = re.split(r" *\| *", line.strip("| \n"))
            found[where][name] = cells
    return found


def benchmarks(page: str) -> Picture:
    """How many times as fast as the best peer, for every kind of load; a bar beyond the line at 1 is ahead."""
    figures = tables(page)
    names = list(figures["tmpfs"])
    group = len(BARS) * _BAR + _GAP
    height = 64 + len(names) * group
    picture = Picture(int(_LEFT + _MOST * _SCALE) + 60, height, "fullsync beside its best peer")
    picture.text(
        _LEFT, 20, "fullsync, times as fast as the best of QEMU and GlusterFS (docs/performance.md)", small=False
    )
    for number, (title, _, _) in enumerate(BARS):
        picture.bar(_LEFT + 120 * number, 32, 10, 10, f"series{number}")
        picture.text(_LEFT + 120 * number + 16, 42, title)
    for tick in (0, 1, 2, 3):
        x = _LEFT + tick * _SCALE
        picture.line(x, 52, x, height - 10)
        picture.text(x + 3, height - 2, f"{tick}")
    for row, name in enumerate(names):
        top = 58 + row * group
        picture.text(_LEFT - 8, top + len(BARS) * _BAR / 2 + 4, name, anchor="end")
        for number, (_, where, column) in enumerate(BARS):
            ratio = float(figures[where][name][column])
            picture.bar(_LEFT, top + number * _BAR, round(min(ratio, _MOST) * _SCALE), _BAR - 1, f"series{number}")
            picture.text(_LEFT + min(ratio, _MOST) * _SCALE + 4, top + number * _BAR + 8, f"{ratio:.2f}", tiny=True)
    return picture


def main() -> None:
    (PICTURES / "benchmarks.svg").write_text(benchmarks(PERFORMANCE.read_text()).svg())


if __name__ == "__main__":
    main()
