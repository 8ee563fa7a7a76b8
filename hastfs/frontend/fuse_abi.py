"""The part of linux/fuse.h that the express lane speaks, as bytes. Pure.

Names are those of linux/fuse.h (protocol 7.31), which is stable ABI. Every request starts with `IN_HEADER`, every
answer with `OUT_HEADER`; all numbers are in host order.
"""

from __future__ import annotations

import enum
import errno
import struct
from typing import NamedTuple

from hastfs.model import MAX_REQUEST

# Opcodes (enum fuse_opcode) of which we know more than that pyfuse3 has them. Plain numbers: an IntEnum costs the
# lane 100 ns per comparison.
FUSE_FORGET = 2
FUSE_READ = 15
FUSE_WRITE = 16
FUSE_FSYNC = 20
FUSE_INIT = 26
FUSE_INTERRUPT = 36
FUSE_BATCH_FORGET = 42
FUSE_FALLOCATE = 43

NEVER_ANSWERED = (FUSE_FORGET, FUSE_BATCH_FORGET)
"""The kernel does not wait for an answer, nor would it take one."""

FUSE_NOTIFY_RESEND = 7
"""Linux 6.9: the kernel queues again what it handed out and never got an answer to (enum fuse_notify_code)."""

FUSE_KERNEL_VERSION = 7
FUSE_KERNEL_MINOR_VERSION = 31

# Flags of INIT.
FUSE_ASYNC_READ = 1 << 0
FUSE_BIG_WRITES = 1 << 5
FUSE_DO_READDIRPLUS = 1 << 13
FUSE_ASYNC_DIO = 1 << 15
FUSE_MAX_PAGES = 1 << 22

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""

OUT_HEADER = struct.Struct("=IiQ")
"""len, error (0 or a negative errno), unique."""

REQUEST = struct.Struct("=4xIQ24x8xQI")
"""opcode and unique of `IN_HEADER`, then, if the opcode says so, offset and size of fuse_read_in or fuse_write_in."""

IO_FLAGS = struct.Struct("=32xI")
"""flags of fuse_read_in and fuse_write_in (both `IO_IN_SIZE` bytes): those that the file was opened with (O_DIRECT)."""

FALLOCATE_IN = struct.Struct("=8xQQI4x")
"""offset, length and mode of fuse_fallocate_in."""

WRITE_REPLY = struct.Struct("=IiQII")
"""OUT_HEADER and fuse_write_out (size, padding) in one."""

IO_IN_SIZE = 40
DATA_OFFSET = IN_HEADER.size + IO_IN_SIZE
"""Where the payload of a WRITE starts."""

RECEIVE_SIZE = MAX_REQUEST + 4096
"""Bytes of a buffer that every request fits in; the kernel fails a request that does not with EIO."""

_PAGE = 4096
_MAX_BACKGROUND = 128
"""Asynchronous requests the kernel has under way at most: a loop device's queue depth. FUSE's default is 12."""

_INIT_FLAGS = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES
"""Without ASYNC_DIO asynchronous direct I/O runs one request at a time. No WRITEBACK_CACHE: what a write() returned
success for must have been through the volume."""

_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")

LIBFUSE_INIT_UNIQUE = 1
"""The kernel numbers requests with even numbers: an answer to this one belongs to our own INIT."""

_MAX_ERRNO = 511
"""The kernel takes no larger errno in an answer, and would leave the request unanswered."""


def success(unique: int) -> bytes:
    """An answer that says nothing but that it worked."""
    return OUT_HEADER.pack(OUT_HEADER.size, 0, unique)


def failure(unique: int, error: int) -> bytes:
    """`error` is a positive errno; what the kernel would not take becomes EIO."""
    if not 0 < error <= _MAX_ERRNO:
        error = errno.EIO
    return OUT_HEADER.pack(OUT_HEADER.size, -error, unique)


def written(unique: int, size: int) -> bytes:
    """The answer to a WRITE of which `size` bytes were written."""
    return WRITE_REPLY.pack(WRITE_REPLY.size, 0, unique, size, 0)


def data_header(unique: int, length: int) -> bytes:
    """What goes before the `length` bytes that answer a READ."""
    return OUT_HEADER.pack(OUT_HEADER.size + length, 0, unique)


def resend_notification() -> bytes:
    """FUSE_NOTIFY_RESEND: a notification is an answer with unique 0 and its code where the error would be."""
    return OUT_HEADER.pack(OUT_HEADER.size, FUSE_NOTIFY_RESEND, 0)


def init_answer(unique: int) -> bytes:
    """Our answer to the kernel's INIT: requests of up to `MAX_REQUEST` bytes, many at a time, no write-back cache."""
    body = _INIT_OUT.pack(
        FUSE_KERNEL_VERSION,
        FUSE_KERNEL_MINOR_VERSION,
        MAX_REQUEST,  # max_readahead; the kernel takes less if it wants less
        _INIT_FLAGS,
        _MAX_BACKGROUND,
        _MAX_BACKGROUND,  # congestion_threshold
        MAX_REQUEST,  # max_write
        1,  # time_gran, ns
        MAX_REQUEST // _PAGE,  # max_pages
        0,
        0,
    )
    return data_header(unique, len(body)) + body


def init_for_libfuse() -> bytes:
    """An INIT as the kernel would send it, for a libfuse that never meets the kernel's.

    pyfuse3 insists on READDIRPLUS. Minor version 13 and no splice flags keep libfuse from splicing out of what is a
    socket; the layouts of all requests that we leave to it are the same in 13 and 31.
    """
    body = _INIT_IN.pack(FUSE_KERNEL_VERSION, 13, MAX_REQUEST, FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS)
    return IN_HEADER.pack(IN_HEADER.size + len(body), FUSE_INIT, LIBFUSE_INIT_UNIQUE, 0, 0, 0, 0, 0, 0) + body


def unique_of(answer: bytes) -> int:
    """Which request an answer answers."""
    unique: int = OUT_HEADER.unpack_from(answer)[2]
    return unique


FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10


class Zeroing(enum.Enum):
    """What a fallocate(2) mode asks of a disk."""

    PUNCH = "punch"  # zeros, the space is given back
    ZERO = "zero"  # zeros, the space stays reserved


class Allocation(NamedTuple):
    """An understood FALLOCATE mode."""

    zeroing: Zeroing
    may_grow: bool
    """Without KEEP_SIZE the file is to be as long as the range's end afterwards, which a disk cannot do."""


_ALLOCATIONS = {
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: Allocation(Zeroing.PUNCH, False),
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: Allocation(Zeroing.ZERO, False),
    FALLOC_FL_ZERO_RANGE: Allocation(Zeroing.ZERO, True),
}


def allocation(mode: int) -> Allocation | None:
    """What fallocate(2) mode `mode` means for a disk; None for modes that it has no answer to (EOPNOTSUPP)."""
    return _ALLOCATIONS.get(mode)
