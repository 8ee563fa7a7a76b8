"""What a worker knows of its resource, for `hastctl status` and `hastctl list`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from hastfs.checks import check_counts, check_number, check_text
from hastfs.details import Details


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

    @property
    def errors(self) -> int:
        """Of this node's component."""
        return self.stat_read_error + self.stat_write_error + self.stat_delete_error + self.stat_flush_error

    def as_dict(self) -> dict[str, int]:
        """Name to count."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a resource. `dirty` and `extentsize` in bytes."""

    status: str
    """`complete` while connected to the other node, `degraded` while not, `held` as long as it must not be (fence),
    `detached` without a component; empty when it does not apply."""
    dirty: int
    extentsize: int
    keepdirty: int
    stats: dict[str, int] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    """What a worker knows of them."""

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self) | {"stats": self.stats, "details": self.details.as_plain()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The reverse of `as_dict`; raises TypeError or ValueError for anything that hastctl could not be told."""
        details = values.get("details", {})
        if not isinstance(details, dict):
            raise TypeError(f"{details!r} are no details")
        status = cls(**values | {"details": Details.from_plain(details)})
        check_text(status.status)
        check_number(status.dirty, 64)
        check_number(status.extentsize, 32)
        check_number(status.keepdirty, 32)
        check_counts(status.stats)
        return status
