"""A volume on a plain file, and a process that serves it: the frontend's tests need no replication.

`python -m tests.kernel.frontend_volume FD BACKING MODE...` serves the mounted /dev/fuse descriptor FD until it is
unmounted or SIGTERM comes, or leaves it to another process after SIGUSR1; prints `ready` when it serves and what it
counted (JSON) when it ends. MODE: `take-over` serves on after another process, `in-order` after one that left, as on
a kernel that cannot send requests again; `mute` takes requests for data and leaves them unanswered, until SIGUSR2;
`late` answers them when the session is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from unittest import mock

import trio
import trio.testing

from hastfs.frontend.lane import Lane
from hastfs.frontend.session import serve
from hastfs.volume import Buffer, Done, ReadDone

_libc = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class FileVolume:
    """Everything happens at once, in the page cache of the backing file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        self.counts = dict.fromkeys(("reads", "writes", "flushes", "discards", "allocated", "batches", "longest"), 0)

    def _count(self, name: str, length: int = 0) -> None:
        self.counts[name] += 1
        self.counts["longest"] = max(self.counts["longest"], length)

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        self._count("reads", length)
        done(0, os.pread(self._fd, length, offset))

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self._count("writes", len(data))
        os.pwrite(self._fd, data, offset)
        done(0)

    def flush(self, done: Done) -> None:
        self._count("flushes")
        os.fdatasync(self._fd)
        done(0)

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        self._count("allocated" if allocated else "discards")
        failed = _libc.fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length))
        done(ctypes.get_errno() if failed else 0)

    def submit(self) -> None:
        self._count("batches")


class SilentVolume(FileVolume):
    """Takes everything and answers nothing until it is told to."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.unanswered: list[Callable[[], None]] = []

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        self._keep("reads", partial(done, errno.EIO, b""))

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self._keep("writes", partial(done, errno.EIO))

    def flush(self, done: Done) -> None:
        self._keep("flushes", partial(done, errno.EIO))

    def _keep(self, name: str, answer: Callable[[], None]) -> None:
        self._count(name)
        self.unanswered.append(answer)
        print("kept", flush=True)


def _refuse_to_resend(lane: Lane) -> None:
    raise OSError(errno.EINVAL, "as before Linux 6.9")


async def _serve_until_told(fd: int, volume: FileVolume, modes: list[str]) -> None:
    leave = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2) as signals:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                async for number in signals:
                    if number == signal.SIGUSR1:
                        leave.set()
                        with trio.CancelScope(shield=True):
                            await trio.testing.wait_all_tasks_blocked()
                        print("leaving", flush=True)
                    elif number == signal.SIGUSR2:
                        _answer_what_was_kept(volume)
                    else:
                        nursery.cancel_scope.cancel()

            nursery.start_soon(obey)
            async with trio.open_nursery() as serving:
                take_over = partial(serve, taking_over="take-over" in modes, in_order="in-order" in modes)
                await serving.start(partial(take_over, fd, volume, leave=leave))
                print("ready", flush=True)
            nursery.cancel_scope.cancel()


def _answer_what_was_kept(volume: FileVolume) -> None:
    if isinstance(volume, SilentVolume):
        while volume.unanswered:
            volume.unanswered.pop()()


def main(arguments: list[str]) -> None:
    fd, path, modes = int(arguments[0]), arguments[1], arguments[2:]
    volume = SilentVolume(path) if "mute" in modes or "late" in modes else FileVolume(path)
    with mock.patch.object(Lane, "resend", _refuse_to_resend) if "in-order" in modes else contextlib.nullcontext():
        trio.run(_serve_until_told, fd, volume, modes)
    if "late" in modes:
        _answer_what_was_kept(volume)
    print(json.dumps(volume.counts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
