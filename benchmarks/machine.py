"""This machine: running programs, processes and their CPU time and memory, ports, and how noisy it is."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MIB = 1 << 20
GIB = 1 << 30

_TICK = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """Something could not be measured. The text says what, and why."""


def run(*argv: str | Path, timeout: float = 120, check: bool = True, cwd: Path | None = None) -> str:
    """Runs a program to its end and returns what it printed; raises BenchmarkError if it fails, with its words."""
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=cwd,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{argv[0]}: {error}") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise BenchmarkError(f"{' '.join(map(str, argv))} ended with {done.returncode}: {said}")
    return done.stdout


def wait_until(probe: Callable[[], bool], what: str, within: float = 30, interval: float = 0.01) -> float:
    """Returns the seconds it took; raises BenchmarkError after `within` seconds."""
    start = time.monotonic()
    while not probe():
        if time.monotonic() - start > within:
            raise BenchmarkError(f"{what}: not within {within:g} s")
        time.sleep(interval)
    return time.monotonic() - start


@contextlib.contextmanager
def process(*argv: str | Path, log: Path, cwd: Path | None = None, inherit: tuple[int, ...] = ()) -> Iterator[int]:
    """A program that runs meanwhile, as the leader of a process group that is killed at the end; gives its pid."""
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            cwd=cwd,
            pass_fds=inherit,
        )
    try:
        yield child.pid
    finally:
        kill_group(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(child.pid, signal.SIGKILL)
            child.wait()


def kill_group(leader: int, number: int) -> None:
    """Signals a process and all its children; none there is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5), stat). 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> dict[str, float]:
    """MiB: `private` (the process's own pages, USS), `resident` (with shared ones, RSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    private = kib["Private_Clean"] + kib["Private_Dirty"] + kib.get("Private_Hugetlb", 0)
    return {"private": private / 1024, "resident": kib["Rss"] / 1024}


def unmount(path: Path) -> None:
    """At any price; not being mounted is fine."""
    run("umount", path, check=False)
    if is_mounted(path):
        run("umount", "--lazy", path, check=False)


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A loop device with direct I/O on the image."""
    device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device, check=False)


@contextlib.contextmanager
def ext4(device: str, at: Path) -> Iterator[Path]:
    """A fresh ext4 on the device, mounted; nothing is initialised in the background while we measure.

    Where the device mixes up data (see `systems/qemu.py`), this fails, or what uses the file system does.
    """
    run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", device)
    at.mkdir(exist_ok=True)
    run("mount", "-o", "noinit_itable,nodiscard", device, at)
    try:
        yield at
    finally:
        unmount(at)


def fill(path: Path, size: int) -> None:
    """Makes a file of `size` bytes that is neither sparse nor zeros: its reads and copies are real. All are equal."""
    piece = random.Random(1).randbytes(MIB)
    with path.open("wb", buffering=0) as file:
        for offset in range(0, size, MIB):
            file.write(piece[: min(MIB, size - offset)])
        os.fsync(file.fileno())


def facts() -> dict[str, Any]:
    """What a reader has to know to judge the figures."""
    return {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "memory MiB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "load at start": os.getloadavg()[0],
        "start": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def cpu_probe(seconds: float = 0.2) -> float:
    """Iterations a millisecond of a fixed loop: how much of a core we get now. Its spread in a run is its noise."""
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        for _ in range(1000):
            pass
        count += 1
    return count / (now - start)


def round_trip() -> float:
    """Microseconds (median): 4 KiB there and 24 bytes back over TCP on 127.0.0.1, between threads that sleep."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while peer.recv(4096, socket.MSG_WAITALL):
                    peer.sendall(bytes(24))

        thread = threading.Thread(target=answer)
        thread.start()
        taken = []
        with socket.create_connection(listener.getsockname()) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(2000):
                start = time.perf_counter()
                link.sendall(bytes(4096))
                link.recv(24, socket.MSG_WAITALL)
                taken.append(time.perf_counter() - start)
        thread.join()
    return statistics.median(taken) * 1e6


def sync_time(directory: Path) -> float:
    """Microseconds (median) of fdatasync(2) of a file with one dirty page, in `directory`."""
    path = directory / "sync-probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        file.write(bytes(MIB))
        os.fsync(file.fileno())
        for number in range(200):
            os.pwrite(file.fileno(), bytes(4096), number * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(taken) * 1e6


def is_mounted(path: Path) -> bool:
    """Also if its server is dead."""
    return any(line.split(" ")[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def listens(port: int) -> bool:
    """On an IPv4 address. Without connecting: a server may serve one client only."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()
