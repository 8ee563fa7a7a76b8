"""Count before ack: before a write is acknowledged that the other node does not have, this is on record (promise 4).

The record is durable metadata: `localcnt` one higher and a new data generation, once per *stint* alone (from a start
or from the loss of the link until the next link).
"""

from __future__ import annotations

import errno
import logging
import secrets
from typing import Any

from hastfs.errors import ComponentError
from hastfs.resource.metastore import Metastore
from hastfs.resource.waiting import Wakeup
from hastfs.volume import Done

log = logging.getLogger(__name__)


def random_id() -> int:
    """64 random bits, never 0: a resuid or a generation."""
    return secrets.randbits(64) or 1


class Alone:
    """Whether this node has data that the other has not, and whether that is on record."""

    def __init__(self, metastore: Metastore) -> None:
        self._metastore = metastore
        self._wakeup = Wakeup()
        self._waiting: list[Done] = []
        self._stint = 0
        self._wanted_stint = -1
        self._recorded_stint = -1

    @property
    def wanted(self) -> bool:
        """Whether something was written in this stint that the other node does not have."""
        return self._wanted_stint == self._stint

    @property
    def recorded(self) -> bool:
        """Whether that is durable."""
        return self._recorded_stint == self._stint

    def want(self) -> None:
        """Something was written, or may turn out to have been written, here only."""
        if not self.wanted:
            self._wanted_stint = self._stint
            self._wakeup.set()

    def when_recorded(self, done: Done) -> None:
        """Calls `done(0)` when nothing is left to be recorded, `done(errno)` if that fails."""
        if not self.wanted or self.recorded:
            done(0)
        else:
            self._waiting.append(done)
            self._wakeup.set()

    def new_stint(self) -> None:
        """The nodes are linked: what happens after the next loss of the link is to be recorded anew."""
        self._stint += 1

    async def run(self) -> None:
        """The recorder; runs for ever."""
        while True:
            await self._wakeup.wait()
            if self.wanted and not self.recorded:
                stint = self._stint
                error = await self._record()
                if not error:
                    self._recorded_stint = stint
            else:
                error = 0
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done(error)

    async def _record(self) -> int:
        metadata = self._metastore.metadata
        changes: dict[str, Any] = {
            "localcnt": metadata.localcnt + 1,
            "generations": metadata.generations.diverge(random_id()),
        }
        if not metadata.resuid:
            changes["resuid"] = random_id()
        try:
            await self._metastore.update(**changes)
        except ComponentError as error:
            log.error("%s", error)
            return errno.EIO
        return 0
