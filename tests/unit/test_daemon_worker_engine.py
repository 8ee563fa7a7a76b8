"""A worker that is told of a changed configuration, before and after it has something to change."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.worker import _Engine
from hastfs.resource.primary import Primary
from hastfs.resource.status import Status
from tests.daemon_fakes import CONFIG


class FakePrimary:
    def __init__(self) -> None:
        self.applied: list[ResourceConfig] = []

    def status(self, cells: int = 0) -> Status:
        return Status("complete", 1, 2, 3)

    def apply(self, config: ResourceConfig) -> None:
        self.applied.append(config)


async def test_a_configuration_that_comes_before_the_engine_waits_for_it() -> None:
    engine, at_work = _Engine(), FakePrimary()
    early, late = replace(CONFIG, timeout=7), replace(CONFIG, timeout=8)
    engine.configure(CONFIG)
    engine.configure(early)
    engine.works(cast("Primary", at_work))
    engine.configure(late)
    assert at_work.applied == [early, late]
    assert engine.status(0) == Status("complete", 1, 2, 3)


async def test_an_engine_is_left_alone_until_something_changes() -> None:
    engine, at_work = _Engine(), FakePrimary()
    engine.works(cast("Primary", at_work))
    assert at_work.applied == []
