"""Mounting the image: the path of the mount, an empty file underneath, is the image. For the supervisor.

Our own mount(2), not libfuse's: the supervisor opens /dev/fuse, mounts it, and keeps the descriptor, so that workers
can come and go behind a mount that stays. A worker must get this very open file description (by inheritance, fork, or
SCM_RIGHTS). Neither a second open of /dev/fuse nor FUSE_DEV_IOC_CLONE will do: the kernel keeps the queue of unanswered
requests with the description, and only there can the next worker ask for them.

All functions block, and must not be called on the thread that serves the mount: the kernel may ask it something
meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator

from hastfs.errors import BusyError, SystemFailure
from hastfs.frontend import mountinfo
from hastfs.frontend.filesystem import MODE
from hastfs.frontend.probe import error_of
from hastfs.model import MAX_REQUEST

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def open_and_mount(path: str) -> int:
    """Makes `path` the image: returns the descriptor of /dev/fuse (non-blocking, not inherited) to serve it with.

    Creates the directory (0755) and the empty file (0600) where they are missing, and clears away a dead mount of ours.
    Closing the last copy of the descriptor kills the mount: whoever uses the image gets ENOTCONN.

    Raises BusyError if something else is mounted there or `path` exists and is no empty file, SystemFailure if the
    system refuses.
    """
    path = _canonical(path)
    with _system_failures(f"Unable to mount {path}"):
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        _clear_dead_mount(path)
        _create_mount_point(path)
        try:
            return _mount(path)
        except OSError:
            _remove_mount_point(path)
            raise


def unmount(path: str, *, lazy: bool = False) -> None:
    """Unmounts the image and removes the empty file below; not being mounted is fine.

    `lazy`: the name goes at once, but whoever has the image open keeps it until the descriptor of /dev/fuse is closed
    as well. Raises BusyError if the image is in use and not `lazy`, SystemFailure if the system refuses.
    """
    path = _canonical(path)
    with _system_failures(f"Unable to unmount {path}"):
        if is_mounted(path):
            _umount(path, lazy=lazy)
        _remove_mount_point(path)


def is_mounted(path: str) -> bool:
    """Whether an image of ours, alive or dead, is mounted at `path`."""
    seen = mountinfo.top(mountinfo.read(), _canonical(path))
    return seen is not None and seen.fstype == mountinfo.FSTYPE


def is_dead(path: str) -> bool:
    """Whether the mount at `path` has lost its server for good: not while somebody still holds its descriptor."""
    # Not stat(2): the kernel may answer that from its cache.
    opening = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    return error_of(lambda: os.close(os.open(path, opening)), path) == errno.ENOTCONN


def _canonical(path: str) -> str:
    """As mountinfo names it; the last part is not looked at, since it may be a mount that does not answer."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def _clear_dead_mount(path: str) -> None:
    while (seen := mountinfo.top(mountinfo.read(), path)) is not None:
        if seen.fstype != mountinfo.FSTYPE or not is_dead(path):
            raise BusyError(f"{path} is a mount point already ({seen.fstype}): unmount it first.")
        _umount(path, lazy=True)


def _create_mount_point(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    if not _is_empty_file(path):
        raise BusyError(f"{path} exists and is no empty file: it is not covered by an image. Move it away.")


def _remove_mount_point(path: str) -> None:
    """Removes the file that we made, and nothing that holds data or is mounted on."""
    with contextlib.suppress(FileNotFoundError):
        if mountinfo.top(mountinfo.read(), path) is None and _is_empty_file(path):
            os.unlink(path)


def _is_empty_file(path: str) -> bool:
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _mount(path: str) -> int:
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    # allow_other: without it only processes of our own user could use the image, not a container's or a VM's.
    # default_permissions: the kernel checks mode and owner; FUSE's default is to let everybody in.
    options = f"fd={fd},rootmode={MODE:o},user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_REQUEST}"
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    failed = _libc.mount(
        b"hastfs", os.fsencode(path), mountinfo.FSTYPE.encode(), ctypes.c_ulong(flags), options.encode()
    )
    if failed:
        error = ctypes.get_errno()
        os.close(fd)
        raise OSError(error, os.strerror(error))
    return fd


def _umount(path: str, *, lazy: bool) -> None:
    if _libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)):
        error = ctypes.get_errno()
        if error == errno.EBUSY:
            raise BusyError(f"{path} is in use.")
        raise OSError(error, os.strerror(error))


@contextlib.contextmanager
def _system_failures(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise SystemFailure(f"{what}: {error.strerror}{where}.") from error
