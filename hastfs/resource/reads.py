"""The way of a read on the primary: from the local component where that is good, else from the other node."""

from __future__ import annotations

import errno
import logging
import os

from hastfs.model import SECTOR_SIZE
from hastfs.resource.replica import Replica
from hastfs.volume import Buffer, ReadDone

log = logging.getLogger(__name__)


class Read:
    """A read of any range of bytes."""

    __slots__ = ("_done", "_length", "_offset", "_replica")

    def __init__(self, replica: Replica, offset: int, length: int, done: ReadDone) -> None:
        self._replica = replica
        self._offset = offset
        self._length = length
        self._done = done

    def issue(self) -> None:
        """Begins it; also again, after a wait for the only good copy to come back."""
        replica = self._replica
        if not replica.stale or not self._good_copy_is_remote():
            replica.component.read(self._offset, self._length, self._local_done)
        elif not replica.hold(self):
            read_remotely(replica, self._offset, self._length, self._remote_done)

    def _good_copy_is_remote(self) -> bool:
        """The local copy is being brought up to date: what of it is not yet?"""
        replica = self._replica
        return replica.link is None or replica.map.is_out_of_sync(*replica.extents(self._offset, self._length))

    def _local_done(self, error: int, data: Buffer) -> None:
        if error:
            self._local_failed(error)
        else:
            self._done(0, data)

    def _local_failed(self, error: int) -> None:
        """The local disk cannot read it: the other node can, where it has the same (promise 8)."""
        replica = self._replica
        replica.statistics.stat_read_error += 1
        if replica.link is None or replica.map.is_out_of_sync(*replica.extents(self._offset, self._length)):
            path = replica.component.path
            log.error(
                "Unable to read %d bytes at %d from %s: %s.", self._length, self._offset, path, os.strerror(error)
            )
            self._done(errno.EIO, b"")
        else:
            read_remotely(replica, self._offset, self._length, self._fallback_done)

    def _fallback_done(self, error: int, data: Buffer) -> None:
        self._done(errno.EIO if error else 0, data)

    def _remote_done(self, error: int, data: Buffer) -> None:
        if error == errno.ENOTCONN:
            self.issue()
        else:
            self._done(errno.EIO if error else 0, data)

    def held_too_long(self) -> None:
        """The only good copy did not come back in time."""
        self._done(errno.EIO, b"")


def read_remotely(replica: Replica, offset: int, length: int, done: ReadDone) -> None:
    """From the other node, in whole sectors and as many requests as it takes; ENOTCONN if the link is lost."""
    link = replica.link
    if link is None:
        done(errno.ENOTCONN, b"")
        return
    start = offset - offset % SECTOR_SIZE
    end = -(-(offset + length) // SECTOR_SIZE) * SECTOR_SIZE
    whole = bytearray(end - start)
    left = len(range(start, end, link.max_request))
    failure = 0

    def part_of(at: int, size: int) -> ReadDone:
        def part_done(error: int, data: Buffer) -> None:
            nonlocal left, failure
            left -= 1
            failure = failure or error
            if not error:
                whole[at - start : at - start + size] = data
            if not left:
                done(failure, b"" if failure else memoryview(whole)[offset - start : offset - start + length])

        return part_done

    for at in range(start, end, link.max_request):
        size = min(link.max_request, end - at)
        link.read(at, size, part_of(at, size))
    replica.submit()
