"""Where log lines go, which of them, and in what form (docs/logs.md).

Standard error in the foreground, or the journal if that is where it leads; syslog in the background. The supervisor
speaks about many resources and names them per line (`ResourceLog`); a worker has one and names it on every line.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from hastfs.daemon.logs import journal, syslog
from hastfs.daemon.logs.lines import Lines
from hastfs.daemon.logs.repeats import Repeats
from hastfs.model import LogFormat, LogLevel, Role

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

SYSLOG_SOCKET = syslog.SOCKET

_LOOK_EVERY = 30.0  # Seconds; for repeats that nothing else brings to light.


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What hastd was told about logging; workers get the same."""

    foreground: bool
    debug: int
    """How often -d was given."""
    form: LogFormat = LogFormat.CLASSIC
    chosen: LogLevel | None = None
    """By `hastctl log-level`; it counts more than -d."""

    @property
    def level(self) -> LogLevel:
        return self.chosen or (LogLevel.DEBUG if self.debug else LogLevel.INFO)


class ResourceLog(_Adapter):
    """Says which resource a line is about, and what its role was at that moment."""

    def __init__(self, logger: logging.Logger, resource: str, role: Callable[[], Role]) -> None:
        super().__init__(logger, {})
        self._resource = resource
        self._role = role

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {"resource": self._resource, "role": self._role().word, **kwargs.get("extra", {})}
        return msg, kwargs


class _Levels(logging.Filter):
    """Lines about a resource may have a level of their own."""

    def __init__(self, common: LogLevel) -> None:
        super().__init__()
        self.common = common
        self.of: dict[str, LogLevel] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self.of.get(getattr(record, "resource", ""), self.common).number

    @property
    def lowest(self) -> int:
        return min(level.number for level in (self.common, *self.of.values()))


def setup(settings: LogSettings, *, resource: str = "", role: str = "") -> bool:
    """Point the root logger to where `settings` say. False: in the background, but there is no syslog to talk to."""
    handler: logging.Handler = logging.StreamHandler()
    journaled = settings.foreground and journal.takes_stderr()
    if journaled:
        handler = journal.Journal()
    elif not settings.foreground:
        handler = syslog.Syslog(SYSLOG_SOCKET)
    handler.setFormatter(Lines(settings.form, resource, role, leveled=not journaled))
    handler.addFilter(_Levels(settings.level))
    handler.addFilter(Repeats(handler.handle))
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
        before.close()
    root.addHandler(handler)
    root.setLevel(settings.level.number)
    return settings.foreground or os.path.exists(SYSLOG_SOCKET)


def change(settings: LogSettings, resource: str = "") -> None:
    """From now on in that form, and with that level: all lines, or in the supervisor those about `resource`."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler.formatter, Lines):
            handler.formatter.form = settings.form
        for levels in handler.filters:
            if isinstance(levels, _Levels):
                _set_level(levels, settings.level, resource)
                root.setLevel(levels.lowest)


def _set_level(levels: _Levels, level: LogLevel, resource: str) -> None:
    if resource:
        levels.of[resource] = level
    else:
        levels.common = level


def tell_repeats(*, all_of_them: bool = False) -> None:
    """What came again and again, and has not been told: that which is due, or all because the process ends."""
    for handler in logging.getLogger().handlers:
        for repeats in handler.filters:
            if isinstance(repeats, Repeats):
                repeats.tell(all_of_them=all_of_them)


async def keep_telling_repeats() -> None:
    """Runs until cancelled, and then tells all."""
    try:
        while True:
            await trio.sleep(_LOOK_EVERY)
            tell_repeats()
    finally:
        tell_repeats(all_of_them=True)
