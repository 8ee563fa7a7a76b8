"""What a recorder saw: every request of both nodes' disks and every word of the application, in one order. Pure."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Write:
    """A write of `data` at `offset` (bytes of the component) was asked for. `durable`: on stable storage when done."""

    node: int
    number: int
    offset: int
    data: bytes
    durable: bool


@dataclass(frozen=True, slots=True)
class Flush:
    """A flush of all writes that were done by now was asked for."""

    node: int
    number: int


@dataclass(frozen=True, slots=True)
class Done:
    """The request of that number was done; who asked hears of it only after this entry."""

    node: int
    number: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The application, or who drives the nodes, said something."""

    what: Any


Entry: TypeAlias = Write | Flush | Done | Mark


@dataclass(frozen=True, slots=True)
class Journal:
    """`start`: both components as they were before the first entry."""

    start: tuple[bytes, bytes]
    entries: list[Entry]

    def save(self, path: Path) -> None:
        """For `load`, in another process."""
        path.write_bytes(pickle.dumps(self))


def load(path: Path) -> Journal:
    """What `Journal.save` wrote."""
    journal = pickle.loads(path.read_bytes())
    assert isinstance(journal, Journal)
    return journal
