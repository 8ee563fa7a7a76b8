"""A node's copy of the disk: a regular file or a block device (the only I/O on it).

`Component` is the seam: the engines know nothing else of a disk, and the simulation has its own. `FileComponent` is
the real one. Everything is asked by call and answered by callback, as in `hastfs.volume`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from hastfs.errors import BusyError, ComponentError
from hastfs.ondisk.layout import METADATA_SIZE, Layout
from hastfs.resource.iopool import IOPool
from hastfs.volume import Buffer, Done, ReadDone

Piece = tuple[int, bytes]
"""A position on the component in bytes, and what is to be written there."""

LOOK_INTERVAL = 5.0
"""Seconds between two looks at what has become of the component. The same as of the cleaner: an idle worker wakes up
once for both."""

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
_BLKGETSIZE64 = 0x80081272  # linux/fs.h
_TMPFS_MAGIC = 0x01021994  # linux/magic.h
_RWF_DSYNC, _RWF_NOWAIT = os.RWF_DSYNC, os.RWF_NOWAIT
_ZERO_CHUNK = bytes(1 << 20)
_LITTLE = 256 * 1024  # bytes; what a disk has written before another thread had taken up the job
_LONG_FLUSH, _AFTER_LONG_FLUSH = 5e-3, 64  # after one of so many seconds, so many are left to threads
_ADVICE = {
    errno.ENOENT: " Is its disk mounted? To make a new component, use hastctl create.",
    errno.EROFS: " It has to be writable.",
    errno.EISDIR: " A component is a regular file or a block device.",
    errno.EACCES: " Is its file system mounted nodev? Only root may use a component.",
}
"""What to do when a component cannot be opened."""

_libc = ctypes.CDLL(None, use_errno=True)


class Component(Protocol):
    """What the engines ask of a disk. Offsets of data requests count from the start of the data area."""

    path: str
    layout: Layout

    @property
    def waiting(self) -> int:
        """Requests for data that are not done."""

    def read(self, offset: int, length: int, done: ReadDone) -> None: ...

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        """`data` is only valid during the call."""

    def zero(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        """The range reads as zeros. `allocated`: space that is reserved stays so; holes stay holes either way."""

    def flush(self, done: Done, *, idle: bool = False) -> None:
        """All writes that are done are on stable storage. `idle`: the caller has nothing else to do until then."""

    def next_data(self, offset: int) -> int:
        """The first byte at or after `offset` that is not in a hole; the data area's end if there is none."""

    def write_durable(self, pieces: Sequence[Piece], done: Done, *, flush: bool = True) -> None:
        """Metadata and map: the pieces are written in order, each on stable storage before the next (if `flush`).

        Positions count from the start of the component. Other dirty data is not dragged along (RWF_DSYNC).
        """

    def damage(self) -> str:
        """What has happened to it behind our back, as a sentence without its subject; "" if nothing has."""

    def let_go(self) -> Callable[[], None]:
        """From now on every request fails. Returns what closes it for good, which may wait for the disk."""

    def close(self) -> None:
        """What was asked for is done before; nothing happens if it was let go of."""


