"""Going into the background, without telling the caller that all is well before it is."""

from __future__ import annotations

import os
import sys

_SERVING = b"\0"


class Detached:
    """The background process's word to the one that the user started, which waits for it."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def serving(self) -> None:
        """The daemon can be reached: the foreground process exits with 0."""
        os.write(self._pipe, _SERVING)
        os.close(self._pipe)


def detach() -> Detached:
    """Returns in the background process: in a session of its own, in `/`, with /dev/null for standard input, output
    and error, because what is started from here must not keep the caller's pipes open. The foreground process waits
    for `serving`, or exits with EX_OSERR if that never comes.

    To be called before any thread or child process is started.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writer)
        _exit_when_serving(reader)
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)  # What is left has no way back to a terminal.
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    return Detached(writer)


def _exit_when_serving(pipe: int) -> None:
    if os.read(pipe, 1) == _SERVING:
        os._exit(os.EX_OK)
    os.write(2, b"[ERROR] hastd did not start; its log says why.\n")
    os._exit(os.EX_OSERR)
