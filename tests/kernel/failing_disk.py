"""Disks that fail when they are told to, for real daemons to keep their components on.

`FailingDisk` is a file in a file system of its own (FUSE), served by another process, which fails or ignores the
requests it is told to. `SmallDisk` is a block device with less room behind it than it says (a loop device on a
sparse file on a tmpfs): writes succeed into the page cache, and fail when that is written back.

`python -m tests.kernel.failing_disk FD BACKING` is the process: it serves the mounted /dev/fuse descriptor FD from the
file BACKING and takes orders on its standard input, a line of JSON each, which it answers with one when they are done.
It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hastfs.frontend import mount
from hastfs.frontend.session import serve
from hastfs.volume import Buffer, Done, ReadDone
from tests.kernel.frontend_volume import FileVolume
from tests.kernel.machine import run

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
"""Seconds until a process that says nothing counts as stuck."""

_EVERYWHERE = 1 << 63


@dataclass(slots=True)
class Fault:
    """What is asked of the bytes from `start` to `end` (of a flush: anywhere) ends with `error`; `times`: so often."""

    what: list[str]
    """Of `read`, `write`, `discard` and `flush`."""
    error: int
    """errno; 0: there is no answer."""
    start: int
    end: int
    times: int

    def hits(self, what: str, offset: int, length: int) -> bool:
        inside = what == "flush" or (offset < self.end and offset + length > self.start)
        return what in self.what and self.times > 0 and inside


class FailingVolume(FileVolume):
    """The first fault that fits decides about a request."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.seen: Counter[str] = Counter()
        """Requests by what they ask; `failed` and `unanswered` are some of them."""
        self._faults: list[Fault] = []
        self._unanswered: list[Callable[[], None]] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def heal(self) -> None:
        """No faults any more; what was left unanswered is done now."""
        self._faults = []
        unanswered, self._unanswered = self._unanswered, []
        for serve_it in unanswered:
            serve_it()

    def _spared(self, what: str, offset: int, length: int, fail: Done, otherwise: Callable[[], None]) -> bool:
        """Whether nothing is wrong with the request. Otherwise it has failed, or is left for later."""
        self.seen[what] += 1
        fault = next((fault for fault in self._faults if fault.hits(what, offset, length)), None)
        if fault is None:
            return True
        fault.times -= 1
        self.seen["failed" if fault.error else "unanswered"] += 1
        if fault.error:
            fail(fault.error)
        else:
            self._unanswered.append(otherwise)
        return False

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        go_on = partial(super().read, offset, length, done)
        if self._spared("read", offset, length, lambda error: done(error, b""), go_on):
            go_on()

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        go_on = partial(super().write, offset, bytes(data), done)
        if self._spared("write", offset, len(data), done, go_on):
            go_on()

    def flush(self, done: Done) -> None:
        go_on = partial(super().flush, done)
        if self._spared("flush", 0, 0, done, go_on):
            go_on()

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        go_on = partial(super().discard, offset, length, done, allocated=allocated)
        if self._spared("discard", offset, length, done, go_on):
            go_on()


