"""Two disks that write down what is asked of them: one process serves both nodes' components, each a file of its own
file system (FUSE), and so has one order for everything.

`python -m tests.powerloss.recorder ROOT A B` is that process: A and B are mounted /dev/fuse descriptors, ROOT is the
folder of the files behind them. What it is told on standard input becomes marks, one for each line, each answered by a
line.

The page cache hides nothing: the files are opened for direct I/O. A write with RWF_DSYNC arrives with O_DSYNC among its
flags, and nothing follows it. What takes time on a disk (flushes, durable writes) is answered a moment later, so that
whoever does not wait for it is seen not to.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from hastfs.frontend import fuse_abi as abi
from hastfs.frontend import mount
from tests.kernel.node import PROJECT
from tests.powerloss.journal import Done, Entry, Flush, Journal, Mark, Write, load

GETATTR, SETATTR, OPEN, STATFS, RELEASE, FLUSH, LSEEK = 3, 4, 14, 17, 18, 25, 46
FORGET, BATCH_FORGET = 2, 42

_ATTRIBUTES = struct.Struct("=QII6Q10I")
_OPENED = struct.Struct("=QIi")
_DIRECT_IO, _NOFLUSH, _PARALLEL_DIRECT_WRITES = 1, 1 << 5, 1 << 6
_STATISTICS = struct.Struct("=5Q4I24x")
_FSYNC_IN = struct.Struct("=8xI")
_LSEEK_IN = struct.Struct("=8xqI")
_PID_AT = 32  # of the thread that asks, in IN_HEADER

_libc = ctypes.CDLL(None, use_errno=True)

SHORTEST, LONGEST = 0.0005, 0.004
"""Seconds that a flush or a durable write takes."""


class Recorder:
    """The process's one list of entries, and what is still to be answered."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._due: list[tuple[float, int, partial[None]]] = []
        self._number = 0
        self._chance = random.Random(0)

    def number(self) -> int:
        """The next request's."""
        self._number += 1
        return self._number

    def later(self, action: partial[None]) -> None:
        """As soon as a slow disk would have done it."""
        self._number += 1
        due = time.monotonic() + self._chance.uniform(SHORTEST, LONGEST)
        heappush(self._due, (due, self._number, action))

    def next_due(self) -> float:
        """Milliseconds until `run_due` has something to do; negative: for ever."""
        return max(0.0, self._due[0][0] - time.monotonic()) * 1000 if self._due else -1

    def run_due(self) -> None:
        """Does what is due."""
        while self._due and self._due[0][0] <= time.monotonic():
            heappop(self._due)[2]()


