"""The forms of a line: the original's, logfmt, JSON; and the facts of a record that the last two and journald take."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from hastfs.facts import Fact
from hastfs.model import LogFormat

_WORDS = {
    logging.DEBUG: "DEBUG][1",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRIT",
}

_UNQUOTED = re.compile(r"[^\s\"=\\\x00-\x20\x7f-\xa0]+")
"""What logfmt takes as it is."""


class Lines(logging.Formatter):
    """`form` may change at any time."""

    def __init__(self, form: LogFormat, resource: str = "", role: str = "", *, leveled: bool = True) -> None:
        """`resource`, `role`: of lines that do not say it themselves. `leveled`: the classic form begins with it."""
        super().__init__()
        self.form = form
        self._resource = resource
        self._role = role
        self._leveled = leveled

    def format(self, record: logging.LogRecord) -> str:
        if self.form is LogFormat.CLASSIC:
            return self._classic(record)
        return (logfmt if self.form is LogFormat.LOGFMT else _json)(self.fields(record))

    def _classic(self, record: logging.LogRecord) -> str:
        """The original's; a traceback follows on lines of its own."""
        words = [f"[{_WORDS.get(record.levelno, record.levelname)}]"] if self._leveled else []
        resource, role = self._whose(record)
        if resource:
            words.append(f"[{resource}]")
        if role:
            words.append(f"({role})")
        return " ".join((*words, super().format(record)))

    def fields(self, record: logging.LogRecord) -> dict[str, Fact]:
        """In the order of docs/logs.md, without those that are empty."""
        resource, role = self._whose(record)
        fields: dict[str, Fact] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "resource": resource,
            "role": role,
            "pid": record.process or 0,
            "event": getattr(record, "event", ""),
            "message": record.getMessage(),
        }
        fields = getattr(record, "facts", {}) | fields
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        order = [*_FIRST, *(name for name in fields if name not in _FIRST)]
        return {name: fields[name] for name in order if fields[name] != ""}

    def _whose(self, record: logging.LogRecord) -> tuple[str, str]:
        return getattr(record, "resource", self._resource), getattr(record, "role", self._role)


_FIRST = ("time", "level", "resource", "role", "pid", "event", "message")


def _time(seconds: float) -> str:
    """ISO 8601 with milliseconds, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{int(seconds * 1000) % 1000:03}Z"


def _json(fields: dict[str, Fact]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def logfmt(fields: dict[str, Fact]) -> str:
    """`name=value` with spaces between; a value that needs it is quoted as JSON quotes strings."""
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())


def _quoted(value: str) -> str:
    return value if _UNQUOTED.fullmatch(value) else json.dumps(value)
