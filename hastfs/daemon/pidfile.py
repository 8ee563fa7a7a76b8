"""The pidfile: names the running daemon, and its lock is what makes it the only one."""

from __future__ import annotations

import contextlib
import fcntl
import os

from hastfs.errors import SystemFailure


class Pidfile:
    """An open and locked pidfile. The lock survives a fork, and ends with the last process that has it open."""

    def __init__(self, path: str) -> None:
        """SystemFailure if another daemon has it, which it names, or if it cannot be made."""
        self.path = path
        try:
            self._fd = _lock(path)
        except BlockingIOError:
            pid = _read(path) or "unknown"
            raise SystemFailure(f"Another hastd is already running, pid: {pid} (pidfile {path}).") from None
        except OSError as error:
            raise SystemFailure(f"Unable to create pidfile {path}: {error.strerror}.") from error

    @classmethod
    def inherit(cls, path: str, fd: int) -> Pidfile:
        """The one that this process had under another program."""
        pidfile = cls.__new__(cls)
        pidfile.path, pidfile._fd = path, fd
        return pidfile

    def fileno(self) -> int:
        return self._fd

    def write(self) -> None:
        """Names this process in it: to be called after detaching. SystemFailure if it cannot be written."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise SystemFailure(f"Unable to write pidfile {self.path}: {error.strerror}.") from error

    def remove(self) -> None:
        """Gives the name up; only by the process that is named in it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._fd)


def _lock(path: str) -> int:
    """Raises BlockingIOError if another process has the lock."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass  # Its owner removed it between our open and our lock: that is no lock on the name.
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(32).strip()
    except OSError:
        return ""
