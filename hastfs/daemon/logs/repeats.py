"""A trouble that comes again and again is told once, and then how often: a failing disk must not fill another one.

Two lines are the same if they differ in nothing but numbers (an offset, a pid), which addresses are not. Never left
out are changes of state (lines with an event), errors of the program, and what is no trouble: less than a warning.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WINDOW = 60.0
"""Seconds in which a trouble is told once."""

MOST = 256
"""Different troubles that are remembered. The one that began first is told and forgotten if there are more."""

_NUMBER = re.compile(r"(?<![\w.:\-])\d+(?![\w\-]|[.:]\w)")


@dataclass(slots=True)
class _Trouble:
    since: float
    more: int = 0
    last: logging.LogRecord | None = None


class Repeats(logging.Filter):
    """Of one handler."""

    def __init__(self, say: Callable[[logging.LogRecord], Any], clock: Callable[[], float] = time.monotonic) -> None:
        """`say`: takes the lines that tell how often; they pass this filter. `clock` in seconds."""
        super().__init__()
        self._say = say
        self._clock = clock
        self._troubles: dict[tuple[str, int, str, str], _Trouble] = {}  # in the order in which they began
        self._lock = threading.RLock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be told now. Before it goes out what has become due."""
        if hasattr(record, "times"):
            return True
        with self._lock:
            self.tell()
            return not self._may_repeat(record) or self._is_new(record)

    def tell(self, *, all_of_them: bool = False) -> None:
        """How often things came again whose time is over: or all, when there is no later."""
        with self._lock:
            now = self._clock()
            while self._troubles:
                key, trouble = next(iter(self._troubles.items()))
                if not all_of_them and now - trouble.since < WINDOW:
                    return
                self._end(key, now)
                if trouble.more and not all_of_them:
                    self._troubles[key] = _Trouble(now)  # it goes on: not told again before the next time

    @staticmethod
    def _may_repeat(record: logging.LogRecord) -> bool:
        trouble = logging.WARNING <= record.levelno < logging.CRITICAL
        return trouble and not record.exc_info and not getattr(record, "event", "")

    def _is_new(self, record: logging.LogRecord) -> bool:
        words = _NUMBER.sub("#", record.getMessage())
        key = (record.name, record.levelno, getattr(record, "resource", ""), words)
        trouble = self._troubles.get(key)
        if trouble is not None:
            trouble.more += 1
            trouble.last = record
            return False
        now = self._clock()
        if len(self._troubles) >= MOST:
            self._end(next(iter(self._troubles)), now)
        self._troubles[key] = _Trouble(now)
        return True

    def _end(self, key: tuple[str, int, str, str], now: float) -> None:
        trouble = self._troubles.pop(key)
        if trouble.last is not None:
            self._say(_summary(trouble.last, trouble.more, now - trouble.since))


def _summary(last: logging.LogRecord, more: int, seconds: float) -> logging.LogRecord:
    """The last one's words, and how often."""
    times = "once more" if more == 1 else f"{more} more times"
    facts = getattr(last, "facts", {}) | {"times": more, "seconds": round(seconds)}
    said = {"msg": f"{last.getMessage()} ({times} in {seconds:.0f} s)", "args": None, "facts": facts, "times": more}
    return logging.makeLogRecord(last.__dict__ | said)