class Disk:
    """One node's component: `fd` is /dev/fuse, `path` the file behind it."""

    def __init__(self, recorder: Recorder, node: int, fd: int, path: Path) -> None:
        self.fd = fd
        self._node = node
        self._recorder = recorder
        self._file = os.open(path, os.O_RDWR)
        self._request = bytearray(abi.RECEIVE_SIZE)

    def serve(self) -> None:
        """All requests that are there."""
        while True:
            try:
                length = os.readv(self.fd, [self._request])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                raise
            self._serve(bytes(self._request[:length]))

    def _serve(self, request: bytes) -> None:
        _, opcode, unique, *_ = abi.IN_HEADER.unpack_from(request)
        if opcode in (FORGET, BATCH_FORGET, abi.FUSE_INTERRUPT):
            return
        try:
            self._do(opcode, unique, request)
        except OSError as error:
            self._answer(abi.failure(unique, error.errno or errno.EIO))

    def _do(self, opcode: int, unique: int, request: bytes) -> None:
        if opcode == abi.FUSE_INIT:
            self._answer(abi.init_answer(unique))
        elif opcode in (GETATTR, SETATTR):
            self._succeed(unique, self._attributes())
        elif opcode == OPEN:
            self._succeed(unique, _OPENED.pack(1, _DIRECT_IO | _NOFLUSH | _PARALLEL_DIRECT_WRITES, 0))
        elif opcode in (RELEASE, FLUSH):
            self._succeed(unique)
        elif opcode == STATFS:
            self._succeed(unique, _STATISTICS.pack(0, 0, 0, 0, 0, 4096, 255, 512, 0))
        elif opcode == LSEEK:
            offset, whence = _LSEEK_IN.unpack_from(request, abi.IN_HEADER.size)
            self._succeed(unique, struct.pack("=Q", os.lseek(self._file, offset, whence)))
        elif opcode == abi.FUSE_READ:
            _, _, offset, size = abi.REQUEST.unpack_from(request)
            self._succeed(unique, os.pread(self._file, size, offset))
        elif opcode == abi.FUSE_WRITE:
            self._write(unique, request)
        elif opcode == abi.FUSE_FSYNC:
            number = self._asked(Flush(self._node, self._recorder.number()))
            self._recorder.later(partial(self._done, number, abi.success(unique)))
        elif opcode == abi.FUSE_FALLOCATE:
            self._allocate(unique, request)
        else:
            raise OSError(errno.ENOSYS, "not implemented")

    def _write(self, unique: int, request: bytes) -> None:
        _, _, offset, size = abi.REQUEST.unpack_from(request)
        (flags,) = abi.IO_FLAGS.unpack_from(request, abi.IN_HEADER.size)
        data = request[abi.DATA_OFFSET : abi.DATA_OFFSET + size]
        durable = bool(flags & os.O_DSYNC)
        number = self._asked(Write(self._node, self._recorder.number(), offset, data, durable))
        assert os.pwrite(self._file, data, offset) == size
        if durable:
            self._recorder.later(partial(self._done, number, abi.written(unique, size)))
        else:
            self._done(number, abi.written(unique, size))

    def _allocate(self, unique: int, request: bytes) -> None:
        offset, length, mode = abi.FALLOCATE_IN.unpack_from(request, abi.IN_HEADER.size)
        assert abi.allocation(mode) is not None, f"fallocate mode {mode:#x}"
        number = self._asked(Write(self._node, self._recorder.number(), offset, bytes(length), False))
        if _libc.fallocate(self._file, mode, ctypes.c_long(offset), ctypes.c_long(length)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._done(number, abi.success(unique))

    def _asked(self, entry: Write | Flush) -> int:
        self._recorder.entries.append(entry)
        return entry.number

    def _done(self, number: int, answer: bytes) -> None:
        self._recorder.entries.append(Done(self._node, number))
        self._answer(answer)

    def _succeed(self, unique: int, body: bytes = b"") -> None:
        self._answer(abi.data_header(unique, len(body)) + body)

    def _answer(self, message: bytes) -> None:
        try:
            os.write(self.fd, message)
        except OSError as error:
            if error.errno != errno.ENOENT:  # whoever asked is gone
                raise

    def _attributes(self) -> bytes:
        size = os.fstat(self._file).st_size
        numbers = (0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)
        return _ATTRIBUTES.pack(300, 0, 0, 1, size, size // 512, 0, 0, 0, *numbers)


def main(root: Path, descriptors: tuple[int, int]) -> None:
    """Serves until standard input ends; then the journal is in ROOT."""
    recorder = Recorder()
    backing = [root / name for name in ("a", "b")]
    start = (backing[0].read_bytes(), backing[1].read_bytes())
    disks = {
        fd: Disk(recorder, node, fd, path) for node, (fd, path) in enumerate(zip(descriptors, backing, strict=True))
    }
    poll = select.poll()
    for fd in (*disks, 0):
        poll.register(fd, select.POLLIN)
    rest = b""
    while True:
        for fd, _ in poll.poll(recorder.next_due()):
            if fd in disks:
                disks[fd].serve()
                continue
            said = os.read(0, 65536)
            if not said:
                Journal(start, recorder.entries).save(root / "journal")
                return
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                recorder.entries.append(Mark(json.loads(line)))
                os.write(1, b"\n")
        recorder.run_due()


class Recording:
    """A recorder at work, as who drives the nodes sees it. `components` are the files to use, a's and b's."""

    def __init__(self, root: Path, server: subprocess.Popen[bytes]) -> None:
        self._root = root
        self._server = server

    def mark(self, what: Any) -> None:
        """Puts `what` (JSON) into the journal, after all that has been done by now."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(what).encode() + b"\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == b"\n", "the recorder has ended"

    def finish(self) -> Journal:
        """Ends the recorder, and with it the disks."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        assert self._server.wait(timeout=20) == 0
        return load(self._root / "journal")


@contextlib.contextmanager
def recording(root: Path, components: tuple[Path, Path]) -> Iterator[Recording]:
    """Mounts disks that record over the component files, and begin with what is in these. `root`: an empty folder."""
    with contextlib.ExitStack() as undo:
        descriptors = []
        for name, component in zip(("a", "b"), components, strict=True):
            component.rename(root / name)
            descriptors.append(mount.open_and_mount(str(component)))
            undo.callback(mount.unmount, str(component), lazy=True)
            undo.callback(os.close, descriptors[-1])
        command = [sys.executable, "-m", "tests.powerloss.recorder", str(root), *map(str, descriptors)]
        server = undo.enter_context(
            subprocess.Popen(command, cwd=PROJECT, pass_fds=descriptors, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        undo.callback(server.kill)  # who still waits for an answer gets an error
        yield Recording(root, server)


if __name__ == "__main__":
    main(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])))
