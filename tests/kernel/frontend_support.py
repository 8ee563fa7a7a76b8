"""A served image for a test, cleaned up whatever happens: mount, server processes, loop devices, file systems."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hastfs.frontend import loop, mount

TOP = Path(__file__).resolve().parents[2]
MIB = 1 << 20
PATIENCE = 20.0
"""Seconds until a process that says nothing counts as stuck."""


class Server:
    """A process that serves a mounted descriptor (`tests.kernel.frontend_volume`)."""

    def __init__(self, fuse_fd: int, backing: Path, *modes: str) -> None:
        command = [sys.executable, "-m", "tests.kernel.frontend_volume", str(fuse_fd), str(backing), *modes]
        self.process = subprocess.Popen(command, cwd=TOP, pass_fds=[fuse_fd], stdout=subprocess.PIPE, bufsize=0)
        self._said = b""
        self.wait_for_line("ready")

    def wait_for_line(self, line: str) -> None:
        said = self._line()
        assert said == line, f"the server says {said!r} instead of {line!r}"

    def kill(self) -> None:
        """SIGKILL: no chance to answer or to clean up."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGTERM: it cancels `serve`."""
        self.process.send_signal(signal.SIGTERM)

    def leave(self) -> None:
        """It takes no more requests from now on."""
        self.process.send_signal(signal.SIGUSR1)
        self.wait_for_line("leaving")

    def answer(self) -> None:
        """SIGUSR2: it answers what it kept."""
        self.process.send_signal(signal.SIGUSR2)

    def counts(self) -> dict[str, int]:
        """Waits for the end, which must be a good one; returns what the volume counted."""
        last = ""
        while (line := self._line()) != "":
            last = line
        assert self.process.wait(PATIENCE) == 0
        counted: dict[str, int] = json.loads(last)
        return counted

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _line(self) -> str:
        """The next line; empty at the end."""
        stdout = self.process.stdout
        assert stdout is not None
        while b"\n" not in self._said:
            assert select.select([stdout], [], [], PATIENCE)[0], "the server says nothing"
            piece = stdout.read(65536)
            if not piece:
                break
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()


class Image:
    """A mounted image over a backing file; `serve` starts a server for it."""

    def __init__(self, directory: Path, backing: Path, size: int) -> None:
        self.path = directory / "images" / "disk"
        self.backing = backing
        self.size = size
        with backing.open("xb") as file:
            file.truncate(size)
        self.fuse_fd = mount.open_and_mount(str(self.path))
        self.servers: list[Server] = []

    def serve(self, *modes: str) -> Server:
        server = Server(self.fuse_fd, self.backing, *modes)
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in self.servers:
            server.close()
        os.close(self.fuse_fd)  # nobody serves any more: whoever still waits gets an error
        for device in loop.find(str(self.path)):
            loop.detach(device)
        mount.unmount(str(self.path), lazy=True)
        self.backing.unlink()


@contextlib.contextmanager
def mounted_image(directory: Path, size: int = 64 * MIB) -> Iterator[Image]:
    """An image of `size` bytes on tmpfs, not served yet."""
    image = Image(directory, Path(f"/dev/shm/hastfs-test-{os.getpid()}-{directory.name}"), size)
    try:
        yield image
    finally:
        image.close()


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A loop device on the image, with direct I/O."""
    device = loop.attach(str(image))
    try:
        yield device
    finally:
        loop.detach(device)


@contextlib.contextmanager
def ext4(device: str, directory: Path) -> Iterator[Path]:
    """Makes an ext4 on the device and mounts it."""
    run("mkfs.ext4", "-q", "-F", device)
    with mounted(device, directory / "mnt") as path:
        yield path


@contextlib.contextmanager
def mounted(device: str, path: Path, *options: str) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    run("mount", *options, device, str(path))
    try:
        yield path
    finally:
        # Lazy: a test that failed may leave open files, and the image below has to be closed all the same.
        subprocess.run(["umount", "--lazy", "--quiet", str(path)], check=False, timeout=PATIENCE)


def run(*command: str) -> str:
    """Runs a program to its good end; returns what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def fio_command(target: Path, *options: str) -> list[str]:
    """A short fio run on `target` with direct I/O."""
    return [
        "fio",
        "--name=test",
        f"--filename={target}",
        "--ioengine=libaio",
        "--direct=1",
        "--output-format=terse",
        "--verify_state_save=0",
        *options,
    ]
