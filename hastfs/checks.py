"""Whether plain values (of JSON) are what they should be; what came from another process is not taken on trust.

All raise TypeError or ValueError.
"""

from __future__ import annotations

import sys
from typing import Any

_LONGEST_NAME = 64
_LONGEST_TEXT = 4096


def check_text(text: Any) -> str:
    """What a message can carry: no NUL, nothing that UTF-8 does not know."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    if "\0" in text:
        raise ValueError("a text with a NUL in it")
    text.encode()
    return text


def check_line(text: Any) -> str:
    """A word or a sentence that can be shown: one line, and nothing that a terminal would obey."""
    check_text(text)
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise ValueError(f"{text[:80]!r} is not one line of text")
    return str(text)


def check_number(number: Any, bits: int = 64) -> int:
    """Of so many bits, without a sign."""
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise ValueError(f"{number!r} is not a number of {bits} bits without a sign")
    return number


def check_real(number: Any) -> float:
    """Not negative, and no more than a float has room for."""
    if type(number) not in (int, float) or not 0 <= number <= sys.float_info.max:
        raise ValueError(f"{str(number)[:80]} is not a number from 0")
    return float(number)


def check_name(name: Any) -> str:
    """Of a count: a short identifier."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or len(name) > _LONGEST_NAME:
        raise ValueError(f"{name!r} is not the name of a count")
    return name


def check_counts(counts: Any) -> dict[str, int]:
    """Names to numbers of 64 bits."""
    if not isinstance(counts, dict):
        raise TypeError(f"{counts!r} are no counts")
    return {check_name(name): check_number(count) for name, count in counts.items()}


def check_flag(flag: Any) -> bool:
    """Yes or no."""
    if not isinstance(flag, bool):
        raise TypeError(f"{flag!r} is neither true nor false")
    return flag
