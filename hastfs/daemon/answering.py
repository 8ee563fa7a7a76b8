"""What this node answers to the other one's `hastctl check`: nothing that it would not learn from a link."""

from __future__ import annotations

import os
import time

import trio

from hastfs import __version__
from hastfs.config.schema import ResourceConfig
from hastfs.errors import HastError
from hastfs.model import PROTOCOL_VERSION, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.probe import Answer, Component
from hastfs.resource.provision import read_metadata

DISK_WITHIN = 3.0
"""Seconds that the component has to be read."""

_one_at_a_time = trio.CapacityLimiter(1)
"""A disk that hangs costs one thread, however often somebody asks."""


async def answer(config: ResourceConfig, role: Role) -> Answer:
    """In bounded time; never raises."""
    component, metadata = Component.SILENT, None
    with trio.move_on_after(DISK_WITHIN):
        component, metadata = await trio.to_thread.run_sync(
            _look, config, abandon_on_cancel=True, limiter=_one_at_a_time
        )
    return Answer(
        __version__,
        PROTOCOL_VERSION,
        time.time(),
        role,
        config.replication,
        config.checksum,
        config.compression,
        config.timeout,
        component,
        0 if metadata is None else metadata.datasize,
        0 if metadata is None else metadata.extentsize,
        0 if metadata is None else metadata.resuid,
    )


def _look(config: ResourceConfig) -> tuple[Component, Metadata | None]:
    try:
        return Component.USABLE, read_metadata(config)
    except HastError:
        return Component.UNUSABLE if os.path.exists(config.local) else Component.MISSING, None
