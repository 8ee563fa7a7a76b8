"""What `hastctl role --wait` waits for once the role is had."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from hastfs.cli.listening import wait_for
from hastfs.config.schema import Config, ResourceConfig
from hastfs.errors import HastError
from hastfs.frontend import usable
from hastfs.goal import Goal
from hastfs.model import Role

READY_WITHIN = 60.0
"""Seconds, if the command line does not say otherwise."""

DEVICES = "/dev/hast"

_GOALS = {Role.PRIMARY: Goal.USABLE, Role.SECONDARY: Goal.CONNECTED}  # `init` is had at once


def wait_until_ready(
    role: Role, names: list[str], config: Config, timeout: float | None
) -> Iterator[tuple[str, HastError]]:
    """Returns when applications can read a primary's image, and its device if there is one; when a secondary has met
    its primary. Gives what of that is not so within `timeout` seconds.
    """
    goal = _GOALS.get(role)
    if goal is None or not names:
        return
    until = time.monotonic() + (READY_WITHIN if timeout is None else timeout)
    for name in names:
        try:
            wait_for(goal, config.control, (name,), max(0.0, until - time.monotonic()))
            if goal is Goal.USABLE:
                _check(config.resource(name), config.mountdir, until)
        except HastError as error:
            yield name, error


def _check(resource: ResourceConfig, mountdir: str, until: float) -> None:
    usable.check_image(os.path.join(mountdir, resource.provider), max(0.0, until - time.monotonic()))
    if resource.device:
        usable.check_device(os.path.join(DEVICES, resource.provider), max(0.0, until - time.monotonic()))
