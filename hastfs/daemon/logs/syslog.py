"""Lines for syslog(3)."""

from __future__ import annotations

import logging
import os

from hastfs.daemon.logs.datagrams import Datagrams

SOCKET = "/dev/log"

DAEMON = 3  # the facility

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def priority(level: int) -> int:
    """Of a level of logging's."""
    return next((number for lowest, number in _PRIORITIES if level >= lowest), _DEBUG)


class Syslog(logging.Handler):
    """What nobody takes is lost; a syslog may be started later."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._datagrams = Datagrams(path)
        self._ident = f"hastd[{os.getpid()}]"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            number = DAEMON << 3 | priority(record.levelno)
            self._datagrams.send(f"<{number}>{self._ident}: {self.format(record)}\0".encode(errors="replace"))
        except OSError:
            pass  # There is nobody left to tell.
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._datagrams.close()
        super().close()
