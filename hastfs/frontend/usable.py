"""Whether applications can really use a disk: reads a block of it, as they would.

The read goes around the page cache, through the kernel and the worker to a component. Somebody who does not answer
costs no more than the time that was given: the thread that waits is left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import threading

from hastfs.errors import NotYet, SystemFailure
from hastfs.frontend import mountinfo

_BLOCK = 4096
"""Bytes; an image may be shorter."""


def check_image(path: str, within: float) -> None:
    """Returns if the image at `path` is mounted and can be read.

    Raises SystemFailure if it is not there or answers with an error, NotYet if it does not answer in `within` seconds.
    """
    if mountinfo.top(mountinfo.read(), os.path.realpath(path)) is None:
        raise SystemFailure(f"There is no image at {path}.")
    _read_within(path, within)


def check_device(path: str, within: float) -> None:
    """As `check_image`, for the block device of a `device on`."""
    with contextlib.suppress(OSError):
        if stat.S_ISBLK(os.stat(path).st_mode):
            _read_within(path, within)
            return
    raise SystemFailure(f"There is no block device at {path}.")


def _read_within(path: str, within: float) -> None:
    errors: list[OSError | None] = []

    def read() -> None:
        try:
            _read(path)
        except OSError as error:
            errors.append(error)
        else:
            errors.append(None)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(within)
    if not errors:
        raise NotYet(f"{path} cannot be read within {within:g} s.")
    if errors[0] is not None:
        raise SystemFailure(f"{path} cannot be read: {errors[0].strerror}.")


def _read(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, _BLOCK) as block:  # aligned as O_DIRECT wants it
            os.preadv(fd, [block], 0)
    finally:
        os.close(fd)
