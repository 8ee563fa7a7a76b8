"""The way of a read on the primary: from the local component where that is good, else from the other node."""

from __future__ import annotations

import errno
import logging
import os

from hastfs.model import SECTOR_SIZE
from hastfs.resource.rangelock import Range
from hastfs.resource.replica import Replica
from hastfs.volume import Buffer, ReadDone

log = logging.getLogger(__name__)

_PAGE = 4096
"""Bytes; of the page cache below a component."""


class Read:
    """A read of any range of bytes; what the component cannot read is written to it anew.

    `for_write`: what a write is completed with. Without repair, which would wait for the range that is locked for that
    write; and no application has seen it.
    """

    __slots__ = ("_done", "_for_write", "_length", "_offset", "_replica", "held_until")

    def __init__(self, replica: Replica, offset: int, length: int, done: ReadDone, *, for_write: bool = False) -> None:
        self._replica = replica
        self._offset = offset
        self._length = length
        self._done = done
        self._for_write = for_write
        self.held_until = 0.0

    def issue(self) -> None:
        """Begins it; also again, after a wait for the only good copy to come back."""
        replica = self._replica
        if replica.fencing.held:  # another primary may have written it meanwhile
            replica.hold(self)
        elif not replica.stale:
            replica.component.read(self._offset, self._length, self._local_done)
        else:
            self._issue_stale()

    def _issue_stale(self) -> None:
        replica = self._replica
        if not self._good_copy_is_remote():
            replica.component.read(self._offset, self._length, self._copied_done)
        elif not replica.hold(self):
            read_remotely(replica, self._offset, self._length, self._remote_done)

    def _good_copy_is_remote(self) -> bool:
        """The local copy is being brought up to date: what of it is not yet?"""
        replica = self._replica
        if replica.detached:
            return True
        return replica.link is None or replica.map.is_out_of_sync(*replica.extents(self._offset, self._length))

    def _local_done(self, error: int, data: Buffer) -> None:
        if error:
            self._local_failed(error)
        else:
            self._done(0, data)

    def _copied_done(self, error: int, data: Buffer) -> None:
        """The local copy has it from the other node."""
        if not error and not self._for_write:
            self._replica.remote_cache.shown()
        self._local_done(error, data)

    def _local_failed(self, error: int) -> None:
        """The local disk cannot read it: the other node can, where it has the same (promise 8)."""
        replica = self._replica
        replica.statistics.stat_read_error += 1
        if replica.detached or (replica.stale and replica.link is None):  # meanwhile
            self.issue()
        elif not other_node_has(replica, self._offset, self._length):
            path = replica.component.path
            log.error(
                "Unable to read %d bytes at %d from %s: %s.", self._length, self._offset, path, os.strerror(error)
            )
            self._done(errno.EIO, b"")
        elif not self._for_write:
            Repair(replica, self._offset, self._length, error, self._fallback_done).start()
        else:
            read_remotely(replica, self._offset, self._length, self._fallback_done)

    def _fallback_done(self, error: int, data: Buffer) -> None:
        replica = self._replica
        if error and (replica.detached or (replica.stale and error == errno.ENOTCONN)):
            # Meanwhile that is the only good copy: it is worth waiting for.
            self.issue()
        else:
            self._answer(error, data)

    def _remote_done(self, error: int, data: Buffer) -> None:
        if error == errno.ENOTCONN:
            self.issue()
        else:
            self._answer(error, data)

    def _answer(self, error: int, data: Buffer) -> None:
        """It is the other node that has answered."""
        if not error and not self._for_write:
            self._replica.remote_cache.shown()
        self._done(errno.EIO if error else 0, data)

    def held_too_long(self) -> None:
        """The only good copy did not come back in time."""
        self._done(errno.EIO, b"")


class Repair:
    """The component cannot read a range: `done` gets it from the other node, then the component gets it anew.

    A disk gives a sector that it cannot read another place when it is written. Whole pages are, because the page cache
    would have to read the rest of a page that is written in part.
    """

    def __init__(self, replica: Replica, offset: int, length: int, error: int, done: ReadDone) -> None:
        self._replica = replica
        self._offset = offset
        self._length = length
        self._error = error
        self._done = done
        base = replica.component.layout.localoff
        self._start = max(0, (base + offset) // _PAGE * _PAGE - base)
        self._end = min(replica.size, -(-(base + offset + length) // _PAGE) * _PAGE - base)

    def start(self) -> None:
        """The range is locked until it is written: what an application writes meanwhile must not be overwritten."""
        self._replica.active += 1
        self._replica.ranges.acquire(self._start, self._end, self._locked)

    def _locked(self, held: Range) -> None:
        self._range = held
        if other_node_has(self._replica, self._start, self._end - self._start):
            read_remotely(self._replica, self._start, self._end - self._start, self._fetched)
        else:  # a write that had the range locked has failed, or the link is lost
            self._end_with(errno.ENOTCONN)

    def _fetched(self, error: int, data: Buffer) -> None:
        if error:
            self._end_with(error)
            return
        at = self._offset - self._start
        self._done(0, memoryview(data)[at : at + self._length])
        self._replica.component.write(self._start, data, self._written)

    def _end_with(self, error: int) -> None:
        self._over()
        self._done(error, b"")

    def _written(self, error: int) -> None:
        replica = self._replica
        path = replica.component.path
        if error:
            replica.statistics.stat_write_error += 1
            replica.rescue(replica.unable("write to", error), lambda again: None)
        else:
            log.warning(
                "Unable to read %d bytes at %d from %s: %s. They came from the other node and were written anew.",
                self._length,
                self._offset,
                path,
                os.strerror(self._error),
            )
        self._over()

    def _over(self) -> None:
        self._replica.ranges.release(self._range)
        self._replica.request_ended()


def other_node_has(replica: Replica, offset: int, length: int) -> bool:
    """Whether the other node has the right data there, and can be asked."""
    if replica.link is None:
        return False
    return replica.stale or not replica.map.is_out_of_sync(*replica.extents(offset, length))


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
