"""The way of a flush on the primary: both nodes, driven by callbacks as a write is."""

from __future__ import annotations

import errno
import os

from hastfs.resource.link import Link
from hastfs.resource.replica import Replica
from hastfs.volume import Done


class Flush:
    """A flush of both nodes: all writes acknowledged before it survive a power loss.

    `patient`: an application's, which may be held.
    """

    __slots__ = (
        "_acknowledged",
        "_began",
        "_done",
        "_legs",
        "_link",
        "_local_error",
        "_patient",
        "_remote_error",
        "_replica",
        "_token",
        "held_until",
    )

    def __init__(self, replica: Replica, done: Done, *, patient: bool = True) -> None:
        self._replica = replica
        self._done = done
        self._patient = patient
        self._began = replica.clock()
        self.held_until = 0.0
        self._link: Link | None = None
        self._legs = 0
        self._token = self._acknowledged = 0
        self._local_error = 0
        self._remote_error = 0

    def start(self) -> None:
        """Begins it."""
        self._replica.active += 1
        self.issue()

    def issue(self) -> None:
        """To both nodes; also again, after a wait for the only good copy to come back."""
        replica = self._replica
        if not self._patient and replica.link is None and (replica.stale or replica.fencing.held):
            self._end(errno.ENOTCONN)
            return
        if replica.hold(self):
            return
        link = self._link = replica.link
        self._local_error = self._remote_error = 0
        self._token = replica.map.flush_begun()
        self._acknowledged = replica.remote_cache.acknowledged
        self._legs = 1 if link is None or replica.detached else 2
        if link is not None:
            link.flush(self._remote_done)
            link.submit()  # the other node begins while this one is at it
        if not replica.detached:
            replica.component.flush(self._local_done, idle=replica.active == 1)

    def held_too_long(self) -> None:
        """The only good copy did not come back in time."""
        self._end(errno.EIO)

    def _local_done(self, error: int) -> None:
        self._local_error = error
        if error:
            self._replica.statistics.stat_flush_error += 1
        self._leg_done()

    def _remote_done(self, error: int) -> None:
        self._remote_error = error
        if error and error != errno.ENOTCONN:
            self._replica.telemetry.remote_errors += 1
        self._leg_done()

    def _leg_done(self) -> None:
        self._legs -= 1
        if self._legs == 0:
            if self._local_error:
                self._replica.rescue(self._replica.unable("flush", self._local_error), self._rescued)
            elif self._link is not None:
                # A write that was acknowledged before may have been refused there: then it is on record there first.
                self._link.when_told(self._finish)
            else:
                self._finish()

    def _rescued(self, again: bool) -> None:
        if again:
            self.issue()
            self._replica.submit()
        else:
            self._replica.flush_failed(self._local_error)
            self._end(errno.EIO)

    def _finish(self) -> None:
        replica, link = self._replica, self._link
        if link is not None and link is replica.link:
            if not self._remote_error:
                replica.map.flush_done(self._token)
                replica.remote_cache.flush_done(self._acknowledged)
                self._end(0)
                return
            link.drop(f"the other node cannot flush its disk ({os.strerror(self._remote_error)})")
            if replica.stale:  # that was the only good copy
                if not self._patient:
                    replica.remote_cache.flush_failed()
                self._end(errno.EIO)
                return
            replica.link_dropped()
            replica.alone.want()
        if not self._patient and replica.fencing.held:
            self._end(errno.ENOTCONN)
        elif replica.stale:
            self.issue()
            replica.submit()
        else:
            if self._patient and replica.link is None and not replica.alone.met:
                replica.alone.want()  # whatever it is that only this node may have, from now on it counts
            replica.alone.when_recorded(self._end)

    def _end(self, error: int) -> None:
        if self._patient:
            self._replica.telemetry.flush.enter(self._replica.clock() - self._began, 1)
        if self._patient and not error:
            error = self._replica.remote_cache.report()
        self._done(error)
        self._replica.request_ended()


def flush_now(replica: Replica, done: Done) -> None:
    """A flush of our own, sent at once. It is not held: whoever makes links may be waiting for it."""
    Flush(replica, done, patient=False).start()
    replica.submit()
