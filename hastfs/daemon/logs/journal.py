"""Lines for journald, with fields of their own: systemd's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

A datagram per line. One that is too large goes as a sealed memory file, whose descriptor is sent instead.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Mapping

from hastfs.daemon.logs.datagrams import Datagrams
from hastfs.daemon.logs.lines import Lines
from hastfs.daemon.logs.syslog import DAEMON, priority
from hastfs.facts import Fact

SOCKET = "/run/systemd/journal/socket"

_FD = struct.Struct("=i")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NOT_OURS = ("time", "level", "pid", "message")  # journald has them by other names


def takes_stderr(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether what goes to standard error ends in the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def encode(fields: Mapping[str, Fact]) -> bytes:
    """Names are upper case letters, digits and underscores. A value of several lines goes with its length."""
    parts = []
    for name, value in fields.items():
        data = str(value).encode(errors="replace")
        head = name.encode()
        if b"\n" in data:
            parts += [head, b"\n", len(data).to_bytes(8, "little"), data, b"\n"]
        else:
            parts += [head, b"=", data, b"\n"]
    return b"".join(parts)


class Journal(logging.Handler):
    """Needs `Lines` as its formatter. What nobody takes is lost, as with syslog."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._datagrams = Datagrams(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = encode(self._fields(record))
            try:
                self._datagrams.send(data)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_as_file(data)
        except OSError:
            pass  # There is nobody left to tell.
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._datagrams.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, Fact]:
        lines = self.formatter
        assert isinstance(lines, Lines)
        ours = {f"HAST_{name.upper()}": value for name, value in lines.fields(record).items() if name not in _NOT_OURS}
        return {
            "MESSAGE": lines.format(record),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_FACILITY": DAEMON,
            "SYSLOG_IDENTIFIER": "hastd",
            "SYSLOG_PID": record.process or 0,
            **ours,
        }

    def _send_as_file(self, data: bytes) -> None:
        fd = os.memfd_create("hastd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            self._datagrams.send(b"", [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))])
