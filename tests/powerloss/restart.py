"""Nodes that start again on what a power loss left: the engines of production, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio
import trio.testing

from hastfs.config.schema import ResourceConfig
from hastfs.errors import DataError, HastError
from hastfs.model import Consistency
from hastfs.ondisk.layout import Layout
from hastfs.resource.connector import Connector
from hastfs.resource.events import Event
from hastfs.resource.primary import Primary
from hastfs.resource.provision import open_component
from hastfs.resource.waiting import plain_errors
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import agreed, pair, resource_config, until


def start_all(heads: Iterable[bytes], path: Path, resource: str, layout: Layout) -> list[str]:
    """Starts a primary without a link on each: `heads` are metadata and map. `path` is where the component goes.

    Returns complaints: only data in the middle of a resync may be refused, and has to be.
    """
    config = replace(resource_config(), name=resource, local=str(path), remote=None)
    return trio.run(_start_all, list(heads), path, config, layout)


async def _start_all(heads: list[bytes], path: Path, config: ResourceConfig, layout: Layout) -> list[str]:
    complaints = []
    with path.open("wb", buffering=0) as file:
        for head in heads:
            file.truncate(0)
            os.pwrite(file.fileno(), head, 0)
            file.truncate(layout.mediasize)
            complaints.append(await _start(config))
    return [complaint for complaint in complaints if complaint]


async def _start(config: ResourceConfig) -> str:
    try:
        opened = open_component(config)
    except HastError as error:
        return str(error)
    component = opened.component()
    try:
        primary = Primary(config, component, opened.metadata, opened.ondisk_map)
        connector = Connector(primary, lambda _: None, _ignore, force=False)
        with plain_errors():
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(primary.serve, connector, force=False))
                await primary.stop()
    except DataError as error:
        return "" if opened.metadata.consistency is Consistency.INCONSISTENT else str(error)
    except HastError as error:
        return str(error)
    finally:
        component.close()
    return "inconsistent data is served" if opened.metadata.consistency is Consistency.INCONSISTENT else ""


def _ignore(event: Event) -> None:
    """Hooks have no part in this."""


def resynced(components: tuple[bytes, bytes], layout: Layout, *, primary: int) -> tuple[bytes, bytes]:
    """Both nodes' data areas when they have met and agreed. Raises HastError, TooSlowError (they never agree)."""
    return trio.run(_resync, components, layout, primary, clock=trio.testing.MockClock(autojump_threshold=0))


async def _resync(components: tuple[bytes, bytes], layout: Layout, primary: int) -> tuple[bytes, bytes]:
    async with pair(size=layout.mediasize, extentsize=layout.extentsize) as nodes:
        for node, component in zip(nodes, components, strict=True):
            _put(node.disk, component)
        one, other = nodes[primary], nodes[1 - primary]
        other.become_secondary()
        await one.become_primary()
        await until(lambda: agreed(one, other))
        await one.stop()
        return nodes[0].disk.data, nodes[1].disk.data


def _put(disk: SimulatedDisk, component: bytes) -> None:
    disk.content[:] = disk.stable[:] = component
