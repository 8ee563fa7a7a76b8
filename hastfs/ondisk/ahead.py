"""Marking ahead: which extents are marked dirty together with one that has to be.

Each time an extent's bit has to be set, a write waits for the disk. So neighbours that will probably be written soon
get their bits in the same update. That is always safe, since a set bit only says that the nodes may differ; what it
costs is that a crash makes the resync longer by what was marked and not written. Hence:
- behind a *sequential* writer's position, the extents that it comes to next are marked: 8, then up to 64. A writer is
  sequential if it wants the very extent at which what was last marked for it ends;
- around any other extent, the aligned *group* that it is in is marked: alone at first, and the larger the more such
  misses there have been of late, up to 256. A handful of writes here and there marks next to nothing; random writes
  all over the disk need less than 20 updates for the first 1,000 (100 GiB, 32 at a time), and soon none at all;
- neither is more than a small share of the disk.

There is no clock here: `age` is called at every look at what can be cleaned.
"""

from __future__ import annotations

from collections import OrderedDict

SMALLEST = 512
"""On a disk of fewer extents nothing is marked ahead: it has few to miss, and most of it would soon be marked."""

LARGEST_GROUP, GROUP_SHARE = 256, 200
"""Extents, and the part of the disk (one 200th), that are marked at most around a random write."""

LARGEST_STEP, STEP_SHARE = 64, 16
"""The same for those that a sequential writer comes to next; 32 of them are 64 MiB."""

_EAGERNESS = 4  # extents of a group for each miss before
_ACCELERATION = 8  # a sequential writer's next step, in terms of its last one
_STREAMS = 16  # sequential writers that are remembered


class Ahead:
    """What to mark on a disk of `nextents`. Groups and steps are powers of two; 1 means: nothing ahead."""

    def __init__(self, nextents: int, largest_group: int | None = None, largest_step: int | None = None) -> None:
        self._nextents = nextents
        shared = nextents if nextents >= SMALLEST else 0
        self._largest_group = _power_of_two(largest_group or min(LARGEST_GROUP, shared // GROUP_SHARE))
        self._largest_step = _power_of_two(largest_step or min(LARGEST_STEP, shared // STEP_SHARE))
        self._misses = 0
        self._streams: OrderedDict[int, int] = OrderedDict()  # the extent that comes next, and the last step's length

    def missed(self, extent: int) -> range:
        """A write needs the bit of `extent`, which is not set. Returns the extents to mark, `extent` among them."""
        step = self._streams.pop(extent, None)
        if step is None:
            size = min(_power_of_two(_EAGERNESS * self._misses), self._largest_group)
            self._misses += 1
            start = extent - extent % size
        else:
            size = min(step * _ACCELERATION, self._largest_step)
            start = extent
        end = min(start + size, self._nextents)
        self._streams[end] = size
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        return range(start, end)

    def age(self) -> None:
        """Some seconds have passed: what was before counts half."""
        self._misses //= 2


def _power_of_two(number: int) -> int:
    """The largest one that is not larger, and at least 1."""
    return 1 << max(number, 1).bit_length() - 1
