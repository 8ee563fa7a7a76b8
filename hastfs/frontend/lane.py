"""The express lane: READ, WRITE, FSYNC and FALLOCATE between /dev/fuse and a volume, without a task per request.

A request is read, handed to the volume by call, and answered on /dev/fuse by the volume's callback, whenever that
comes. Invariants:

- a request is answered at most once, and never after `close`: by then the descriptor may be another file's;
- a READ is answered with exactly the bytes asked for, cut at the disk's end only, or with an error;
- what is not the lane's goes to `forward` byte for byte, and is answered by whoever gets it, through `answer`.

A lane that is told to leave takes no more requests and ends when all that it took are answered: what comes meanwhile
waits in the kernel for whoever serves the descriptor next.

INTERRUPT is dropped, which FUSE allows: the lane's requests end when the volume is done, and pyfuse3's handlers answer
at once. (Forwarded, libfuse would keep one that names a request of the lane for ever.)
"""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from hastfs.frontend import fuse_abi as abi
from hastfs.model import MAX_REQUEST
from hastfs.poller import poll
from hastfs.volume import Buffer, Volume

log = logging.getLogger(__name__)

_parse = abi.REQUEST.unpack_from

BATCH = 16
"""Requests per look at /dev/fuse: enough to share the price of a network send, few enough to let others run."""

BATCH_BYTES = MAX_REQUEST
"""Of requests per look: what is long goes out at once, so that the other node writes it while the next is read here."""

COPIED = 256 * 1024
"""Bytes; the payload of a longer WRITE is left in the buffer it came in, a shorter one is copied out of it.

A quarter of a buffer: what is left there takes at most four times its own length of memory, however many WRITEs a slow
peer keeps waiting.
"""

SPARE = 4
"""Buffers of a MiB that are kept for the next burst of long WRITEs."""


