"""A component on a disk that fails on demand: a file in a file system of its own (FUSE), served by another process.

`python -m tests.interop.failing_disk FD BACKING FAULTS` is that process: it serves the mounted /dev/fuse descriptor FD
from the file BACKING. FAULTS is a file of JSON, an errno for each of `write`, `discard`, `flush` and `read` that is to
fail now. Writes to metadata and map never fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from hastfs.frontend import mount
from hastfs.frontend.session import serve
from hastfs.volume import Buffer, Done, ReadDone
from tests.interop.component import LOCALOFF, State
from tests.kernel.frontend_volume import FileVolume
from tests.kernel.node import PROJECT


class FailingVolume(FileVolume):
    def __init__(self, path: str, faults: Path) -> None:
        super().__init__(path)
        self._faults = faults

    def _fault(self, what: str) -> int:
        return int(json.loads(self._faults.read_text()).get(what, 0))

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        if offset >= LOCALOFF and (error := self._fault("read")):
            done(error, b"")
        else:
            super().read(offset, length, done)

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        if offset >= LOCALOFF and (error := self._fault("write")):
            done(error)
        else:
            super().write(offset, data, done)

    def flush(self, done: Done) -> None:
        if error := self._fault("flush"):
            done(error)
        else:
            super().flush(done)

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        if error := self._fault("discard"):
            done(error)
        else:
            super().discard(offset, length, done, allocated=allocated)


class FailingDisk:
    """`component` is the file; what `fail` says holds for what is asked of it from then on."""

    def __init__(self, component: Path, faults: Path) -> None:
        self.component = component
        self._faults = faults

    def fail(self, **errors: int) -> None:
        """Nothing fails but these."""
        self._faults.write_text(json.dumps(errors))


@contextlib.contextmanager
def failing_disk(root: Path, state: State) -> Iterator[FailingDisk]:
    """Serves a component with `state` on it. `root` is an empty folder."""
    backing, faults, component = root / "backing", root / "faults", root / "mounted" / "component"
    state.write(backing)
    disk = FailingDisk(component, faults)
    disk.fail()
    fd = mount.open_and_mount(str(component))
    command = [sys.executable, "-m", "tests.interop.failing_disk", str(fd), str(backing), str(faults)]
    try:
        with subprocess.Popen(command, cwd=PROJECT, pass_fds=[fd], stdout=subprocess.PIPE) as server:
            os.close(fd)
            fd = -1
            assert server.stdout is not None
            try:
                assert server.stdout.readline() == b"ready\n"
                yield disk
            finally:
                server.kill()  # who still waits for an answer gets an error
    finally:
        if fd >= 0:
            os.close(fd)
        mount.unmount(str(component), lazy=True)


async def _serve(fd: int, volume: FailingVolume) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, fd, volume)
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]), FailingVolume(sys.argv[2], Path(sys.argv[3])))