class FailingDisk:
    """A component's place: `component` is the file, of `size` bytes; what it holds is in the file `backing`."""

    def __init__(self, root: Path, size: int) -> None:
        """`root`: a folder for it alone, made here."""
        root.mkdir()
        self.backing = root / "backing"
        self.component = root / "mounted" / "component"
        with self.backing.open("xb") as file:
            file.truncate(size)
        fd = mount.open_and_mount(str(self.component))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kernel.failing_disk", str(fd), str(self.backing)],
                cwd=PROJECT,
                pass_fds=[fd],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        finally:
            os.close(fd)
        self._said = b""
        self._hear()

    def fail(
        self, *what: str, error: int = errno.EIO, start: int = 0, end: int = _EVERYWHERE, times: int = _EVERYWHERE
    ) -> None:
        """From now on what is asked (`read`, `write`, `discard`, `flush`) of these bytes ends with `error`.

        A write with RWF_DSYNC, as metadata and map are written with, is a write and a flush. What the page cache has is
        read without asking: see `forget`.
        """
        self._order("fail", asdict(Fault(list(what), error, start, end, times)))

    def hang(self, *what: str, start: int = 0, end: int = _EVERYWHERE, times: int = _EVERYWHERE) -> None:
        """From now on there is no answer, until `heal`; not even SIGKILL ends a process that waits for one."""
        self.fail(*what, error=0, start=start, end=end, times=times)

    def heal(self) -> None:
        """Nothing fails any more, and what was left unanswered is done."""
        self._order("heal", {})

    def seen(self) -> dict[str, int]:
        """Requests since the beginning: `read`, `write`, `discard`, `flush`; `failed` and `unanswered` ones of them."""
        return Counter(self._order("seen", {}))

    def forget(self) -> None:
        """Empties the page cache: what is read next is asked of the disk."""
        fd = os.open(self.component, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def let_go(self) -> None:
        """Nobody waits for this disk any longer, whatever state it is in."""
        try:
            self.heal()
        except (OSError, AssertionError):
            self.pull_out()

    def pull_out(self) -> None:
        """The disk is gone at once and for good: whatever is, or was, asked of it fails with ENOTCONN."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def close(self) -> None:
        self.pull_out()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        mount.unmount(str(self.component), lazy=True)

    def _order(self, word: str, details: dict[str, Any]) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([word, details]).encode() + b"\n")
        return self._hear()

    def _hear(self) -> dict[str, int]:
        """The next line it says."""
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            assert select.select([self._process.stdout], [], [], PATIENCE)[0], "the failing disk says nothing"
            piece = os.read(self._process.stdout.fileno(), 65536)
            assert piece, "the failing disk has ended"
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        said: dict[str, int] = json.loads(line)
        return said


class SmallDisk:
    """A block device of `size` bytes with room for `room` bytes of them."""

    def __init__(self, root: Path, size: int, room: int) -> None:
        """`root`: a folder for it alone, made here."""
        root.mkdir()
        self._tmpfs = root
        run("mount", "-t", "tmpfs", "-o", f"size={room}", "hastfs-test", root)
        try:
            with (root / "disk").open("xb") as file:
                file.truncate(size)
            self.component = Path(run("losetup", "-f", "--show", root / "disk").stdout.strip())
        except BaseException:
            run("umount", root)
            raise

    def grow(self, room: int) -> None:
        """Now there is more room behind it."""
        run("mount", "-o", f"remount,size={room}", self._tmpfs)

    def let_go(self) -> None:
        """Nobody ever waits for it."""

    def close(self) -> None:
        run("losetup", "-d", self.component, check=False)
        run("umount", "-l", self._tmpfs)


class Disks:
    """The disks of one test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[FailingDisk | SmallDisk] = []

    def failing(self, size: int) -> FailingDisk:
        disk = FailingDisk(self._root / f"disk-{len(self._made)}", size)
        self._made.append(disk)
        return disk

    def small(self, size: int, room: int) -> SmallDisk:
        disk = SmallDisk(self._root / f"disk-{len(self._made)}", size, room)
        self._made.append(disk)
        return disk

    def let_go(self) -> None:
        for disk in self._made:
            disk.let_go()

    def close(self) -> None:
        with contextlib.ExitStack() as steps:  # every step is done, also when one fails
            for disk in self._made:
                steps.callback(disk.close)


async def _obey(volume: FailingVolume, nursery: trio.Nursery) -> None:
    heard = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as orders:
        async for piece in orders:
            *lines, heard = (heard + piece).split(b"\n")
            for line in lines:
                word, details = json.loads(line)
                if word == "fail":
                    volume.add(Fault(**details))
                elif word == "heal":
                    volume.heal()
                print(json.dumps(volume.seen), flush=True)
    nursery.cancel_scope.cancel()


async def _main(fd: int, volume: FailingVolume) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, fd, volume)
        print(json.dumps({}), flush=True)
        nursery.start_soon(_obey, volume, nursery)


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), FailingVolume(sys.argv[2]))
