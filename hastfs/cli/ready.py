"""What `hastctl role --wait` waits for once the role is had."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hastfs.cli.listening import wait_for
from hastfs.config.schema import Config
from hastfs.errors import HastError, NotYet
from hastfs.frontend import usable
from hastfs.goal import READY_WITHIN, Goal
from hastfs.model import Role


def wait_until_ready(
    role: Role, names: list[str], config: Config, timeout: float | None
) -> Iterator[tuple[str, HastError]]:
    """Returns when applications can read a primary's image, and its device if there is one; when a secondary has met
    its primary. Gives what of that is not so within `timeout` seconds.
    """
    goal = Goal.of_role(role)
    if goal is None or not names:
        return
    within = READY_WITHIN if timeout is None else timeout
    until = time.monotonic() + within
    for name in names:
        try:
            _wait_for(goal, config.control, name, until, within)
            if goal is Goal.USABLE:
                resource = config.resource(name)
                usable.check(resource, config.mountdir, max(0.0, until - time.monotonic()))
        except HastError as error:
            yield name, error


def _wait_for(goal: Goal, control: str, name: str, until: float, within: float) -> None:
    """Like `wait_for`, for one resource: whoever reports the error says which; `within` is the time that users gave."""
    try:
        wait_for(goal, control, (name,), max(0.0, until - time.monotonic()))
    except NotYet:
        raise NotYet(f"Not {goal.value} within {within:g} s.") from None
