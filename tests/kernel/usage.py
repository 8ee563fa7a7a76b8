"""What a process takes: memory and descriptors."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

MIB = 1024 * 1024


def resident(pid: int) -> int:
    """Bytes of memory now (VmRSS)."""
    return _field(pid, "VmRSS")


def most_resident(pid: int) -> int:
    """Bytes of memory at most so far, or since `forget_most` (VmHWM)."""
    return _field(pid, "VmHWM")


def forget_most(pid: int) -> None:
    """`most_resident` counts from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


class Watched:
    """The most memory that a process takes; it may end meanwhile."""

    def __init__(self, pid: int) -> None:
        self.grown = 0
        """Bytes."""
        self._pid = pid
        self._before = resident(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        forget_most(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with contextlib.suppress(OSError, AssertionError):  # it has ended
            while True:
                self.grown = max(self.grown, most_resident(self._pid) - self._before)
                if self._over.wait(0.005):
                    return


def _field(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, f"/proc/{pid}/status has no {name}"
    return int(found[1]) * 1024
