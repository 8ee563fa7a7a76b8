"""Whether applications can really use a primary: reads a block of its disk, as they would.

The read goes around the page cache, through kernel and worker to a component. Somebody who does not answer costs no
more than the time that was given.
"""

from __future__ import annotations

import mmap
import os
import stat
import time

from hastfs.config.schema import ResourceConfig
from hastfs.errors import NotYet, SystemFailure
from hastfs.frontend import mountinfo, probe

DEVICES = "/dev/hast"
"""Where the links to block devices are."""

_BLOCK = 4096
"""Bytes; an image may be shorter."""


def check(resource: ResourceConfig, mountdir: str, within: float) -> None:
    """Returns if image, and device if there is to be one, are there and can be read. Blocks.

    Raises SystemFailure if one is not there or answers with an error, NotYet if it does not answer in `within` seconds.
    """
    until = time.monotonic() + within
    # Nothing is asked of the image itself but on the probe's thread: its worker may not answer.
    image = os.path.join(os.path.realpath(mountdir), resource.provider)
    if mountinfo.top(mountinfo.read(), image) is None:
        raise SystemFailure(f"There is no image at {image}.")
    _read_within(image, until)
    if resource.device:
        device = os.path.join(DEVICES, resource.provider)
        if not _is_block_device(device):
            raise SystemFailure(f"There is no block device at {device}.")
        _read_within(device, until)


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _read_within(path: str, until: float) -> None:
    within = max(until - time.monotonic(), probe.PROBE_SECONDS)
    error = probe.error_of(lambda: _read(path), path, within)
    if error is None:
        raise NotYet(f"{path} cannot be read within {within:.1f} s.")
    if error:
        raise SystemFailure(f"{path} cannot be read: {os.strerror(error)}.")


def _read(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, _BLOCK) as block:  # aligned, as O_DIRECT wants it
            os.preadv(fd, [block], 0)
    finally:
        os.close(fd)
