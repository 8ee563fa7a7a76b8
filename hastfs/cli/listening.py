"""hastctl's side of EVENTS: news as they come, also across `hastctl upgrade`, and waiting for what they tell."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hastfs.cli.client import Client
from hastfs.errors import DataError, NotYet, SystemFailure
from hastfs.goal import Goal
from hastfs.news import Kind, News, Picture
from hastfs.protocol.control import ALL, ControlCommand, Request

STATE_WITHIN = 30.0
"""Seconds until hastd must have told the state: it asks its workers, or another version is just taking over."""


class HastdStopped(SystemFailure):
    """hastd ended in order: there is nothing more to wait for."""


def listen(
    control: str, names: tuple[str, ...], timeout: float | None = None, reader: int | None = None
) -> Iterator[News]:
    """The state and what comes after it; ends when hastd ends in order.

    `timeout`: seconds, counted from the state's end; TimeoutError when they are over. Raises DaemonError if hastd does
    not want to tell, SystemFailure if it is not there or vanishes without a word. After an upgrade the new hastd tells
    the state, behind a `missed`. `reader`: as for `Client`.
    """
    until = None if timeout is None else time.monotonic() + timeout
    last = None
    while True:
        with Client(control, STATE_WITHIN, reader) as client:
            if last is not None:
                timeout = None if until is None else max(0.0, until - time.monotonic())
                yield News(time.time(), Kind.MISSED)
            last = None
            for last in client.listen(Request(ControlCommand.EVENTS, resources=names), timeout):
                if last.kind is not Kind.END:
                    yield last
        if last is None or last.kind is not Kind.END:
            raise SystemFailure(f"hastd behind {control} is gone.")
        if last.facts.get("reason") != "upgrade":
            return


def wait_for(goal: Goal, control: str, names: tuple[str, ...], timeout: float | None) -> None:
    """Returns when it is so of all of them at the same time.

    Raises NotYet after `timeout` seconds (0: only the state of now counts), DataError for a name that hast.conf does
    not have, HastdStopped, and what `listen` raises.
    """
    picture = Picture(() if names == (ALL,) else names)
    try:
        for news in listen(control, names, timeout):
            picture.take(news)
            if unknown := picture.unknown():
                raise DataError(f"Unknown resource {unknown[0]}.")
            if picture.whole and not goal.missing(picture):
                return
    except TimeoutError:
        missing = ", ".join(goal.missing(picture))
        raise NotYet(f"Not {goal.value} within {timeout:g} s: {missing}.") from None
    raise HastdStopped("hastd has stopped.")
