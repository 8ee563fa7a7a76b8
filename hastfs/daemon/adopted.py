"""A worker process that was started by the program before this one, in the same process (`inheritance`)."""

from __future__ import annotations

import contextlib
import os
import signal

import trio


class AdoptedProcess:
    """Its parent is none of ours: that it has ended can be seen, and not how."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd: int | None = pidfd

    async def wait(self) -> int | None:
        """None: nobody knows the exit code."""
        if self.pidfd is not None:
            await trio.lowlevel.wait_readable(self.pidfd)
        return None

    def kill(self) -> None:
        """SIGKILL; nothing happens if it has ended."""
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Gives up the descriptor; once, after the end."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


async def reap(pid: int) -> None:
    """Waits for the end of a child process that the program before this one started."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(pidfd)
        _collect(pidfd)
    finally:
        os.close(pidfd)


def _collect(pidfd: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
