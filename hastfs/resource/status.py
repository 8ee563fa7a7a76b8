"""What a worker knows of its resource, for `hastctl status` and `hastctl list`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self


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
        """The reverse of `as_dict`; raises TypeError for other keys."""
        return cls(**values)
