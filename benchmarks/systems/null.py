"""Our frontend alone, over a disk that does nothing: `python -m benchmarks.systems.null FD SIZE` serves it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from benchmarks import machine
from benchmarks.systems import System
from hastfs.frontend import mount
from hastfs.frontend.session import serve
from hastfs.volume import Buffer, Done, ReadDone

PROJECT = Path(__file__).resolve().parents[2]


class NullVolume:
    """Every request succeeds at once; all is zeros."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._zeros = memoryview(bytes(machine.MIB))

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        done(0, self._zeros[:length])

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        done(0)

    def flush(self, done: Done) -> None:
        done(0)

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        done(0)

    def submit(self) -> None:
        pass


@contextlib.contextmanager
def null(root: Path, size: int) -> Iterator[System]:
    image = root / "image"
    descriptor = mount.open_and_mount(str(image))
    with contextlib.ExitStack() as stack:
        stack.callback(machine.unmount, image)
        stack.callback(os.close, descriptor)
        argv = (sys.executable, "-m", "benchmarks.systems.null", str(descriptor), str(size))
        pid = stack.enter_context(machine.process(*argv, log=root / "log", cwd=PROJECT, inherit=(descriptor,)))
        machine.wait_until(lambda: "ready" in (root / "log").read_text(), "the null volume is served")
        yield System("null", image, {"frontend": pid})


async def _serve(descriptor: int, size: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, descriptor, NullVolume(size))
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]), int(sys.argv[2]))
