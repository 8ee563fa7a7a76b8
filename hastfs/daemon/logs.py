"""Where log lines go: standard error in the foreground, syslog in the background; `[LEVEL] [resource] (role) message`.

The supervisor speaks about many resources and names them per line (`ResourceLog`); a worker has one and names it on
every line.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hastfs.model import Role

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

SYSLOG_SOCKET = "/dev/log"

_WORDS = {
    logging.DEBUG: "DEBUG][1",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRIT",
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What hastd's command line says about logging; workers get the same."""

    foreground: bool
    debug: int
    """How often -d was given."""


class _Formatter(logging.Formatter):
    """The original's form of a line; a traceback follows on lines of its own."""

    def __init__(self, resource: str, role: str) -> None:
        super().__init__()
        self._resource = resource
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        words = [f"[{_WORDS.get(record.levelno, record.levelname)}]"]
        resource = getattr(record, "resource", self._resource)
        role = getattr(record, "role", self._role)
        if resource:
            words.append(f"[{resource}]")
        if role:
            words.append(f"({role})")
        return " ".join((*words, super().format(record)))


class ResourceLog(_Adapter):
    """Says which resource a line is about, and what its role was at that moment."""

    def __init__(self, logger: logging.Logger, resource: str, role: Callable[[], Role]) -> None:
        super().__init__(logger, {})
        self._resource = resource
        self._role = role

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {"resource": self._resource, "role": self._role().word}
        return msg, kwargs


class _Syslog(logging.handlers.SysLogHandler):
    """Connects anew with every message while there is nobody to take it: a syslog may be started later."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """There is nobody left to tell."""


def setup(settings: LogSettings, *, resource: str = "", role: str = "") -> bool:
    """Point the root logger to where `settings` say. False: in the background, but there is no syslog to talk to."""
    handler: logging.Handler = logging.StreamHandler()
    if not settings.foreground:
        syslog = _Syslog(SYSLOG_SOCKET, logging.handlers.SysLogHandler.LOG_DAEMON)
        syslog.ident = f"hastd[{os.getpid()}]: "
        handler = syslog
    handler.setFormatter(_Formatter(resource, role))
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
        before.close()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    return settings.foreground or os.path.exists(SYSLOG_SOCKET)
