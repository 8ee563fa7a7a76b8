"""proc_pid_mountinfo(5) as values. Pure, but for reading the file."""

from __future__ import annotations

import re
from dataclasses import dataclass

FSTYPE = "fuse.hastfs"
"""The file system type of our mounts."""

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    mount_id: int
    device: str
    """`major:minor`."""
    mount_point: str
    fstype: str
    source: str


def parse(text: str) -> list[Mount]:
    """In the order of the file: a later mount covers an earlier one of the same mount point. Skips what is no mount."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 2:
            mounts.append(Mount(int(fields[0]), fields[2], _plain(fields[4]), tail[0], _plain(tail[1])))
    return mounts


def read(pid: int | str = "self") -> list[Mount]:
    """The mounts that process `pid` sees. Raises OSError if the process is gone."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def top(mounts: list[Mount], path: str) -> Mount | None:
    """The mount that is seen at exactly `path` (absolute and free of symbolic links)."""
    return next((mount for mount in reversed(mounts) if mount.mount_point == path), None)


def _plain(field: str) -> str:
    """Undoes the kernel's \\040 for what would not be one word."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