class Lane:
    """Serves the requests of one /dev/fuse descriptor, which must be non-blocking and stays the caller's."""

    def __init__(self, fd: int, volume: Volume, forward: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._open = True
        self._volume = volume
        self._size = volume.size
        self._forward = forward
        self._left: deque[bytearray] = deque()  # with large writes in them, the oldest first; some may be free again
        self._use_buffer(bytearray(abi.RECEIVE_SIZE))
        self._unanswered = 0
        self._last_answer: trio.Event | None = None  # there is one while somebody waits for it
        self._taking = trio.CancelScope()

    async def run(self) -> bool:
        """Serves until the file system is unmounted or its connection aborted: False. Or until it was told to `leave`
        and everything it took is answered: True.
        """
        with self._taking:
            await poll(self._fd, self.serve_batch)
            return False
        if self._unanswered:
            self._last_answer = trio.Event()
            await self._last_answer.wait()
        return True

    def leave(self) -> None:
        """Nothing more is taken."""
        self._taking.cancel()

    def close(self) -> None:
        """From now on nothing is written to the descriptor: late answers of the volume are dropped."""
        self._open = False

    def resend(self) -> None:
        """Asks the kernel for all requests again that were handed out and not answered.

        Raises OSError (EINVAL) on kernels before Linux 6.9.
        """
        os.write(self._fd, abi.resend_notification())

    def serve_batch(self) -> int | None:
        """Takes what is there, up to `BATCH` requests or a little over `BATCH_BYTES`; returns how many.

        None: the file system is gone.
        """
        served = taken = 0
        while served < BATCH and taken < BATCH_BYTES:
            try:
                length = os.readv(self._fd, self._into)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                    self._volume.submit()  # what was taken before is not left half done
                    return None
                if error.errno == errno.ENOENT:  # this request was given up in the moment it was read
                    continue
                raise
            self._serve(length)
            served += 1
            taken += length
        if served:
            self._volume.submit()
        return served

    def answer(self, message: bytes) -> None:
        """Writes one complete answer; one that nobody waits for any more is dropped."""
        self._unanswered -= 1
        if self._last_answer is not None:
            self._tell_if_last()
        if not self._open:
            return
        try:
            os.write(self._fd, message)
        except OSError as error:
            self._undeliverable(error)

    def _serve(self, length: int) -> None:
        opcode, unique, offset, size = _parse(self._request)
        self._unanswered += 1
        if opcode == abi.FUSE_WRITE:
            self._write(unique, offset, size)
        elif opcode == abi.FUSE_READ:
            self._read(unique, offset, size)
        elif opcode == abi.FUSE_FSYNC:
            self._volume.flush(partial(self._done, unique))
        elif opcode == abi.FUSE_FALLOCATE:
            self._fallocate(unique)
        elif opcode == abi.FUSE_INIT:
            self.answer(abi.init_answer(unique))
        elif opcode == abi.FUSE_INTERRUPT:
            self._one_is_over()
        else:
            self._forward(bytes(self._view[:length]))
            if opcode in abi.NEVER_ANSWERED:
                self._one_is_over()

    def _write(self, unique: int, offset: int, length: int) -> None:
        if offset + length > self._size:
            self._write_across_end(unique, offset)
            return
        data: Buffer = self._view[abi.DATA_OFFSET : abi.DATA_OFFSET + length]
        if length <= COPIED:
            data = bytes(data)
        else:
            self._leave_buffer()
        self._volume.write(offset, data, partial(self._written, unique, length))

    def _leave_buffer(self) -> None:
        """It belongs to whoever holds a view of it: the next requests are read into another one."""
        left = self._left
        left.append(self._request)
        self._view.release()
        if len(left) > SPARE and _is_free(left[SPARE]):  # and so, very likely, are those before it
            left.popleft()
        self._use_buffer(left.popleft() if _is_free(left[0]) else bytearray(abi.RECEIVE_SIZE))

    def _use_buffer(self, buffer: bytearray) -> None:
        self._request = buffer
        self._view = memoryview(buffer)
        self._into = [buffer]

    def _write_across_end(self, unique: int, offset: int) -> None:
        """As a block device does: what fits is written, and at the end there is no space."""
        room = self._size - offset
        if room <= 0:
            self.answer(abi.failure(unique, errno.ENOSPC))
            return
        data = bytes(self._view[abi.DATA_OFFSET : abi.DATA_OFFSET + room])
        (flags,) = abi.IO_FLAGS.unpack_from(self._request, abi.IN_HEADER.size)
        # Direct I/O has no short writes in FUSE (the kernel makes EIO of one), so there the error comes at once.
        done = partial(self._full, unique) if flags & os.O_DIRECT else partial(self._written, unique, room)
        self._volume.write(offset, data, done)

    def _read(self, unique: int, offset: int, length: int) -> None:
        room = self._size - offset
        if length > room:
            if room <= 0:
                self.answer(abi.success(unique))  # no bytes: the end of the file
                return
            length = room
        self._volume.read(offset, length, partial(self._data, unique, length))

    def _fallocate(self, unique: int) -> None:
        offset, length, mode = abi.FALLOCATE_IN.unpack_from(self._request, abi.IN_HEADER.size)
        asked = abi.allocation(mode)
        if asked is None:
            self.answer(abi.failure(unique, errno.EOPNOTSUPP))
            return
        room = self._size - offset
        if length > room:
            if asked.may_grow:
                self.answer(abi.failure(unique, errno.ENOSPC))
                return
            if room <= 0:
                self.answer(abi.success(unique))
                return
            length = room
        allocated = asked.zeroing is abi.Zeroing.ZERO
        self._volume.discard(offset, length, partial(self._done, unique), allocated=allocated)

    def _done(self, unique: int, error: int) -> None:
        self.answer(abi.failure(unique, error) if error else abi.success(unique))

    def _written(self, unique: int, length: int, error: int) -> None:
        self.answer(abi.failure(unique, error) if error else abi.written(unique, length))

    def _full(self, unique: int, error: int) -> None:
        self.answer(abi.failure(unique, error or errno.ENOSPC))

    def _data(self, unique: int, length: int, error: int, data: Buffer) -> None:
        if not error and len(data) != length:
            log.error("A read of %d bytes brought %d: answered with EIO.", length, len(data))
            error = errno.EIO
        if error:
            self.answer(abi.failure(unique, error))
            return
        self._one_is_over()
        if self._open:
            try:
                os.writev(self._fd, (abi.data_header(unique, length), data))
            except OSError as failure:
                self._undeliverable(failure)

    def _one_is_over(self) -> None:
        """A request is over."""
        self._unanswered -= 1
        self._tell_if_last()

    def _tell_if_last(self) -> None:
        if self._last_answer is not None and not self._unanswered:
            self._last_answer.set()

    @staticmethod
    def _undeliverable(error: OSError) -> None:
        """ENOENT: the request was aborted. ENODEV, EPERM: the file system is gone. In each case nobody waits."""
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EPERM):
            raise error


def _is_free(buffer: bytearray) -> bool:
    """Whether nobody holds a view of it any more: as long as somebody does, Python does not let its size change."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
