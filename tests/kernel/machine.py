"""What this machine holds: mounts, loop devices, processes; and how to get rid of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.kernel.waiting import wait_for


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc(5)): what of it the tests look at."""

    point: str
    kind: str
    source: str


Completed: TypeAlias = subprocess.CompletedProcess[str]


def run(*argv: str | Path, check: bool = True, timeout: float = 60.0, cwd: Path | None = None) -> Completed:
    """Runs a program to its end; with `check` a failure shows what it printed."""
    done = subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def mounts() -> list[Mount]:
    """Everything mounted in our namespace, oldest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, source = right.split(" ")[:2]
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
        found.append(Mount(point, kind, source))
    return found


def mounts_below(root: Path) -> list[Mount]:
    """Newest first, the order in which they can be unmounted."""
    return [mount for mount in reversed(mounts()) if Path(mount.point).is_relative_to(root)]


def loops_below(root: Path) -> list[str]:
    """The loop devices ("/dev/loopN") whose image is below `root`, also when that image is long dead."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached while we looked
            if Path(backing.read_text().strip()).is_relative_to(root):
                found.append(f"/dev/{backing.parts[3]}")
    return found


def processes_of(sessions: Iterable[int]) -> list[int]:
    """The pids in these sessions (setsid(2)) that are no zombies."""
    wanted = set(sessions)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in wanted and fields[0] != "Z":
                found.append(int(entry))
    return found


def kill_sessions(sessions: Sequence[int]) -> None:
    """SIGKILL to every process of these sessions, until none is left: a supervisor may have started one just now."""

    def none_left() -> bool:
        left = processes_of(sessions)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_for(none_left, f"no process of the sessions {list(sessions)} is left", timeout=20, interval=0.02)


def release(root: Path) -> None:
    """Unmounts and detaches all that stands on files below `root`, whatever state it is in. For killed nodes."""
    loops = loops_below(root)
    for mount in reversed(mounts()):
        if mount.source in loops:
            run("umount", mount.point, check=False)
    for loop in loops_below(root):  # once more: one that went with its mount may be somebody else's by now
        run("losetup", "-d", loop, check=False)
    for mount in mounts_below(root):
        if run("umount", mount.point, check=False).returncode != 0:
            run("umount", "-l", mount.point, check=False)


_ports = itertools.count(20000 + os.getpid() * 61 % 10000)  # runs at the same time have neighbouring numbers


def free_port() -> int:
    """A TCP port that nobody listens on, below those of outgoing connections; a new one each time."""
    for port in itertools.islice(_ports, 2000):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port on 127.0.0.1")
