"""The way of a write, and of a discard, on the primary.

A request is a small state machine driven by callbacks: no task, no await. The steps are
1. its range is locked (whole sectors), and completed from the disk if it is not whole sectors,
2. its extents' bits are durable in the map,
3. it is issued to the local component and, while linked, to the other node,
4. it is acknowledged as the replication mode says,
5. both are done: the map hears how it went, the range is given back.
"""

from __future__ import annotations

import errno

from hastfs.model import SECTOR_SIZE, Replication
from hastfs.resource.link import MEMSYNC_SINCE, Link
from hastfs.resource.reads import Read
from hastfs.resource.replica import Replica
from hastfs.resource.telemetry import Sample
from hastfs.resource.waiting import all_done
from hastfs.volume import Buffer, Done, ReadDone

MAX_UNANSWERED = 16 << 20
"""Bytes: with more than this without a reply, writes are acknowledged only when the peer has done them, in any mode."""


class Write:
    """A write of `data`, or (None) a discard: zeros over `length` bytes, `allocated` if their space stays reserved."""

    # What few writes need is set when they need it: no slots, for a class can have defaults only without them.
    _data: Buffer | None
    _link: Link | None = None
    held_until = 0.0
    _legs = 0
    _local_error = 0
    _remote_error = 0
    _received = False
    _acknowledged = False
    _part: Buffer | None = None  # what `_data` was before it was completed to whole sectors
    _completed_with: Link | None = None  # the link that there was when that began
    _again = False  # whether it was issued before
    _sample: Sample | None = None  # if it is this one that is timed
    _late = False  # whether it had to wait, so that the batch it came in is over

    def __init__(
        self, replica: Replica, offset: int, length: int, data: Buffer | None, done: Done, *, allocated: bool = False
    ) -> None:
        self._replica = replica
        self._offset = offset
        self._data = data
        self._allocated = allocated
        self._done = done
        self.start = start = offset - offset % SECTOR_SIZE
        self.end = end = -(-(offset + length) // SECTOR_SIZE) * SECTOR_SIZE
        self._first = start // replica.extentsize
        self._last = (end - 1) // replica.extentsize

    def begin_timed(self, sample: Sample) -> None:
        """The same as `begin`: how long it takes, this one tells."""
        done, total = self._done, self._replica.telemetry.total

        def answered(error: int) -> None:
            sample.ended(total)
            done(error)

        self._done = answered
        self._sample = sample
        self.begin()

    def begin(self) -> None:
        """Step 1."""
        self._replica.active += 1
        self._replica.ranges.acquire_span(self)
        self._late = True

    def granted(self, _: object) -> None:
        """The range is locked (rangelock.Span)."""
        data = self._data
        if data is not None and len(data) != self.end - self.start:
            self._part = data
            self._read_sectors(self._complete_sectors)
        else:
            self._map()

    def _complete_sectors(self, error: int, sectors: Buffer) -> None:
        if error:
            self._give_up(error)
        else:
            self._overlay(sectors)
            self._map()

    def _overlay(self, sectors: Buffer) -> None:
        assert self._part is not None
        at = self._offset - self.start
        whole = bytearray(sectors)
        whole[at : at + len(self._part)] = self._part
        self._data = bytes(whole)

    def _read_sectors(self, done: ReadDone) -> None:
        self._completed_with = self._replica.link  # the one that there may be when it is read does not count
        Read(self._replica, self.start, self.end - self.start, done, for_write=True).issue()

    def _complete_again(self, error: int, sectors: Buffer) -> None:
        """From the good copy: another one than before, or it may have changed while it was away."""
        if error:
            self.held_too_long()
        else:
            self._overlay(sectors)
            self.issue()

    def _map(self) -> None:
        if self._replica.map.begin_write(self._first, self._last):
            self.issue()
        else:
            self._replica.metastore.when_durable(self._first, self._last, self._mapped)

    def _mapped(self, error: int) -> None:
        if error:
            self._replica.rescue(self._replica.unable("write the activemap to", error), self._without_map)
        else:
            self.issue()

    def _without_map(self, again: bool) -> None:
        if again and self._replica.detached:
            self.issue()
        else:
            self._replica.map.end_write(self._first, self._last, replicated=True)  # nothing was written anywhere
            self._give_up(errno.EIO)

    def _give_up(self, error: int) -> None:
        self._replica.ranges.release(self)
        self._acknowledge(error)
        self._replica.request_ended()

    # -- step 3 ----------------------------------------------------------------------------------------------------

    def issue(self) -> None:
        """Step 3; also after a wait for the only good copy to come back."""
        replica = self._replica
        if (replica.stale or replica.fencing.held) and replica.hold(self):
            return
        if self._part is not None and replica.stale and replica.link is not self._completed_with:
            self._read_sectors(self._complete_again)
            return
        link = self._link = replica.link
        if self._again:
            self._local_error = self._remote_error = 0
            self._received = False
        self._again = True
        if link is None:
            replica.writing_alone += 1
            self._legs = 1
        else:
            self._legs = 1 if replica.detached else 2
            self._send(link)
            if self._late:
                link.submit_soon()
        if replica.detached:
            return
        if self._data is None:
            self.write_locally()
        elif self._late:
            replica.write_late(self)
        else:
            replica.unwritten.append(self)  # both nodes write at the same time

    def write_locally(self) -> None:
        """The local half of step 3: of a write that came in a batch, when the batch is on its way to the other node."""
        replica = self._replica
        if self._data is None:
            length = self.end - self.start
            replica.component.zero(self.start, length, self._local_done, allocated=self._allocated)
        else:
            replica.component.write(self.start, self._data, self._local_done)

    def _send(self, link: Link) -> None:
        if self._data is not None:
            memsync = self._replica.replication is Replication.MEMSYNC and link.version >= MEMSYNC_SINCE
            link.write(self.start, self._data, self._remote_done, received=self._remote_received if memsync else None)
        elif self._allocated:
            link.write_zeros(self.start, self.end - self.start, self._remote_done)
        else:
            link.delete(self.start, self.end - self.start, self._remote_done)

    def held_too_long(self) -> None:
        """The only good copy did not come back in time, or cannot be read: nothing was written, the application hears
        of it."""
        self._replica.map.end_write(self._first, self._last, replicated=False)
        if self._replica.link is not None:  # the resync may have passed it, since its range was locked
            self._replica.out_of_sync()
        self._give_up(errno.EIO)

    def _local_done(self, error: int) -> None:
        self._legs -= 1
        if error:
            self._local_error = error
            self._count_error()
        if not self._legs:
            self._both_done()
        elif not error and self._may_acknowledge_early():
            self._acknowledge(0)

    def _count_error(self) -> None:
        if self._data is None:
            self._replica.statistics.stat_delete_error += 1
        else:
            self._replica.statistics.stat_write_error += 1

    def _remote_received(self) -> None:
        self._received = True
        if self._legs < 2 and not self._local_error and self._may_acknowledge_early():
            self._acknowledge(0)

    def _remote_done(self, error: int) -> None:
        if self._sample is not None and not error:
            self._sample.ended(self._replica.telemetry.remote)
        self._remote_error = error
        self._legs -= 1
        if not self._legs:
            self._both_done()

    # -- steps 4 and 5 ---------------------------------------------------------------------------------------------

    def _may_acknowledge_early(self) -> bool:
        """The local copy is written, the other node's reply is still to come: does the mode ask for no more?"""
        replica, link = self._replica, self._link
        if replica.replication is Replication.FULLSYNC:
            return False
        if replica.stale or replica.detaching or link is None or link.unanswered > MAX_UNANSWERED:
            return False
        return replica.replication is Replication.ASYNC or self._received

    def _both_done(self) -> None:
        """Nearly always both have it, over the link that there still is, and no more is to be said."""
        replica = self._replica
        if (
            self._link is replica.link is not None
            and not self._remote_error
            and not self._local_error
            and not replica.stale
        ):
            replica.map.end_write(self._first, self._last, replicated=True)
            replica.ranges.release(self)
            if not self._acknowledged:
                self._acknowledged = True
                self._done(0)
            replica.request_ended()
        elif self._local_error and self._remote_error in (0, errno.ENOTCONN):
            replica.rescue(replica.unable("write to", self._local_error), self._rescued)
        elif replica.detaching and self._link is not replica.link:
            # Only the local copy has it, and that may be about to go: it waits for how that ends.
            replica.rescue("", self._rescued)
        else:
            self._finish()

    def _rescued(self, again: bool) -> None:
        if again:
            if self._link is None:
                self._replica.writing_alone -= 1
            self._late = True
            self.issue()
        else:
            self._finish()

    def _finish(self) -> None:
        replica = self._replica
        linked = self._link is not None and self._link is replica.link
        if replica.stale and not linked and not self._local_error:
            # The other node has the good copy; without it, this write is as good as not written. Do it again.
            self._rescued(True)
            return
        if self._remote_error and self._remote_error != errno.ENOTCONN:
            replica.telemetry.remote_errors += 1
        done = linked and not self._remote_error and not self._local_error
        replica.map.end_write(self._first, self._last, replicated=done and not replica.detached)
        replica.ranges.release(self)
        if done:
            replica.remote_cache.acknowledged += replica.stale
            self._acknowledge(0)
            replica.request_ended()
        else:
            self._finish_alone()

    def _finish_alone(self) -> None:
        replica = self._replica
        if replica.link is not None:  # it may be a newer one than this write was sent over
            replica.out_of_sync()
        if self._local_error:
            replica.complain(replica.unable("write to", self._local_error))
        if self._local_error or replica.stale:  # stale: the good copy is the one that failed
            self._recorded(self._local_error or errno.EIO)
        else:
            replica.alone.want()
            replica.alone.when_recorded(self._recorded)

    def _recorded(self, error: int) -> None:
        if self._link is None:
            self._replica.writing_alone -= 1
        self._acknowledge(error)
        self._replica.request_ended()

    def _acknowledge(self, error: int) -> None:
        if not self._acknowledged:
            self._acknowledged = True
            self._done(error)


def discard(replica: Replica, offset: int, length: int, done: Done, *, allocated: bool) -> None:
    """The range reads as zeros: its whole sectors are discarded, the odd ends overwritten."""
    end = offset + length
    start = min(end, -(-offset // SECTOR_SIZE) * SECTOR_SIZE)
    stop = max(start, end // SECTOR_SIZE * SECTOR_SIZE)
    parts = [
        (at, size, whole)
        for at, size, whole in ((offset, start - offset, False), (start, stop - start, True), (stop, end - stop, False))
        if size
    ]
    done = all_done(done, len(parts))
    for at, size, whole in parts:
        Write(replica, at, size, None if whole else bytes(size), done, allocated=allocated).begin()
