"""The image as a block device: loop(4) by ioctl, and the link /dev/hast/NAME to it.

Functions that touch a device block while the kernel asks the image's server: call them on a thread of their own. (An
ioctl releases the interpreter's lock.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import mmap
import os
import re
import struct
from typing import Any

from hastfs.errors import BusyError, SystemFailure
from hastfs.frontend import mountinfo
from hastfs.frontend.probe import error_of
from hastfs.model import SECTOR_SIZE

log = logging.getLogger(__name__)

# linux/loop.h
_LOOP_CLR_FD = 0x4C01
_LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_DIRECT_IO = 16
_LO_NAME_SIZE = 64

_LOOP_INFO64 = struct.Struct("=QQQQQIIII64s64s32sQQ")
"""lo_device, lo_inode, lo_rdevice, lo_offset, lo_sizelimit, lo_number, lo_encrypt_type, lo_encrypt_key_size, lo_flags,
lo_file_name, lo_crypt_name, lo_encrypt_key, lo_init[2]."""

_LOOP_CONFIG = struct.Struct(f"=II{_LOOP_INFO64.size}s64x")
"""fd, block_size, info."""

_ATTEMPTS = 64
"""Somebody else may take the free device that the kernel named; not that often in a row, though."""

_DEVICE = re.compile(r"/dev/(loop\d+)")


def attach(image: str, direct_io: bool = True) -> str:
    """Attaches a free loop device to `image` and returns its path, /dev/loopN.

    With `direct_io` the device bypasses the image's page cache, so that data is not cached twice; where the kernel
    cannot, that is logged as a warning. Raises SystemFailure if there is no device or the image cannot be opened.
    """
    image = os.path.abspath(image)
    try:
        fd = os.open(image, os.O_RDWR | os.O_CLOEXEC | (os.O_DIRECT if direct_io else 0))
    except OSError as error:
        raise SystemFailure(f"Unable to open {image} for a loop device: {error.strerror}.") from error
    try:
        device = _attach_fd(fd, image, direct_io)
    except OSError as error:
        raise SystemFailure(f"Unable to attach a loop device to {image}: {error.strerror}.") from error
    finally:
        os.close(fd)
    if direct_io and not uses_direct_io(device):
        log.warning("%s on %s runs without direct I/O: data is cached twice.", device, image)
    return device


def detach(device: str) -> bool:
    """Detaches `device`; one that is not attached is fine.

    Returns False if it is in use: the kernel then detaches it when its last user closes it. Raises SystemFailure if the
    system refuses.
    """
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _LOOP_CLR_FD)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            raise SystemFailure(f"Unable to detach {device}: {error.strerror}.") from error
    return backing(device) is None


def backing(device: str) -> str | None:
    """The file that `device` is attached to, as the kernel names it; None if it is not attached."""
    return _loop_attribute(device, "backing_file")


def image_of(device: str) -> str | None:
    """The path `attach` was called with, cut at 63 bytes; None if the device is not attached or cannot say.

    Unlike `backing`, it does not change when the image is unmounted lazily or its mount namespace ends.
    """
    try:
        return _image_in(_status(device))
    except OSError:
        return None


def is_dead(device: str, image: str) -> bool:
    """Whether `device` is attached to `image`, which has lost its server for good."""
    try:
        if _image_in(_status(device)) != os.fsdecode(os.fsencode(os.path.abspath(image))[: _LO_NAME_SIZE - 1]):
            return False
    except OSError as error:
        # The kernel asks the image before it answers, unless it did so within the last minutes.
        if error.errno != errno.ENOTCONN:
            return False
    return error_of(lambda: _read_first_sector(device), device) not in (0, None)


def uses_direct_io(device: str) -> bool:
    """Whether `device` is attached and bypasses the page cache of its file."""
    return _loop_attribute(device, "dio") == "1"


def find(image: str) -> list[str]:
    """The loop devices that are attached to `image`, to the very one that we see mounted there; none if none is.

    A hastd in a mount namespace of its own may have another at the same path, and the kernel's names are the same.
    """
    directory, name = os.path.split(os.path.abspath(image))
    image = os.path.join(os.path.realpath(directory), name)
    seen = mountinfo.top(mountinfo.read(), image)
    if seen is None:
        return []
    mounted = os.makedev(*map(int, seen.device.split(":")))
    devices = [f"/dev/{os.path.basename(path)}" for path in glob.glob("/sys/block/loop*")]
    found = [device for device in devices if backing(device) == image and _may_be_on(device, mounted)]
    return sorted(found, key=lambda device: int(device[9:]))


def link(device: str, link_path: str) -> None:
    """Makes `link_path` (/dev/hast/NAME) a symbolic link to `device`, in one step.

    Replaces a link that leads nowhere (no such device, or one that is not attached) or to the same image. Raises
    BusyError if the name is taken by anything else, SystemFailure if the system refuses.
    """
    temporary = unfinished(link_path)
    try:
        _check_replaceable(device, link_path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        _symlink(device, temporary)
        os.replace(temporary, link_path)
    except OSError as error:
        raise SystemFailure(f"Unable to make the link {link_path}: {error.strerror}.") from error


def unfinished(link_path: str) -> str:
    """What is left of a `link` that was killed in the middle."""
    return f"{link_path}~"


def unlink(link_path: str, device: str | None = None) -> None:
    """Removes the link, and its directory if that is empty then; no link there is fine.

    With `device`, a link that leads elsewhere by now is somebody else's, and stays. So does anything that is no link.
    Raises SystemFailure if the system refuses.
    """
    try:
        target = os.readlink(link_path)
    except OSError:  # not there, or no link
        return
    if device is not None and target != device:
        return
    try:
        os.unlink(link_path)
    except OSError as error:
        raise SystemFailure(f"Unable to remove the link {link_path}: {error.strerror}.") from error
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(link_path))


def _status(device: str) -> tuple[Any, ...]:
    """loop(4), LOOP_GET_STATUS64. Raises OSError: ENXIO if not attached, ENOTCONN if the image is dead."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _LOOP_INFO64.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size)))
    finally:
        os.close(fd)


