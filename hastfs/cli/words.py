"""Sizes, rates, times and spans as people read them on a terminal, in few characters. Pure: the time is told.

Units are binary (KiB) and spelled out. The classic texts have the original's own (`output.humanize`).
"""

from __future__ import annotations

import datetime
from typing import Final

NOTHING: Final = "-"
"""For what there is not, or what is not known."""

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_LONGEST: Final = 100 * _DAY
_NOW: Final = 2.0
"""Seconds; what was asked for a moment ago is now."""


def size(count: float) -> str:
    """Bytes: `0 B`, `1.5 GiB`, `98 MiB`; at most eight characters below a thousand EiB."""
    value, unit = float(count), 0
    while round(value) >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{_short(value) if unit else round(value)} {_SIZES[unit]}"


def rate(count: float) -> str:
    """Bytes a second."""
    return f"{size(count)}/s"


def number(count: float) -> str:
    """Of anything: `950`, `9.5k`, `12M`."""
    value, unit = float(count), 0
    while round(value) >= 1000 and unit < 4:
        value, unit = value / 1000, unit + 1
    return f"{_short(value) if unit else round(value)}{' kMGT'[unit].strip()}"


def several(count: int, thing: str) -> str:
    """`1 resource`, `2 resources`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def span(seconds: float) -> str:
    """Two units at most, rounded down: `12 s`, `3 min`, `2 h 5 min`, `4 d 1 h`, `over 100 d`."""
    if seconds > _LONGEST:
        return f"over {_LONGEST // _DAY} d"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def ago(then: float | None, now: float) -> str:
    """`now`, `3 min ago`, `31 h ago`; the day (local time) if that was two days ago or more; `-` for never."""
    if then is None:
        return NOTHING
    past = now - then
    if past < _NOW:
        return "now"
    if past < 2 * _DAY:
        return f"{past // _HOUR:.0f} h ago" if past >= _HOUR else f"{span(past)} ago"
    return datetime.datetime.fromtimestamp(then).strftime("%Y-%m-%d")


def clock(when: float) -> str:
    """The time of day, local: `14:03:22`."""
    return datetime.datetime.fromtimestamp(when).strftime("%H:%M:%S")


def latency(seconds: float | None) -> str:
    """`87 us`, `1.2 ms`, `3.4 s`; `-` if there was none."""
    if seconds is None:
        return NOTHING
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if round(seconds * scale) < 1000:
            return f"{_short(seconds * scale)} {unit}"
    return f"{_short(seconds)} s"


def percent(done: float, total: float) -> str:
    """Rounded down: there are no 100 % before all is done."""
    return f"{int(1000 * done / total) / 10 if total else 100.0:.1f} %"


def _short(value: float) -> str:
    return f"{value:.1f}" if round(value, 1) < 10 else f"{value:.0f}"


def _two(major: int, unit: str, minor: int, subunit: str) -> str:
    return f"{major} {unit} {minor} {subunit}" if minor else f"{major} {unit}"
