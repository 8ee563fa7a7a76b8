"""What applications did to the pair's disk, and so what may be on it: promise 1, sector by sector. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hastfs.model import SECTOR_SIZE

_NEVER = 1 << 62


def content(value: int) -> bytes:
    """A sector as write number `value` fills it; 0: as a discard leaves it."""
    return value.to_bytes(8, "little") * (SECTOR_SIZE // 8)


@dataclass(slots=True)
class Change:
    """A write, or (`value` 0) a discard. `began` and `ended` are places in the journal."""

    value: int
    began: int
    ended: int = _NEVER


class Application:
    """The changes of each sector that may be on disk, as far as the journal goes."""

    def __init__(self, sectors: int) -> None:
        self._possible: list[list[Change]] = [[Change(0, -1, -1)] for _ in range(sectors)]
        self._allowed = [{content(0)} for _ in range(sectors)]
        self._changes: dict[int, Change] = {}
        self._flushes: dict[int, int] = {}
        self._good: deque[bytes] = deque(maxlen=4)  # was looked at, and cannot have become wrong since
        self.acknowledged = 0
        """Changes that were acknowledged."""
        self.flushed = 0
        """Flushes that were."""

    def replay(self, at: int, mark: Mapping[str, Any]) -> Change | None:
        """The mark at place `at` of the journal; returns a change that is acknowledged by it."""
        if "begin" in mark:
            change = self._changes[mark["begin"]] = Change(mark["value"], at)
            for sector in range(mark["sector"], mark["sector"] + mark["count"]):
                self._possible[sector].append(change)
                self._allowed[sector].add(content(change.value))
        elif "end" in mark:
            change = self._changes.pop(mark["end"])
            change.ended = at
            self.acknowledged += 1
            return change
        elif "flush" in mark:
            self._flushes[mark["flush"]] = at
        elif "flushed" in mark:
            self._forget(self._flushes.pop(mark["flushed"]))
            self.flushed += 1
        return None

    def _forget(self, flush: int) -> None:
        """What was overwritten by something that was acknowledged before a flush that is over now."""
        self._good.clear()
        for sector, changes in enumerate(self._possible):
            if len(changes) == 1:
                continue
            last = max((change.began for change in changes if change.ended < flush), default=-1)
            kept = [change for change in changes if change.ended >= last or change.began == last]
            if len(kept) < len(changes):
                self._possible[sector] = kept
                self._allowed[sector] = {content(change.value) for change in kept}

    def wrong(self, data: bytes) -> str:
        """The first sector of a data area that must not be so after a power loss, in words; empty if there is none."""
        if data in self._good:
            return ""
        for sector, allowed in enumerate(self._allowed):
            found = data[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE]
            if found not in allowed:
                values = sorted(int.from_bytes(one[:8], "little") for one in allowed)
                return f"sector {sector} holds {int.from_bytes(found[:8], 'little')}, not one of {values}"
        self._good.append(data)
        return ""
