"""What was acknowledged or read while the other node has the only good copy, and may be nowhere but in its page cache.

If that node loses power and comes back, what was not flushed is gone, and nobody sees it: this node was up all the
time. Promise 1 is kept as a disk keeps it that loses its cache: the next flush fails. That holds for applications, so
also if the worker is another one by then: each tells the supervisor what its successor has to know.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Risk:
    """What a successor has to know."""

    boot: int = 0
    """What was acknowledged may be only in the page cache of the other node's start of that name; 0: nothing is, or
    that node does not say how it calls its starts."""
    lost: bool = False
    """Some of it is gone, and no flush has said so."""


class RemoteCache:
    """Counts acknowledgements; some of them may be void, until that is reported. `tell` hears what changes of the risk.

    What was written before the link was made, by whomever, may be as void; that counts once applications have read it.

    `left`: by the worker before, if there was one for the same applications.
    """

    def __init__(self, left: Risk | None = None) -> None:
        self.acknowledged = 0 if left is None else 1  # whether that one's were flushed, who knows
        self.tell: Callable[[Risk], None] = lambda risk: None
        self._flushed = 0  # how many of the acknowledged were followed by a flush that succeeded
        self._risk = left or Risk()
        self._unflushed_before = False  # what that node had when the link was made, as far as this one knows
        self._shown = False  # some of that
        self._boot: int | None = self._risk.boot or None  # of the other node, when it went with something not flushed

    @property
    def lost(self) -> bool:
        """Whether the next flush of an application has to fail."""
        return self._risk.lost

    def flush_done(self, acknowledged: int) -> None:
        """The other node has flushed what was `acknowledged` before."""
        self._flushed = max(self._flushed, acknowledged)
        self._unflushed_before = self._shown = False

    def flush_failed(self) -> None:
        """The other node cannot flush, and no application knows yet: a disk says only once that something is gone."""
        if self._is_at_risk:
            self._forget()
            self._now(Risk(self._risk.boot, lost=True))

    def shown(self) -> None:
        """An application has read what the other node had, or has."""
        self._shown = self._shown or self._unflushed_before

    def report(self) -> int:
        """An application's flush succeeded, perhaps on this node alone by now; the errno to tell it after all, or 0."""
        if not self.lost:
            return 0
        self._now(Risk(self._risk.boot))
        return errno.EIO

    def link_down(self, boot: int, *, stale: bool) -> None:
        """The link to the node that had started as `boot` is lost; `stale`: it has the only good copy."""
        if not stale or not self._is_at_risk:
            self._now(Risk(lost=self.lost))
        if stale and self._boot is None:  # also without a risk: an answer to a read may be on its way
            self._boot = boot

    def link_up(self, boot: int, *, stale: bool) -> bool:
        """It is back, started as `boot`. Whether something may be lost; not if this node has caught up by itself."""
        before, self._boot = self._boot, None
        lost = stale and self._is_at_risk and before is not None and not before == boot != 0
        if lost:
            self._forget()
        self._unflushed_before = stale and boot != 0  # one of which the start is not known would be suspected each time
        self._now(Risk(boot, self.lost or lost))
        return lost

    @property
    def _is_at_risk(self) -> bool:
        return self._shown or self.acknowledged != self._flushed

    def _forget(self) -> None:
        self._flushed = self.acknowledged
        self._shown = False

    def _now(self, risk: Risk) -> None:
        if risk != self._risk:
            self._risk = risk
            self.tell(risk)
