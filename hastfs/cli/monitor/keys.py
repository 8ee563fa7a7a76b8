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
    OTHER = enum.auto()


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
}


def read(data: bytes) -> list[Key]:
    """In their order."""
    return [_key(match) for match in _SEQUENCE.finditer(data)]


def _key(match: re.Match[bytes]) -> Key:
    final = match[1] or match[2]
    return _FINAL.get(final, Key.OTHER) if final else _SINGLE.get(match[0], Key.OTHER)
