"""Keys out of the bytes that a terminal sends. Pure."""

from __future__ import annotations

import enum
import re
from typing import Final


class Key(enum.Enum):
    """What a key is for."""

    QUIT = enum.auto()
    UP = enum.auto()
    DOWN = enum.auto()
    PAUSE = enum.auto()
    HELP = enum.auto()
    ESCAPE = enum.auto()


# xterm's sequences for cursor keys, in both of their modes, with and without modifiers.
_SEQUENCE: Final = re.compile(rb"\x1b(?:\[[0-9;]*([A-Za-z~])|O([A-Za-z])|)|[^\x1b]")
_FINAL: Final = {b"A": Key.UP, b"B": Key.DOWN, b"Z": Key.UP}
_SINGLE: Final = {
    b"q": Key.QUIT,
    b"Q": Key.QUIT,
    b"k": Key.UP,
    b"j": Key.DOWN,
    b"\t": Key.DOWN,
    b"p": Key.PAUSE,
    b" ": Key.PAUSE,
    b"?": Key.HELP,
    b"h": Key.HELP,
    b"\x1b": Key.ESCAPE,
}


def read(data: bytes) -> list[Key]:
    """Keys that mean nothing are left out."""
    found = (_key(match) for match in _SEQUENCE.finditer(data))
    return [key for key in found if key is not None]


def _key(match: re.Match[bytes]) -> Key | None:
    final = match[1] or match[2]
    return _FINAL.get(final) if final else _SINGLE.get(match[0])
