"""Takes the whole terminal, and gives it back as it was."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Final

import trio
from rich.console import Console, ConsoleDimensions, Group
from rich.control import Control
from rich.screen import Screen
from rich.text import Text

from hastfs.errors import UsageError

_DUMB: Final = ("dumb", "unknown", "")


class NoTerminal(UsageError):
    """There is none, or none on which lines can be drawn anew."""


class Terminal:
    """Standard input and output, which are a terminal. Raises NoTerminal if they are not."""

    def __init__(self, *, no_color: bool = False) -> None:
        if not (os.isatty(0) and os.isatty(1)):
            raise NoTerminal("hastctl monitor needs a terminal. `hastctl status` tells the same once, to anything.")
        if os.environ.get("TERM", "") in _DUMB:
            raise NoTerminal(
                f"hastctl monitor cannot draw on a terminal of type {os.environ.get('TERM') or 'unknown'} (TERM). "
                "`watch hastctl status` can."
            )
        self._console = Console(no_color=no_color or None, highlight=False, soft_wrap=False)
        self.ascii_only = self._console.options.ascii_only

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now: COLUMNS and LINES in the environment are of another moment."""
        return os.get_terminal_size(1)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Its second screen, without a cursor, and every key at once; ^C and ^Z go on making signals."""
        before = termios.tcgetattr(0)
        try:
            tty.setcbreak(0, termios.TCSADRAIN)
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            yield
        finally:
            # Whoever hung up has no terminal that could be given back.
            with contextlib.suppress(OSError):
                self._console.show_cursor(True)
                self._console.set_alt_screen(False)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSAFLUSH, before)

    async def typed(self) -> bytes:
        """What keys were pressed, at least one; nothing if the terminal hung up."""
        await trio.lowlevel.wait_readable(0)
        try:
            return os.read(0, 1024)
        except OSError:
            return b""

    def draw(self, lines: Sequence[Text]) -> None:
        """All of the screen, in one write."""
        self._console.size = ConsoleDimensions(*self.size)
        self._console.print(Control.home(), Screen(Group(*lines)), sep="", end="")
