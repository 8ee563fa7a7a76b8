"""What a worker knows of its resource, for `hastctl status` and `hastctl list`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

_LONGEST_NAME = 64  # characters


@dataclass(slots=True)
class Statistics:
    """Counts since the worker started; the names are those of the control protocol."""

    stat_read: int = 0
    stat_write: int = 0
    stat_delete: int = 0
    stat_flush: int = 0
    stat_activemap_update: int = 0
    stat_read_error: int = 0
    stat_write_error: int = 0
    stat_delete_error: int = 0
    stat_flush_error: int = 0

    @property
    def requests(self) -> int:
        """All that applications asked for so far (on a primary)."""
        return self.stat_read + self.stat_write + self.stat_delete + self.stat_flush

    def as_dict(self) -> dict[str, int]:
        """Name to count."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a resource. `dirty` and `extentsize` in bytes."""

    status: str
    """`complete` while connected to the other node, `degraded` while not, empty when it does not apply."""
    dirty: int
    extentsize: int
    keepdirty: int
    stats: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The reverse of `as_dict`; raises TypeError or ValueError for anything that hastctl could not be told."""
        status = cls(**values)
        check_text(status.status)
        _check_number(status.dirty, 64)
        _check_number(status.extentsize, 32)
        _check_number(status.keepdirty, 32)
        if not isinstance(status.stats, dict):
            raise TypeError(f"{status.stats!r} are no counts")
        for name, count in status.stats.items():
            if not name.isidentifier() or len(name) > _LONGEST_NAME:
                raise ValueError(f"{name!r} is not the name of a count")
            _check_number(count, 64)
        return status


def check_text(text: str) -> None:
    """Raises TypeError or ValueError for what is no text that a message can carry."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    if "\0" in text:
        raise ValueError("a text with a NUL in it")
    text.encode()


def _check_number(number: int, bits: int) -> None:
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise ValueError(f"{number!r} is not a number of {bits} bits without a sign")
