"""One FUSE session: the lane on /dev/fuse, and pyfuse3 behind a socket pair for everything that is not data.

libfuse takes any descriptor as "/dev/fd/N" and only has to see an INIT first. The kernel's INIT is answered by the
lane, since it decides about request sizes and queue depths; libfuse gets a made-up one.

Only one session at a time per process: pyfuse3 keeps it in global variables.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import AsyncIterable

import pyfuse3
import trio

from hastfs.errors import SystemFailure
from hastfs.frontend import fuse_abi as abi
from hastfs.frontend.filesystem import ImageOperations
from hastfs.frontend.lane import Lane
from hastfs.volume import Volume

_REPLY_SIZE = 64 * 1024
"""Bytes; longer than any answer of libfuse's to what is forwarded."""


async def serve(
    fuse_fd: int,
    volume: Volume,
    *,
    taking_over: bool = False,
    in_order: bool = False,
    leave: trio.Event | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> bool:
    """Serves the mount behind `fuse_fd` from `volume` until it is unmounted (returns False), or `leave` is set and all
    requests that were taken are answered (returns True), or the caller cancels.

    `fuse_fd` must be the very open file description that was mounted (inherited or passed over a socket), because the
    kernel keeps the unanswered requests with it; it stays open, and stays the caller's. `taking_over`: another process
    served this mount before; what it left unanswered is served now. That is nothing if it left `in_order`. Nothing is
    lost by a cancellation either: the requests under way wait in the kernel for the next one to take over, or for the
    descriptor's end.

    Raises SystemFailure if libfuse cannot be set up, or on `taking_over` from one that did not leave in order with a
    kernel before Linux 6.9.
    """
    os.set_blocking(fuse_fd, False)
    ours, libfuses = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        _open_pyfuse3(ImageOperations(volume.size), libfuses)
        requests, forwarded = trio.open_memory_channel[bytes](
            math.inf
        )  # bounded: one per process waiting for an answer
        lane = Lane(fuse_fd, volume, requests.send_nowait)
        try:
            control = trio.socket.from_stdlib_socket(ours)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_to_libfuse, forwarded, control)
                nursery.start_soon(_from_libfuse, control, lane)
                nursery.start_soon(pyfuse3.main)
                if leave is not None:
                    nursery.start_soon(_leave_when, leave, lane)
                if taking_over:
                    _resend(lane, in_order)
                task_status.started()
                left = await lane.run()
                nursery.cancel_scope.cancel()
            return left
        finally:
            lane.close()
            # Frees the session and closes libfuse's end of the pair. The mount itself is none of libfuse's business.
            pyfuse3.close(unmount=False)


def _open_pyfuse3(operations: ImageOperations, libfuses: socket.socket) -> None:
    """On success the socket belongs to libfuse, which closes it."""
    with libfuses:
        try:
            pyfuse3.init(operations, f"/dev/fd/{libfuses.fileno()}", set(pyfuse3.default_options))
        except RuntimeError as error:
            raise SystemFailure(f"libfuse cannot be set up: {error}.") from error
        libfuses.detach()


async def _leave_when(event: trio.Event, lane: Lane) -> None:
    await event.wait()
    lane.leave()


def _resend(lane: Lane, in_order: bool) -> None:
    try:
        lane.resend()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        if in_order:  # There is nothing to be sent again; where the kernel can, asking for it does no harm.
            return
        raise SystemFailure(
            "This kernel (before Linux 6.9) cannot hand on the requests of a worker that died: the image has to be"
            " unmounted."
        ) from error


async def _to_libfuse(requests: AsyncIterable[bytes], control: trio.socket.SocketType) -> None:
    await control.send(abi.init_for_libfuse())
    async for request in requests:
        await control.send(request)


async def _from_libfuse(control: trio.socket.SocketType, lane: Lane) -> None:
    # libfuse writes its answers with a blocking call on our own thread. That does not block: pyfuse3 answers about one
    # request between two runs of this task, at most one per task it has (99), and the socket holds more than 200.
    while True:
        answer = await control.recv(_REPLY_SIZE)
        if abi.unique_of(answer) != abi.LIBFUSE_INIT_UNIQUE:
            lane.answer(answer)
