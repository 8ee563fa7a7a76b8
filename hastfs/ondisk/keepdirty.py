"""The keepdirty LRU: which extents stay dirty on disk because they will probably be written again soon."""

from __future__ import annotations

from collections import OrderedDict


class KeepDirty:
    """The `limit` most recently written extents (hastctl(8), create -k)."""

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"keepdirty cannot be negative ({limit})")
        self.limit = limit
        self._recent: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, extent: int) -> bool:
        return extent in self._recent

    def __len__(self) -> int:
        return len(self._recent)

    def touch(self, extent: int) -> int | None:
        """Extent is written now. Returns the extent that is no longer among the most recent ones, if any."""
        recent = self._recent
        if extent in recent:
            recent.move_to_end(extent)
            return None
        recent[extent] = None
        return recent.popitem(last=False)[0] if len(recent) > self.limit else None

    def clear(self) -> list[int]:
        """No extent is kept any longer. Returns those that were."""
        recent = list(self._recent)
        self._recent.clear()
        return recent
