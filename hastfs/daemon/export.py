"""What applications see of a primary: the image, the loop device on it, and the link /dev/hast/NAME.

All of it belongs to the supervisor and not to a worker, so that it stays while workers are replaced. What the kernel is
asked here may have to wait for the worker that serves the image: every call is made in a thread, with a bound, and if
that is exceeded the image is killed by closing the last descriptor of /dev/fuse that we have.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.inheritance import InheritedImage
from hastfs.errors import BusyError, HastError, SystemFailure
from hastfs.frontend import holders, loop, mount

log = logging.getLogger(__name__)

LINK_DIRECTORY = "/dev/hast"
"""Of the links to loop devices, as FreeBSD's providers are called."""

_CALL_WITHIN = 10.0  # Seconds for one call; with a worker that serves, none takes a tenth of one.

_T = TypeVar("_T")


class Export:
    """The image of one resource at `mountdir`/PROVIDER, from `mount` to `take_away` or `abandon`."""

    def __init__(self, mountdir: str, config: ResourceConfig, link_directory: str = LINK_DIRECTORY) -> None:
        self.image = os.path.join(mountdir, config.provider)
        self._link = os.path.join(link_directory, config.provider) if config.device else None
        self._device: str | None = None
        self._fuse_fd: int | None = None

    def inherit(self, left: InheritedImage) -> None:
        """It is there already, as this process made it under another program."""
        self._fuse_fd, self._device = left.fuse, left.device

    def bequeath(self) -> InheritedImage:
        """For the next program of this process."""
        return InheritedImage(self.fuse_fd, self._device)

    @property
    def fuse_fd(self) -> int:
        """The descriptor of /dev/fuse to serve the image with; only between `mount` and the end."""
        assert self._fuse_fd is not None
        return self._fuse_fd

    async def mount(self) -> None:
        """The image is there; whoever looks at it waits for a worker. BusyError or SystemFailure if it cannot be."""
        self._fuse_fd = await _in_thread(mount.open_and_mount, self.image)

    async def attach(self) -> None:
        """The device and the link, if wanted. A worker must serve the image. BusyError or SystemFailure."""
        if self._link is not None:
            self._device = await _in_thread(loop.attach, self.image)
            await _in_thread(loop.link, self._device, self._link)

    async def holders(self, workers: Collection[int]) -> list[str]:
        """Who uses image or device, besides ourselves and the processes `workers`, one phrase each."""
        own = {os.getpid(), *workers}
        devices = {self._device} if self._device else set()
        return await _in_thread(holders.holders, self.image, own, devices)

    async def take_away(self, *, force: bool) -> None:
        """Link, device and image, in this order. BusyError, with everything in place again, if somebody uses them:
        unless `force`, with which they only keep what they have open, until `abandon`.
        """
        try:
            await self._detach()
            await _in_thread(partial(mount.unmount, self.image, lazy=force))
        except BusyError:
            await self.attach()
            raise
        except SystemFailure as error:
            if not force:
                raise
            log.error("%s", error)

    async def abandon(self) -> None:
        """Whatever is left goes, at any price; never raises. Who still has the image open gets errors."""
        fuse_fd, self._fuse_fd = self._fuse_fd, None
        if fuse_fd is None:
            return
        # With its last descriptor gone nothing waits for an answer any more, the calls below included.
        os.close(fuse_fd)
        for end in (
            self._detach,
            self._detach_others,
            partial(_in_thread, partial(mount.unmount, self.image, lazy=True)),
        ):
            try:
                await end()
            except HastError as error:
                log.error("%s", error)

    async def _detach_others(self) -> None:
        """Devices on the dead image: made by hand, or by a call of ours that was given up too early."""
        for device in await _in_thread(loop.find, self.image):
            await _in_thread(loop.detach, device)

    async def _detach(self) -> None:
        if self._link is not None and self._device is not None:
            await _in_thread(loop.unlink, self._link, self._device)
            await _in_thread(loop.detach, self._device)
            self._device = None


async def _in_thread(call: Callable[..., _T], *arguments: object) -> _T:
    """SystemFailure if it takes too long: the thread is left behind until the kernel lets it go.

    Shielded from cancellation up to that bound: what a call has done must be known, to be undone.
    """
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CALL_WITHIN):
        return await trio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True)
    name = getattr(call, "__name__", "") or getattr(getattr(call, "func", None), "__name__", "a call")
    raise SystemFailure(f"The kernel does not answer within {_CALL_WITHIN:g} s ({name}).")
