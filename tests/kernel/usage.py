"""What a process takes: memory and descriptors."""

from __future__ import annotations

import os
import re
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


def _field(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, f"/proc/{pid}/status has no {name}"
    return int(found[1]) * 1024
