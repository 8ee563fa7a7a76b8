"""Waiting for something to become true, with a deadline and a reason when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(
    probe: Callable[[], Value],
    what: str,
    *,
    timeout: float = 30.0,
    interval: float = 0.1,
    otherwise: Callable[[], str] | None = None,
) -> Value:
    """Asks `probe` every `interval` seconds until it gives something true, and returns that.

    Raises AssertionError after `timeout` seconds, with `what` was waited for, the last answer and `otherwise`'s words.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            hint = f"\n{otherwise()}" if otherwise else ""
            raise AssertionError(f"after {timeout:g} s still not so: {what} (last answer: {answer!r}){hint}")
        time.sleep(interval)
