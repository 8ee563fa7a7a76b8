"""Count before ack: before a write is acknowledged that the other node does not have, this is on record (promise 4).

The record is durable metadata: `localcnt` one higher and a new data generation, once per *stint* alone: from a start,
or from the moment the nodes are about to be told that they are the same, until the next such moment.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import secrets

import trio

from hastfs.errors import ComponentError
from hastfs.model import UNRECORDED
from hastfs.ondisk.metadata import Metadata
from hastfs.resource.metastore import Metastore
from hastfs.resource.waiting import Wakeup
from hastfs.volume import Done

log = logging.getLogger(__name__)


RETRY = 5.0
"""Seconds after which a record that failed is tried again."""


def random_id() -> int:
    """64 random bits, more than UNRECORDED: a resuid or a generation."""
    return max(secrets.randbits(64), UNRECORDED + 1)


class Alone:
    """Whether this node has data that the other has not, and whether that is on record."""

    def __init__(self, metastore: Metastore) -> None:
        self._metastore = metastore
        self._wakeup = Wakeup()
        self._waiting: list[Done] = []
        self._recorded = False
        self._failed = False  # the last attempt to record it, and nobody has asked for another since
        self._ended = False
        self._complaint = ""
        self.allowed = True
        """Whether this node may have data that the other one has not: nothing is recorded or acknowledged before."""
        self.wanted = False
        """Whether something was written in this stint that the other node does not have."""
        self.met = False
        """Whether this engine has once found the nodes to be the same. Until then, what only caches had at a crash of
        the one before may be on this node only, and no map says so."""

    def want(self) -> None:
        """Something was written, or may turn out to have been written, here only."""
        if not self.wanted:
            self.wanted = True
            self._try()

    def when_recorded(self, done: Done) -> None:
        """Calls `done(0)` when nothing is left to be recorded, `done(errno)` if that fails."""
        if self.allowed and (not self.wanted or self._recorded):
            done(0)
        elif self._ended:
            done(errno.EIO)
        else:
            self._waiting.append(done)
            self._try()

    def allow(self) -> None:
        """What waits is recorded and answered."""
        self.allowed = True
        self._try()

    def refuse(self) -> None:
        """It never will be allowed: whoever waits, or comes yet, gets an error."""
        self._ended = True
        self._answer(errno.EIO)

    def _try(self) -> None:
        self._failed = False
        self._wakeup.set()

    def new_stint(self) -> bool:
        """The nodes are about to be told that they are the same: what is written alone from now on is recorded anew.

        False, and nothing changes, while something of this stint is being recorded. What could not be recorded was not
        acknowledged, or is on both nodes by now: it needs no record any more.
        """
        if self.wanted and not self._recorded and not self._failed:
            return False
        self.wanted = self._recorded = False
        self.met = True
        return True

    def forget(self) -> None:
        """The other node has it all by now, and this one no component: nothing is written here alone any more."""
        self.wanted = False

    async def run(self) -> None:
        """The recorder; runs for ever. Whoever waits when it is cancelled gets an error.

        What could not be recorded is tried again also if nobody waits: without it, the nodes can never agree.
        """
        error = 0
        try:
            while True:
                with trio.move_on_after(RETRY if error else float("inf")):
                    await self._wakeup.wait()
                error = 0
                if self.allowed and self.wanted and not self._recorded:
                    self._failed = False
                    error = await self._record()
                    self._recorded, self._failed = not error, bool(error)
                if self.allowed:
                    self._answer(error)
        finally:
            self._ended = True
            self._answer(errno.EIO)

    def _answer(self, error: int) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(error)

    async def _record(self) -> int:
        try:
            await self._metastore.revise(_diverged)
        except ComponentError as error:
            if str(error) != self._complaint:
                log.error("%s", error)
            self._complaint = str(error)
            return errno.EIO
        self._complaint = ""
        return 0


def _diverged(metadata: Metadata) -> Metadata:
    return dataclasses.replace(
        metadata,
        resuid=metadata.resuid or random_id(),
        virgin=metadata.virgin or not metadata.resuid,
        localcnt=metadata.localcnt + 1,
        generations=metadata.generations.diverge(random_id(), used=metadata.resuid != 0),
    )
