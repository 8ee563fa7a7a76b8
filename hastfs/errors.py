"""Every error a user can meet, with the exit status hastctl and hastd end with.

Exit statuses are those of sysexits(3), as hastctl(8) promises. A message names the resource, the file or the
address it is about and, where there is something to do, what to do.
"""

from __future__ import annotations

import os

_LONGEST_QUOTE = 300  # characters


def one_line(text: str) -> str:
    """A message with words in it that somebody else chose: on one line of the log, and not filling it."""
    printable = text if text.isprintable() else repr(text)[1:-1]
    return printable if len(printable) <= _LONGEST_QUOTE else f"{printable[:_LONGEST_QUOTE]}..."


def plain(error: BaseException) -> str:
    """Why it failed, without a period. Of an error of the system its own words: no `[Errno 32]`, nor what trio adds."""
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    # Errors of the resolver have numbers below 0, which strerror(3) does not know.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


class HastError(Exception):
    """Base of all errors that are reported as one line rather than as a traceback (EX_SOFTWARE)."""

    exit_code = os.EX_SOFTWARE  # 70


class UsageError(HastError):
    """The command line is wrong."""

    exit_code = os.EX_USAGE  # 64


class DataError(HastError):
    """An argument is well formed but does not fit: unknown resource, impossible size."""

    exit_code = os.EX_DATAERR  # 65


class ComponentError(HastError):
    """A component cannot be opened or used: missing, too small, of another resource, damaged."""

    exit_code = os.EX_NOINPUT  # 66


class MetadataError(ComponentError):
    """A component's metadata cannot be read or does not belong to the resource (hastctl dump ends with 255 then)."""


class SystemFailure(HastError):
    """The operating system refuses something we need: a port in use, no daemon to talk to."""

    exit_code = os.EX_OSERR  # 71


class ConfigMissing(HastError):
    """The configuration file cannot be opened."""

    exit_code = os.EX_OSFILE  # 72


class OutputError(HastError):
    """What a command has to say cannot be written."""

    exit_code = os.EX_IOERR  # 74


class BusyError(HastError):
    """Something is in use; the same command may work later, or with -f."""

    exit_code = os.EX_TEMPFAIL  # 75


class NotYet(HastError):
    """What was waited for is not so within the time that was given; waiting once more may help."""

    exit_code = os.EX_TEMPFAIL  # 75


class ProtocolError(HastError):
    """The other side sent what it must not send; the connection is dropped (promise 9)."""

    exit_code = os.EX_PROTOCOL  # 76

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ConfigError(HastError):
    """The configuration file says something that cannot be used."""

    exit_code = os.EX_CONFIG  # 78
