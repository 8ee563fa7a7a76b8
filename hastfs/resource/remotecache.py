"""What was acknowledged while the other node has the only good copy, and may be nowhere but in that node's page cache.

If that node loses power and comes back, what was not flushed is gone, and nobody sees it: this node was up all the
time. Promise 1 is kept as a disk keeps it that loses its cache: the next flush fails.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(slots=True)
class RemoteCache:
    """Counts acknowledgements; `lost` is set when some of them may be void, and cleared by whoever reports that."""

    acknowledged: int = 0
    flushed: int = 0
    """How many of the acknowledged were followed by a flush that succeeded."""
    lost: bool = False
    _boot: int | None = None
    """Of the other node, when it went with something that was not flushed."""

    def flush_done(self, acknowledged: int, *, patient: bool) -> int:
        """The other node has flushed what was `acknowledged` before; the errno to tell an application (`patient`)."""
        self.flushed = max(self.flushed, acknowledged)
        if not (self.lost and patient):
            return 0
        self.lost = False
        return errno.EIO

    def link_down(self, boot: int) -> None:
        """The link to the node that had started as `boot` is lost."""
        if self.acknowledged > self.flushed and self._boot is None:
            self._boot = boot

    def link_up(self, boot: int) -> bool:
        """It is back, started as `boot`. Whether something may be lost."""
        before, self._boot = self._boot, None
        if before is None or before == boot != 0:
            return False
        self.flushed = self.acknowledged
        self.lost = True
        return True
