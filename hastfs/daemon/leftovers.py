"""Clearing up after a hastd that was killed: its workers end by themselves, but mounts, loop devices and links stay."""

from __future__ import annotations

import logging
import os
import time

from hastfs.config.schema import Config
from hastfs.daemon.export import LINK_DIRECTORY
from hastfs.errors import HastError
from hastfs.frontend import holders, loop, mount

log = logging.getLogger(__name__)

_WORKERS_END_WITHIN = 3.0  # Seconds; those of a killed supervisor notice at once.
_LOOK_EVERY = 0.05


def clear(config: Config, link_directory: str = LINK_DIRECTORY) -> None:
    """For every resource of `config`. Blocks, for seconds at the most; what cannot be cleared is logged.

    To be called with the pidfile locked and before anything is mounted: no image is in use rightfully then.
    """
    for resource in config.resources.values():
        try:
            image = os.path.join(config.mountdir, resource.provider)
            link = os.path.join(link_directory, resource.provider)
            _clear_link(link, image, _clear_image(image))
            loop.unlink(loop.unfinished(link))
        except HastError as error:
            log.warning("%s", error)


def _clear_image(image: str) -> list[str]:
    """Returns the loop devices that were attached to a dead image; one in use goes when its last user closes it."""
    if not mount.is_mounted(image):
        mount.unmount(image)  # the empty file that is to be mounted on may be there
        return []
    patience = time.monotonic() + _WORKERS_END_WITHIN
    while not mount.is_dead(image):
        if time.monotonic() > patience:
            log.warning("%s is mounted already and served by somebody else.", image)
            return []
        time.sleep(_LOOK_EVERY)
    devices = loop.find(image)
    users = holders.holders(image, exclude_loops=devices)
    for device in devices:
        loop.detach(device)
    mount.unmount(image, lazy=True)
    log.info("Removed what an earlier hastd left behind at %s.", image)
    if users:
        log.warning("The disk of before is lost to those who still use it: %s.", "; ".join(users))
    return devices


def _clear_link(path: str, image: str, devices: list[str]) -> None:
    """Removes the link if it leads to one of `devices`, or to a device that is free or on a dead image of that name.

    The latter is what remains of a hastd that had a mount namespace of its own: the mount went with its last process.
    """
    try:
        target = os.readlink(path)
    except OSError:  # not there, or no link
        return
    if target not in devices and loop.is_dead(target, image):
        loop.detach(target)
        devices.append(target)
    if target in devices or loop.backing(target) is None:
        loop.unlink(path, target)
