"""Worker processes, forked from a preloaded process (`forker`), so that a replacement serves after some 30 ms.

Importing what a worker needs takes 0.3 s and more; the forker does it once. It is started without any descriptor of
ours and so are the workers: they have only what a job hands over. Nothing of this has a name in the file system, so
nothing stays behind, whoever is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import trio

from hastfs.daemon import forker, jobs
from hastfs.daemon.jobs import WORKER_MODULE, do_nothing
from hastfs.errors import SystemFailure, plain

_REAPED_WITHIN = 5.0  # Seconds; the forker tells an exit status as soon as it has collected it.

_FORKER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hastfs.daemon import forker; forker.main({})"
"""It finds everything where we found it, installed or not."""

_Argument = TypeVar("_Argument")


class WorkerProcess:
    """A started process. Its pidfd cannot mean another process, unlike its pid."""

    def __init__(self, pid: int, pidfd: int, status: socket.socket) -> None:
        """`status`: where the forker tells how the process ended."""
        self.pid = pid
        self.pidfd = pidfd
        self._status = status
        self._code: int | None = None

    async def wait(self) -> int:
        """Waits for the process's end; its exit code, or minus the signal that killed it, as in subprocess."""
        await trio.lowlevel.wait_readable(self.pidfd)
        with trio.move_on_after(_REAPED_WITHIN):
            await trio.lowlevel.wait_readable(self._status)
        if self._code is None:
            self._code = self._told()
        return self._code

    def _told(self) -> int:
        try:
            told = self._status.recv(forker.NUMBER.size)
        except OSError:
            told = b""
        code: int = forker.NUMBER.unpack(told)[0] if told else -signal.SIGKILL  # the forker died before it could tell
        return code

    def kill(self) -> None:
        """SIGKILL; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Gives up the descriptors; once, after the end."""
        os.close(self.pidfd)
        self._status.close()


class ProcessStarter:
    """Starts worker processes. Whatever still runs of them at the `close` is killed."""

    def __init__(self, preload: str = WORKER_MODULE) -> None:
        self._preload = preload
        self._asking = trio.Lock()
        self._launch()

    @property
    def helpers(self) -> list[int]:
        """Processes of ours besides the workers: the forker. They end when what is `kept` is closed."""
        return [self._forker.pid]

    @property
    def kept(self) -> list[int]:
        """Descriptors that must stay open as long as workers are to go on without us."""
        return [self._requests.fileno()]

    def close(self) -> None:
        self._requests.close()
        self._forker.wait()

    async def warm_up(self) -> None:
        """Returns when the imports are done, and workers start at once. SystemFailure if none can be started."""
        process = await self.start(do_nothing, None)
        await process.wait()
        process.close()

    async def start(self, target: Callable[[_Argument], None], argument: _Argument) -> WorkerProcess:
        """Runs `target(argument)` in a new process. SystemFailure if there cannot be one."""
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status.setblocking(False)
        try:
            with theirs:
                data, fds = jobs.pack(target, argument)
                await self._ask(data, [theirs.fileno(), *fds])
            # It may still be busy with its imports.
            await trio.lowlevel.wait_readable(status)
            return _started(status)
        except OSError as error:
            status.close()
            raise SystemFailure(f"Unable to start a worker process: {plain(error)}.") from error
        except BaseException:
            status.close()
            raise

    async def _ask(self, data: bytes, fds: list[int]) -> None:
        """Raises OSError."""
        async with self._asking:
            if self._forker.poll() is not None:  # somebody killed it
                self._requests.close()
                self._launch()
            while True:
                try:
                    socket.send_fds(self._requests, [data], fds)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._requests)
                else:
                    return

    def _launch(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setblocking(False)
        code = _FORKER.format(f"{theirs.fileno()}, {self._preload!r}")
        with theirs, _deaf():
            self._forker = subprocess.Popen(
                [sys.executable, "-P", "-c", code, json.dumps([os.path.abspath(place) for place in sys.path])],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )


def _started(status: socket.socket) -> WorkerProcess:
    """Of what the forker tells first. Raises OSError: there is no process."""
    told, fds, _, _ = socket.recv_fds(status, forker.NUMBER.size, 1, socket.MSG_CMSG_CLOEXEC)
    if not told:
        raise OSError("the process that starts them ended")
    (pid,) = forker.NUMBER.unpack(told)
    if pid <= 0:
        raise OSError(-pid, os.strerror(-pid))
    return WorkerProcess(pid, fds[0], status)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started now does not die of the signals that end hastd, from its very first moment on: it has to outlive
    every worker, and it is told to end by hastd's own end. Here they wait, and are not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, forker.SIGNALS_OF_HASTD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
