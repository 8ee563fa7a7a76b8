"""What a check found, in words. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Level(enum.Enum):
    OK = "ok"
    WARNING = "warning"
    """It works, but perhaps not as wanted."""
    PROBLEM = "problem"
    """It would not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    check: str
    """What was looked at: a stable word (docs/check.md)."""
    text: str
    """A sentence."""
    remedy: str = ""
    """The command that helps, if there is one."""

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"level": self.level.value, "check": self.check, "text": self.text, "remedy": self.remedy}


def ok(check: str, text: str) -> Finding:
    return Finding(Level.OK, check, text)


def warning(check: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, check, text, remedy)


def problem(check: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.PROBLEM, check, text, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """OK if there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
