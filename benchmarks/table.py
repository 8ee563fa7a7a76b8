"""The arithmetic of medians, ratios and targets, and tables in GitHub's markdown. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Figure:
    """Several measurements of one thing. Spread is the machine's noise: `low` and `high` are the extremes."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """`samples`: at least one."""
        return cls(statistics.median(samples), min(samples), max(samples), len(samples))

    def __str__(self) -> str:
        if self.rounds == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured value beside what it should be: at least (or, with `most`, at most) `bound`, in `unit`."""

    what: str
    value: float
    bound: float
    unit: str = "x"
    most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.most else self.value >= self.bound

    def cells(self) -> list[str]:
        word = "at most" if self.most else "at least"
        said = self.unit if self.unit in "x%" else f" {self.unit}"
        return [
            self.what,
            f"{number(self.value)}{said}",
            f"{word} {number(self.bound)}{said}",
            "met" if self.met else "**not met**",
        ]


VERDICT_HEADER = ("target", "measured", "wanted", "")


def number(value: float) -> str:
    """Three digits that matter; thousands of anything as k."""
    if abs(value) >= 100_000:
        return f"{value / 1000:.0f}k"
    if abs(value) >= 10_000:
        return f"{value / 1000:.1f}k"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def ratio(ours: float, theirs: float) -> float:
    """How many times as much as `theirs`; infinite beside nothing."""
    return ours / theirs if theirs else float("inf")


def best(figures: Sequence[Figure]) -> Figure | None:
    """The one with the highest median; None if there is none."""
    return max(figures, key=lambda figure: figure.median, default=None)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdicts(judged: Sequence[Verdict]) -> str:
    return markdown(VERDICT_HEADER, [verdict.cells() for verdict in judged])
