"""What keeps a disk busy: fio that verifies what it wrote, and files whose every fsync is remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol

from tests.kernel.machine import run

MIB = 1024 * 1024

_ENDED_BY_SIGNAL = 128  # fio's exit code, whatever it found; its report tells that


class Place(Protocol):
    """Where a load leaves its files, and who waits for its end at the latest."""

    @property
    def root(self) -> Path: ...

    @property
    def users(self) -> list[subprocess.Popen[bytes]]: ...


class Fio:
    """Random writes of 4 to 64 KiB, each pass over the range read back and verified, until `seconds` are over."""

    def __init__(
        self, target: Path, place: Place, *, seconds: int, offset: int = 0, size: int = 16 * MIB, rate: str = "24m"
    ) -> None:
        """`offset` and `size` are bytes of the target, `rate` is bytes a second of the writes and of the reads."""
        self.longest_stall = 0.0
        """Seconds that one request took, known after `finish`."""
        self.written = 0
        """Bytes, known after `finish`."""
        self._report = place.root / f"fio-{target.name}.json"
        self._longest = seconds + 40
        self._process = subprocess.Popen(
            [
                *("fio", "--name=load", f"--filename={target}", "--rw=randwrite", "--bsrange=4k-64k"),
                *(f"--offset={offset}", f"--size={size}", f"--runtime={seconds}", "--loops=10000"),
                *("--ioengine=libaio", "--iodepth=8", "--direct=1", f"--rate={rate}"),
                *("--verify=crc32c", "--verify_fatal=1", "--output-format=json", f"--output={self._report}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=place.root,  # fio leaves a state file there when verification fails
        )
        place.users.append(self._process)

    def __enter__(self) -> Fio:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        # On a disk that does not answer it cannot end before the disk does; the pair waits for it after that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)

    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """As `finish`, but now."""
        self._process.send_signal(signal.SIGINT)
        self.finish(good=_ENDED_BY_SIGNAL)

    def finish(self, good: int = 0) -> None:
        """Waits for the end; raises AssertionError when fio met an error or read back what it had not written."""
        said, _ = self._process.communicate(timeout=self._longest)
        assert self._process.returncode == good, f"fio ended with {self._process.returncode}: {said.decode()}"
        report = self._report.read_text()
        job = json.loads(report[report.index("{") :])["jobs"][0]  # a signal is mentioned before it
        assert job["error"] == 0, f"fio met error {job['error']}: {said.decode()}"
        assert job["write"]["io_bytes"] > 0, "fio wrote nothing"
        assert job["read"]["io_bytes"] > 0, "fio verified nothing"
        self.longest_stall = max(job[kind]["lat_ns"]["max"] for kind in ("read", "write")) / 1e9
        self.written = job["write"]["io_bytes"]


class Files:
    """An ext4 on a disk, with files whose checksums are known once fsync said that they are safe."""

    def __init__(self, device: Path, mountpoint: Path) -> None:
        self.device = device
        self.mountpoint = mountpoint
        self.safe: dict[str, str] = {}
        """SHA-256 by name, of every file that was written and flushed successfully."""
        mountpoint.mkdir(exist_ok=True)

    def make(self) -> None:
        run("mkfs.ext4", "-q", "-F", self.device)

    def mount(self) -> None:
        run("mount", "-t", "ext4", self.device, self.mountpoint)

    def umount(self) -> None:
        run("umount", self.mountpoint)

    def recover(self) -> None:
        """e2fsck replays the journal; it must not need more than that to find the file system clean."""
        first = run("e2fsck", "-p", self.device, check=False)
        assert first.returncode in (0, 1), f"e2fsck -p ended with {first.returncode}: {first.stdout}{first.stderr}"
        self.check_structure()

    def check_structure(self) -> None:
        """Raises AssertionError unless a full e2fsck finds nothing to mend."""
        run("e2fsck", "-f", "-n", self.device)

    def write(self, name: str, size: int) -> None:
        """A file of random bytes, flushed; OSError when the disk fails."""
        data = os.urandom(size)
        with (self.mountpoint / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.safe[name] = hashlib.sha256(data).hexdigest()

    def write_many(self, prefix: str, total: int) -> None:
        """Random files of different sizes, `total` bytes together."""
        sizes = [4096, 100_000, 1_000_000, 7_654_321, 16 * MIB]
        done = number = 0
        while done < total:
            size = min(sizes[number % len(sizes)], total - done)
            self.write(f"{prefix}-{number}", size)
            done += size
            number += 1

    def check(self) -> None:
        """Every safe file is there, byte for byte. Reads the disk, not the page cache: the mount is young."""
        wrong = []
        for name, digest in self.safe.items():
            try:
                found = hashlib.sha256((self.mountpoint / name).read_bytes()).hexdigest()
            except OSError as error:
                found = str(error)
            if found != digest:
                wrong.append(f"{name}: {found}")
        assert not wrong, f"{len(wrong)} of {len(self.safe)} flushed files are lost or changed: {wrong[:5]}"


class Writer:
    """Writes and flushes small files on and on, in a thread, until it is stopped or the disk goes away."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the writer hangs on the disk"

    def _work(self) -> None:
        number = 0
        with contextlib.suppress(OSError):  # the end of the primary is what some tests are about
            while not self._stop.is_set():
                self.files.write(f"running-{number}", 64 * 1024)
                number += 1
