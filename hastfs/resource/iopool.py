"""A few threads for disk calls that may sleep, with completions by callback on the trio thread.

trio.to_thread costs a task and hundreds of microseconds per call; this costs two queue operations.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class IOPool:
    """`threads` threads. Made, used and closed on the trio thread."""

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        """Runs `job` in a thread, then `done` with its result (or its OSError) on the trio thread."""
        self._jobs.put((job, done))

    def close(self) -> None:
        """Ends the threads; returns when what was submitted has run. Its callbacks may come later still."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result: Any
            try:
                result = job()
            except OSError as error:
                result = error
            with contextlib.suppress(trio.RunFinishedError):  # nobody is left to tell
                self._token.run_sync_soon(done, result)
