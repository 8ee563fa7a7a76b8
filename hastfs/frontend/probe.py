"""Asking something of a file whose server may be dead, or alive and not answering: the asker must not hang with it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

PROBE_SECONDS = 1.0
"""For an answer; a server at work needs a thousandth of it."""


def error_of(question: Callable[[], object], name: str, within: float = PROBE_SECONDS) -> int | None:
    """The errno that `question` fails with, 0 if it does not; None if there is no answer in `within` seconds.

    It is asked on a thread of its own, which is left behind when there is no answer.
    """
    found: list[int] = []

    def ask() -> None:
        try:
            question()
        except OSError as error:
            found.append(error.errno or errno.EIO)
        else:
            found.append(0)

    thread = threading.Thread(target=ask, name=f"probe {name}", daemon=True)
    thread.start()
    thread.join(within)
    return found[0] if found else None