def _image_in(status: tuple[Any, ...]) -> str:
    name: bytes = status[9]
    return os.fsdecode(name.partition(b"\0")[0])


def _may_be_on(device: str, mounted: int) -> bool:
    """Whether the file of `device` is in the file system with that number; a dead one that cannot tell may be. One
    whose server is there and does not answer is not asked for long.
    """
    told: list[int] = []
    error = error_of(lambda: told.append(_status(device)[0]), device)
    return told == [mounted] if told else error == errno.ENOTCONN


def _read_first_sector(device: str) -> None:
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:  # aligned, as O_DIRECT wants it
            os.preadv(fd, [page], 0)
    finally:
        os.close(fd)


def _attach_fd(fd: int, image: str, direct_io: bool) -> str:
    flags = _LO_FLAGS_DIRECT_IO if direct_io else 0
    name = os.fsencode(image)[: _LO_NAME_SIZE - 1]
    info = _LOOP_INFO64.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    config = bytearray(_LOOP_CONFIG.pack(fd, SECTOR_SIZE, info))
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            if _configure(device, config):
                return device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "others take every free device")


def _configure(device: str, config: bytearray) -> bool:
    """False: somebody else was faster."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    finally:
        os.close(fd)
    return True


def _loop_attribute(device: str, name: str) -> str | None:
    match = _DEVICE.fullmatch(device)
    if match is None:
        return None
    try:
        with open(f"/sys/block/{match[1]}/loop/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().removesuffix("\n")
    except OSError:  # not attached, or just being detached
        return None


def _symlink(device: str, path: str) -> None:
    """Makes the directory as well; a worker that removes its last link may take it away in between."""
    while True:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.symlink(device, path)
            return


def _check_replaceable(device: str, link_path: str) -> None:
    try:
        target = os.readlink(link_path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise BusyError(f"{link_path} exists and is no symbolic link: it is not replaced.") from error
        raise
    if target == device or not os.path.exists(link_path):
        return
    if _DEVICE.fullmatch(target) and backing(target) in (None, backing(device)):
        return
    raise BusyError(f"{link_path} leads to {target}, which is in use: it is not replaced.")
