"""Looking into component files from outside: where the data is, and whether two nodes hold the same."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHUNK = 1024 * 1024


class DataArea(NamedTuple):
    """Where the disk's bytes are inside a component."""

    path: Path
    offset: int
    size: int

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """(position, bytes) of everything that is not a hole, in pieces that start at multiples of CHUNK."""
        with self.path.open("rb") as file:
            position = 0
            while position < self.size:
                position = self._next_data(file.fileno(), position)
                if position >= self.size:
                    return
                yield position, os.pread(file.fileno(), min(CHUNK, self.size - position), self.offset + position)
                position += CHUNK

    def _next_data(self, fd: int, position: int) -> int:
        """The start of the first CHUNK from `position` on that is not all hole; `size` when there is none."""
        try:
            found = os.lseek(fd, self.offset + position, os.SEEK_DATA) - self.offset
        except OSError as error:
            if error.errno == errno.EINVAL:  # a block device knows of no holes
                return position
            if error.errno != errno.ENXIO:
                raise
            return self.size
        return max(position, found // CHUNK * CHUNK)

    def digest(self) -> str:
        """Equal for equal content, however it is allocated."""
        total = hashlib.sha256()
        for position, data in self.chunks():
            if data.count(0) != len(data):
                total.update(position.to_bytes(8, "little") + data)
        return total.hexdigest()


def first_difference(one: DataArea, other: DataArea) -> str:
    """Where two data areas differ first, in words; empty when every byte is the same."""
    if one.size != other.size:
        return f"{one.path} holds {one.size} bytes of data, {other.path} {other.size}"
    mine, theirs = one.chunks(), other.chunks()
    left, right = next(mine, None), next(theirs, None)
    while left or right:
        position = min(pair[0] for pair in (left, right) if pair)
        length = min(CHUNK, one.size - position)
        here = left[1] if left and left[0] == position else bytes(length)
        there = right[1] if right and right[0] == position else bytes(length)
        if here != there:
            at = next(i for i in range(length) if here[i] != there[i])
            return (
                f"byte {position + at}: {one.path} has {here[at : at + 16].hex()}, "
                f"{other.path} {there[at : at + 16].hex()}"
            )
        if left and left[0] == position:
            left = next(mine, None)
        if right and right[0] == position:
            right = next(theirs, None)
    return ""


def allocated(path: Path) -> int:
    """Bytes of disk space that a file takes (du)."""
    return path.stat().st_blocks * 512
