"""What `hastctl create` makes components with, and the command that makes another one like a given one (pure)."""

from __future__ import annotations

from typing import Final

DEFAULT_EXTENTSIZE: Final = 2 * 1024 * 1024
"""Bytes (hastctl(8), -e)."""

DEFAULT_KEEPDIRTY: Final = 64
"""Extents (hastctl(8), -k)."""

_UNITS: Final = (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))


def create_command(name: str, extentsize: int = 0, keepdirty: int = 0, mediasize: int = 0) -> str:
    """For people to run. `extentsize` in bytes; 0: not known, or the default. `mediasize` in bytes; 0: as it is.

    Both nodes of a pair need extents of one size: without -e, a component made anew would be refused by the other node.
    """
    words = ["hastctl create"]
    if extentsize not in (0, DEFAULT_EXTENTSIZE):
        words.append(f"-e {_short(extentsize)}")
    if keepdirty not in (0, DEFAULT_KEEPDIRTY):
        words.append(f"-k {keepdirty}")
    if mediasize:
        words.append(f"-m {_short(mediasize)}")
    return " ".join([*words, name])


def _short(size: int) -> str:
    return next((f"{size // unit}{letter}" for letter, unit in _UNITS if size % unit == 0), str(size))
