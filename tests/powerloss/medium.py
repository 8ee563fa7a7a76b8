"""A disk with a volatile cache, replayed from a journal: what may be on it if the power fails now. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hastfs.model import SECTOR_SIZE
from tests.powerloss.journal import Done, Flush, Write


@dataclass(frozen=True, slots=True)
class Contents:
    """What may be on a disk: `stable`, but for some sectors, which may have other contents."""

    stable: bytes
    other: Mapping[int, Collection[bytes]]

    def include(self, component: bytes, start: int) -> bool:
        """Whether this may be on it, from byte `start` on."""
        if component[start:] == self.stable[start:]:
            return True
        return all(
            component[at : at + SECTOR_SIZE] == self.stable[at : at + SECTOR_SIZE]
            or component[at : at + SECTOR_SIZE] in self.other.get(at // SECTOR_SIZE, ())
            for at in range(start, len(component), SECTOR_SIZE)
        )


class Medium:
    """One node's disk. A write stays volatile until it is durable by itself, or until a flush that was asked for after
    it was done is done: any of its sectors may be lost, whatever becomes of other sectors, earlier or later.
    """

    def __init__(self, start: bytes) -> None:
        self._stable = bytearray(start)
        self._volatile: dict[int, dict[int, bytes]] = {}  # sector -> contents newer than the stable one, by write
        self._writes: dict[int, Write] = {}  # that are not done, or volatile
        self._done: set[int] = set()  # of these
        self._covered: dict[int, frozenset[int]] = {}  # flush that is not done -> the writes it is to make stable

    def replay(self, entry: Write | Flush | Done) -> None:
        """The next entry of this node."""
        if isinstance(entry, Write):
            self._write(entry)
        elif isinstance(entry, Flush):
            self._covered[entry.number] = frozenset(self._done)
        elif entry.number in self._covered:
            self._harden(self._covered.pop(entry.number))
        elif self._writes[entry.number].durable:
            self._done.add(entry.number)
            self._harden({entry.number})
        else:
            self._done.add(entry.number)

    def _write(self, entry: Write) -> None:
        assert entry.offset % SECTOR_SIZE == len(entry.data) % SECTOR_SIZE == 0, "not whole sectors"
        self._writes[entry.number] = entry
        for at in range(0, len(entry.data), SECTOR_SIZE):
            sector = (entry.offset + at) // SECTOR_SIZE
            self._volatile.setdefault(sector, {})[entry.number] = entry.data[at : at + SECTOR_SIZE]

    def _harden(self, numbers: Collection[int]) -> None:
        for number in sorted(set(numbers) & self._done):
            entry = self._writes.pop(number)
            self._done.discard(number)
            first = entry.offset // SECTOR_SIZE
            for sector in range(first, first + len(entry.data) // SECTOR_SIZE):
                self._harden_sector(sector, number)

    def _harden_sector(self, sector: int, number: int) -> None:
        """What is older than this write cannot come back."""
        contents = self._volatile.get(sector, {})
        if number not in contents:
            return  # a newer one is stable already
        self._stable[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE] = contents[number]
        left = {other: content for other, content in contents.items() if other > number}
        if left:
            self._volatile[sector] = left
        else:
            del self._volatile[sector]

    def contents(self) -> Contents:
        """What may be on it now."""
        return Contents(bytes(self._stable), {sector: set(some.values()) for sector, some in self._volatile.items()})

    # -- states ------------------------------------------------------------------------------------------------------

    @property
    def volatile(self) -> list[int]:
        """The sectors that may be one thing or the other."""
        return list(self._volatile)

    def nothing(self) -> bytes:
        """All that is volatile is lost."""
        return bytes(self._stable)

    def everything(self) -> bytes:
        """Nothing is lost."""
        return self._state(1.0, random.Random(0))

    def some(self, chance: random.Random) -> bytes:
        """Of the volatile sectors, some survive."""
        return self._state(chance.choice((0.1, 0.5, 0.9)), chance)

    def _state(self, surviving: float, chance: random.Random) -> bytes:
        state = bytearray(self._stable)
        for sector, contents in self._volatile.items():
            if chance.random() < surviving:
                versions = list(contents.values())
                content = versions[-1] if surviving == 1 or chance.random() < 0.5 else chance.choice(versions)
                state[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE] = content
        return bytes(state)
