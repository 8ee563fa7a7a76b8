"""Who uses an image or a loop device on it: what `hastctl role` names when it refuses to take the disk away.

Only /proc and /sys are read, nothing is asked of the image itself: this works with a server that does not answer, and
in well under a second with thousands of processes. What vanishes while we look is no holder.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hastfs.frontend import loop, mountinfo
from hastfs.frontend.mountinfo import Mount


@dataclass(frozen=True, slots=True)
class _Disk:
    """The image and every block device on it."""

    image: str
    mount: Mount | None
    """Of the image; None if it is not mounted."""
    devices: dict[str, str]
    """`major:minor` -> path, of the loop devices and their partitions."""

    @property
    def paths(self) -> frozenset[str]:
        return frozenset((self.image, *self.devices.values()))

    def copied(self, mount: Mount) -> bool:
        """Whether it is another mount of the image's file system, as bind mounts are."""
        return self.mount is not None and mount.device == self.mount.device and mount.mount_id != self.mount.mount_id


@dataclass(frozen=True, slots=True)
class _Namespace:
    """A mount namespace, seen through one process in it."""

    pid: int
    ours: bool
    mounts: list[Mount]


def holders(image: str, exclude_pids: Collection[int] = (), exclude_loops: Collection[str] = ()) -> list[str]:
    """Everything that uses `image`, one sentence each, with what to do about it where that is clear.

    Processes that have it or a block device on it open, in any mount namespace; its loop devices; file systems, swap,
    device mapper and md on them; bind mounts of it. `exclude_pids` are processes that may have it open, `exclude_loops`
    ("/dev/loop3") loop devices that may be attached to it: their users are named all the same.
    """
    directory, name = os.path.split(os.path.abspath(image))
    image = os.path.join(os.path.realpath(directory), name)
    loops = loop.find(image)
    disk = _Disk(image, mountinfo.top(mountinfo.read(), image), dict(_block_devices(loops)))
    processes, namespaces = _survey()
    found = [
        *_mounts(disk, namespaces.values()),
        *_swaps(disk),
        *_stacked(disk),
        *_open_files(disk, processes, namespaces, exclude_pids),
        *(f"losetup -d {device} first: it is attached to {image}" for device in loops if device not in exclude_loops),
    ]
    return list(dict.fromkeys(found))


def _block_devices(loops: Collection[str]) -> Iterator[tuple[str, str]]:
    """(major:minor, path) of the devices and their partitions."""
    for device in loops:
        name = os.path.basename(device)
        for directory in (f"/sys/block/{name}", *glob.glob(f"/sys/block/{name}/{name}p*")):
            with contextlib.suppress(OSError):
                yield _line(f"{directory}/dev"), f"/dev/{os.path.basename(directory)}"


def _survey() -> tuple[dict[int, str], dict[str, _Namespace]]:
    """Every process with its mount namespace, and each namespace's mounts, read once."""
    ours = os.readlink("/proc/self/ns/mnt")
    processes: dict[int, str] = {}
    namespaces: dict[str, _Namespace] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        pid = int(entry)
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in namespaces:
                # Paths of ours as we see them: another process in it may have another root directory.
                mounts = mountinfo.read("self" if namespace == ours else pid)
                namespaces[namespace] = _Namespace(pid, namespace == ours, mounts)
            processes[pid] = namespace
    return processes, namespaces


def _mounts(disk: _Disk, namespaces: Collection[_Namespace]) -> Iterator[str]:
    for namespace in sorted(namespaces, key=lambda namespace: not namespace.ours):
        where = "" if namespace.ours else f" in the mount namespace of process {namespace.pid} ({_name(namespace.pid)})"
        for mount in namespace.mounts:
            device = disk.devices.get(mount.device) or _device_of_source(disk, mount.source)
            if device:
                yield f"umount {mount.mount_point} first: {device} is mounted on {mount.mount_point}{where}"
            # A copy at the same path came with a new namespace; it does not keep anybody from anything.
            elif disk.copied(mount) and mount.mount_point != disk.image:
                yield f"umount {mount.mount_point} first: {disk.image} is mounted there{where}"


def _device_of_source(disk: _Disk, source: str) -> str | None:
    """For file systems with device numbers of their own (btrfs): the device their source leads to."""
    if not source.startswith("/dev/"):
        return None
    path = os.path.realpath(source)
    return path if path in disk.devices.values() else None


def _swaps(disk: _Disk) -> Iterator[str]:
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file.readlines()[1:]:
            path = line.split()[0]
            if path in disk.paths:
                yield f"swapoff {path} first: it is in use as swap"


def _stacked(disk: _Disk) -> Iterator[str]:
    """Device mapper, md and the like."""
    for number, path in disk.devices.items():
        with contextlib.suppress(OSError):
            for holder in sorted(os.listdir(f"/sys/dev/block/{number}/holders")):
                yield f"{path} is part of /dev/{holder}{_mapper_name(holder)}"


def _mapper_name(holder: str) -> str:
    with contextlib.suppress(OSError):
        return f" ({_line(f'/sys/block/{holder}/dm/name')})"
    return ""


def _open_files(
    disk: _Disk, processes: dict[int, str], namespaces: dict[str, _Namespace], exclude_pids: Collection[int]
) -> Iterator[str]:
    paths = disk.paths
    # In another namespace the image may have any path: there the mount that a file was opened through tells.
    mount_ids = {
        key: frozenset(mount.mount_id for mount in namespace.mounts if disk.copied(mount))
        for key, namespace in namespaces.items()
        if not namespace.ours
    }
    for pid, namespace in processes.items():
        if pid in exclude_pids:
            continue
        with contextlib.suppress(OSError):
            for path in sorted(set(_open_paths(pid, disk, paths, mount_ids.get(namespace, frozenset())))):
                yield f"process {pid} ({_name(pid)}) has {path} open"


def _open_paths(pid: int, disk: _Disk, paths: frozenset[str], mount_ids: frozenset[int]) -> Iterator[str]:
    """Those of `paths` that the process has open. Raises OSError when the process vanishes."""
    directory = f"/proc/{pid}/fd"
    for number in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{number}")
        except OSError:  # closed since
            continue
        if target in paths:
            yield target
        elif mount_ids and _mount_id(pid, number) in mount_ids:
            yield disk.image


def _mount_id(pid: int, number: str) -> int | None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line[7:])
    return None


def _name(pid: int) -> str:
    try:
        return _line(f"/proc/{pid}/comm")
    except OSError:
        return "gone"


def _line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n")
