"""A few threads for disk calls that may sleep, with completions by callback on the trio thread.

trio.to_thread costs a task and hundreds of microseconds per call; this costs two queue operations, and a look by
whoever polls.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from hastfs.poller import poll

T = TypeVar("T")


class IOPool:
    """`threads` threads. Made, used and closed on the trio thread."""

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._over: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # rung after each job, for a poller that sleeps
        self._heard = self._taken = 0  # rings, completions
        self._submitted = 0
        self._closed = False
        self._closing = threading.Lock()  # the bell: a component may be closed by another thread
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        trio.lowlevel.spawn_system_task(self._complete)

    def submit(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        """Runs `job` in a thread, then `done` with its result (or its OSError) on the trio thread."""
        self._submitted += 1
        self._jobs.put((job, done))

    @property
    def waiting(self) -> int:
        """Jobs that are not over."""
        return self._submitted - self._taken

    def close(self) -> None:
        """Ends the threads; returns when what was submitted has run. Its callbacks may come later still."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        with self._closing:
            self._closed = True
            os.eventfd_write(self._bell, 1)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result: Any
            try:
                result = job()
            except OSError as error:
                result = error
            self._over.append((done, result))
            os.eventfd_write(self._bell, 1)

    async def _complete(self) -> None:
        try:
            await poll(self._bell, self._look)
        finally:
            with self._closing:
                if self._closed:
                    os.close(self._bell)

    def _look(self) -> int | None:
        # A ring may come a little later than what it tells of.
        if self._over or self._closed or self._heard != self._taken:
            with contextlib.suppress(BlockingIOError):
                self._heard += os.eventfd_read(self._bell)
        if not self._over:
            return None if self._closed else 0
        count = 0
        while self._over:
            done, result = self._over.popleft()
            self._taken += 1
            done(result)
            count += 1
        return count
