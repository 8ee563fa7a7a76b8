"""What the programs write: messages with their level as the original marks them, and sizes as people read them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from hastfs.errors import OutputError

_PREFIXES = "KMGTPE"
_DIVISOR = 1024
_DECIMAL_CUT = 972.8
"""Above this remainder of 1024 a value would be rounded to the next whole number (humanize_number(3))."""


def open_standard() -> None:
    """Standard output or error that was closed (`>&-`) is there again, so that no file or socket gets its number.

    Output still fails, as for any program: with EBADF.
    """
    if sys.stdout is None:
        sys.stdout = _unwritable(1)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end; nobody is left to tell


def _unwritable(number: int) -> TextIO:
    fd = os.open(os.devnull, os.O_RDONLY)
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)
    return open(number, "w", closefd=False)


def say(text: str) -> None:
    """Prints it on standard output, at once. Raises OutputError if that cannot be done.

    BrokenPipeError: its reader has seen enough (`| head -1`), which is nothing to complain about.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _give_up_output()
        raise
    except OSError as error:
        _give_up_output()
        raise OutputError(f"Unable to write to standard output: {error.strerror}.") from error


def error(message: str, resource: str = "") -> None:
    """One line on standard error."""
    print(f"[ERROR] {_about(resource)}{message}", file=sys.stderr)


def warning(message: str, resource: str = "") -> None:
    """One line on standard error."""
    print(f"[WARNING] {_about(resource)}{message}", file=sys.stderr)


def debug(level: int, wanted: int, message: str, resource: str = "") -> None:
    """One line on standard output, if -d was given `level` times or more often (`wanted`)."""
    if wanted >= level:
        say(f"[DEBUG][{level}] {_about(resource)}{message}")


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"[{record.levelname}] {record.getMessage()}", file=sys.stderr)


@contextlib.contextmanager
def log_shown() -> Iterator[None]:
    """What the rooms below log as a warning or worse meanwhile looks like a message of ours."""
    handler = _ToStandardError(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _give_up_output() -> None:
    """What is still buffered goes nowhere; otherwise Python tries once more when it ends, and complains."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _about(resource: str) -> str:
    return f"[{resource}] " if resource else ""


def humanize(size: int) -> str:
    """Bytes in at most four characters, as `humanize_number(3)` with HN_DECIMAL makes it for the original: `64M`."""
    quotient, remainder, scale = size, 0, 0
    while (quotient >= 1000 or (quotient == 999 and remainder >= _DIVISOR // 2)) and scale < len(_PREFIXES):
        quotient, remainder = divmod(quotient, _DIVISOR)
        scale += 1
    prefix = _PREFIXES[scale - 1] if scale else ""
    if scale and (quotient < 9 or (quotient == 9 and remainder < _DECIMAL_CUT)):
        whole, tenths = divmod(quotient * 10 + (remainder * 10 + _DIVISOR // 2) // _DIVISOR, 10)
        return f"{whole}.{tenths}{prefix}"
    return f"{quotient + (remainder + _DIVISOR // 2) // _DIVISOR}{prefix}"


def with_size(size: int) -> str:
    """`67104256 (64MB)`."""
    return f"{size} ({humanize(size)}B)"
