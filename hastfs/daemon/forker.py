"""The process that workers are forked from: it has what they need imported, has one thread, and opens nothing by name.

`process` starts it and speaks to it over one socket, whose end is this process's end and that of all its children.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass

from setproctitle import setproctitle

from hastfs.daemon import jobs

LARGEST = 64 * 1024
"""Bytes of a request (see `jobs.pack`); a job has some 2 KiB."""

MAX_FDS = 16
"""Descriptors of a request: the end of a socket to tell of the process over, then those of its job."""

NUMBER = struct.Struct("=i")
"""What is told of a process: first its pid, with its pidfd, or minus the errno for which there is none. Later its exit
code, or minus the signal that killed it."""

SIGNALS_OF_HASTD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They may be sent to all processes of hastd at once. Blocked when this process starts."""


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    told: int
    """The descriptor over which its end is to be told."""


class _Forker:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}  # by pidfd
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def run(self) -> None:
        """Until the socket ends."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._requests:
                    self._tell_end(key.fd)
                    continue
                data, fds, _, _ = socket.recv_fds(self._requests, LARGEST, MAX_FDS)
                if not data:
                    self._kill_all()
                    return
                self._fork(data, *fds)

    def _fork(self, data: bytes, told: int, *fds: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            with suppress(OSError):
                os.write(told, NUMBER.pack(-(error.errno or 0)))
            os.close(told)
        else:
            if pid == 0:
                os.close(told)
                self._close()
                os._exit(_run(data, fds))
            self._tell_start(_Child(pid, told))
        for fd in fds:
            os.close(fd)

    def _tell_start(self, child: _Child) -> None:
        pidfd = os.pidfd_open(child.pid)
        self._children[pidfd] = child
        self._selector.register(pidfd, selectors.EVENT_READ)
        with socket.socket(fileno=os.dup(child.told)) as told, suppress(OSError):
            socket.send_fds(told, [NUMBER.pack(child.pid)], [pidfd])

    def _tell_end(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        child = self._children.pop(pidfd)
        _, status = os.waitpid(child.pid, 0)
        with suppress(OSError):  # nobody wants to know any more
            os.write(child.told, NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os.close(child.told)
        os.close(pidfd)

    def _kill_all(self) -> None:
        """Workers see by themselves that hastd is gone; one that is stopped or hangs does not, and keeps the disk."""
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)  # not reaped yet, so it still is this one

    def _close(self) -> None:
        """In a new process, which is to have nothing of ours."""
        self._requests.close()
        self._selector.close()
        for pidfd, child in self._children.items():
            os.close(pidfd)
            os.close(child.told)


def main(requests_fd: int, preload: str) -> None:
    """Forks a process for every request, with all of `preload` imported, until the socket ends."""
    for number in SIGNALS_OF_HASTD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS_OF_HASTD)
    setproctitle("hastd: starter of workers")
    importlib.import_module(preload)
    # What is there now, all workers share, as long as none of them writes to it: as looking for garbage in it would.
    gc.collect()
    gc.freeze()
    _Forker(socket.socket(fileno=requests_fd)).run()


def _run(data: bytes, fds: tuple[int, ...]) -> int:
    """Does the job; the exit code."""
    code: object = 1
    try:
        target, argument = jobs.unpack(data, fds)
        target(argument)
        code = 0
    except SystemExit as ended:
        code = 0 if ended.code is None else ended.code
    except BaseException:
        traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    return code if isinstance(code, int) else 1