class Absent:
    """In place of a component that failed: nothing can be done with it."""

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.waiting = 0

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        done(errno.ENODEV, b"")

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        done(errno.ENODEV)

    def zero(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        done(errno.ENODEV)

    def flush(self, done: Done, *, idle: bool = False) -> None:
        done(errno.ENODEV)

    def next_data(self, offset: int) -> int:
        return offset

    def write_durable(self, pieces: Sequence[Piece], done: Done, *, flush: bool = True) -> None:
        done(errno.ENODEV)

    def damage(self) -> str:
        return ""

    def let_go(self) -> Callable[[], None]:
        return self.close

    def close(self) -> None:
        """There is nothing to close."""


class FileComponent:
    """A component on a regular file or a block device, opened and locked by `open_component`."""

    def __init__(self, path: str, fd: int, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self._fd = fd
        self._base = layout.localoff
        self._pool = IOPool(4, "component")
        # Data and metadata must not wait for each other: a flush of gigabytes takes seconds.
        self._metadata_pool = IOPool(1, "metadata")
        self._in_memory = _is_in_memory(fd)
        # What reads at once are done with; None where a file system does not tell whether a read would wait.
        self._read_flags: int | None = 0 if self._in_memory else _RWF_NOWAIT
        self._unflushed = 0  # bytes
        self._flushes_in_threads = 0  # how many of the next ones are to be
        self._read_room = bytearray()  # by the last read that was done at once

    @property
    def waiting(self) -> int:
        return self._pool.waiting

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        """At once if that does not mean waiting for the disk, else by a thread."""
        try:
            data = self._read_at_once(offset, length)
        except OSError as error:
            done(error.errno or errno.EIO, b"")
            return
        if data is not None:
            done(0, data)
        else:
            self._pool.submit(lambda: self._pread(length, offset), lambda result: _finish_read(result, done))

    def _read_at_once(self, offset: int, length: int) -> memoryview | None:
        """None: it would have to wait. Raises OSError."""
        if self._read_flags is None:
            return None
        if len(self._read_room) < length:
            self._read_room = bytearray(length)
        data = memoryview(self._read_room)[:length]
        try:
            count = os.preadv(self._fd, [data], self._base + offset, self._read_flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._read_flags = None
            return None
        return data if count == length else None

    def _pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, self._base + offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), self._base + offset + len(data))
            if not more:
                raise OSError(errno.EIO, f"{self.path} ends early: it was {self.layout.mediasize} bytes")
            data += more
        return data

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self._unflushed += len(data)
        try:
            _pwrite(self._fd, data, self._base + offset)
        except OSError as error:
            done(error.errno or errno.EIO)
        else:
            done(0)

    def zero(self, offset: int, length: int, done: Done, *, allocated: bool) -> None:
        self._unflushed += length
        self._pool.submit(lambda: self._zero(offset, length, allocated), lambda result: _finish(result, done))

    def _zero(self, offset: int, length: int, allocated: bool) -> None:
        mode = _ZERO_RANGE if allocated else _PUNCH_HOLE
        position, end = self._base + offset, self._base + offset + length
        while (position := self._seek(position, os.SEEK_DATA, end)) < end:
            hole = self._seek(position, os.SEEK_HOLE, end)
            if not self._fallocate(mode | _KEEP_SIZE, position, hole - position):
                self._write_zeros(position, hole)
            position = hole

    def _seek(self, position: int, whence: int, end: int) -> int:
        try:
            return min(os.lseek(self._fd, position, whence), end)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            # A block device knows of no holes: all of it is data.
            return position if whence == os.SEEK_DATA else end

    def _fallocate(self, mode: int, position: int, length: int) -> bool:
        arguments = ctypes.c_int(mode), ctypes.c_long(position), ctypes.c_long(length)
        if _libc.fallocate(self._fd, *arguments) == 0:
            return True
        code = ctypes.get_errno()
        if code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return False
        raise OSError(code, os.strerror(code))

    def _write_zeros(self, position: int, end: int) -> None:
        while position < end:
            length = min(len(_ZERO_CHUNK), end - position)
            _pwrite(self._fd, memoryview(_ZERO_CHUNK)[:length], position)
            position += length

    def flush(self, done: Done, *, idle: bool = False) -> None:
        """By a thread; at once where that is over before a thread would have begun."""
        unflushed, self._unflushed = self._unflushed, 0
        if self._in_memory:  # there is nothing to wait for
            done(0 if self._fd >= 0 else errno.EBADF)
        elif idle and unflushed <= _LITTLE and self._flushes_in_threads == 0:
            done(self._flush_at_once())
        else:
            self._flushes_in_threads = max(0, self._flushes_in_threads - 1)
            self._pool.submit(self._flush, lambda result: _finish(result, done))

    def _flush_at_once(self) -> int:
        began = time.perf_counter()
        try:
            self._flush()
        except OSError as error:
            return error.errno or errno.EIO
        if time.perf_counter() - began > _LONG_FLUSH:
            self._flushes_in_threads = _AFTER_LONG_FLUSH
        return 0

    def _flush(self) -> None:
        if self._fd < 0:  # let go of; fdatasync itself would raise ValueError
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.fdatasync(self._fd)

    def next_data(self, offset: int) -> int:
        end = self._base + self.layout.datasize
        return self._seek(self._base + offset, os.SEEK_DATA, end) - self._base

    def write_durable(self, pieces: Sequence[Piece], done: Done, *, flush: bool = True) -> None:
        flags = _RWF_DSYNC if flush else 0

        def write() -> None:
            for position, data in pieces:
                if os.pwritev(self._fd, [data], position, flags) != len(data):
                    raise OSError(errno.EIO, f"short write of metadata on {self.path}")

        self._metadata_pool.submit(write, lambda result: _finish(result, done))

    def damage(self) -> str:
        if self._fd < 0:
            return ""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        if not status.st_nlink:
            return "was deleted"
        if status.st_size < self.layout.mediasize:
            return f"was cut short: it is {status.st_size} bytes instead of {self.layout.mediasize}"
        return ""

    def let_go(self) -> Callable[[], None]:
        fd, self._fd = self._fd, -1  # whoever still comes gets EBADF: the number may soon be another file's
        return partial(self._close, fd)

    def close(self) -> None:
        """Gives up the lock, once what is under way in a thread is over: its descriptor must not be used again."""
        self._close(self._fd)
        self._fd = -1

    def _close(self, fd: int) -> None:
        if fd >= 0:
            self._pool.close()
            self._metadata_pool.close()
            os.close(fd)


def _is_in_memory(fd: int) -> bool:
    """Whether it is a file on a tmpfs, which refuses RWF_NOWAIT and never waits (but for swap).

    A block device is not: that the file system with its node in it, /dev, is a kind of tmpfs says nothing about it.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    answer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes; its first member is f_type
    return _libc.fstatfs(fd, answer) == 0 and ctypes.c_long.from_buffer(answer).value == _TMPFS_MAGIC


def _finish(result: object, done: Done) -> None:
    done((result.errno or errno.EIO) if isinstance(result, OSError) else 0)


def _finish_read(result: bytes | OSError, done: ReadDone) -> None:
    if isinstance(result, OSError):
        done(result.errno or errno.EIO, b"")
    else:
        done(0, result)


def _pwrite(fd: int, data: Buffer, position: int) -> None:
    written = os.pwrite(fd, data, position)
    while written < len(data):
        more = os.pwrite(fd, memoryview(data)[written:], position + written)
        if not more:
            raise OSError(errno.EIO, "short write")
        written += more


def open_locked(path: str) -> int:
    """A descriptor, read-write, of a component that nobody else has open (flock).

    Raises ComponentError if it cannot be opened, BusyError if it is locked.
    """
    try:
        # O_EXCL: a block device that is mounted or otherwise taken is refused by the kernel (open(2)).
        exclusive = os.O_EXCL if stat.S_ISBLK(os.stat(path).st_mode) else 0
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | exclusive)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise BusyError(f"{path} is in use: mounted, or taken by another program.") from error
        raise ComponentError(f"Unable to open {path}: {error.strerror}.{_ADVICE.get(error.errno or 0, '')}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise BusyError(f"{path} is in use: another hastd or hastctl has it locked.") from error
    return fd


def media_size(fd: int, path: str) -> int:
    """Bytes of a regular file or block device. Raises ComponentError for anything else."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return os.fstat(fd).st_size
    if stat.S_ISBLK(mode):
        size = fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8))
        return int.from_bytes(size, "little")
    raise ComponentError(f"{path} is neither a regular file nor a block device.")


def read_head(fd: int, path: str) -> bytes:
    """The metadata block, METADATA_SIZE bytes. Raises ComponentError."""
    try:
        head = os.pread(fd, METADATA_SIZE, 0)
    except OSError as error:
        raise ComponentError(f"Unable to read metadata from {path}: {error.strerror}.") from error
    if len(head) < METADATA_SIZE:
        raise ComponentError(f"{path} is too small to be a component: {len(head)} bytes.")
    return head
