"""The only writer of metadata and map, and the recorder of being alone, over a simulated disk."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hastfs.errors import ComponentError
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.resource.alone import Alone
from hastfs.resource.metastore import Metastore
from hastfs.resource.status import Statistics
from hastfs.resource.waiting import finished
from tests.simulation.disk import SimulatedComponent, SimulatedDisk


@asynccontextmanager
async def metastore(*, running: bool = True) -> AsyncIterator[tuple[Metastore, SimulatedDisk, trio.Nursery]]:
    disk = SimulatedDisk("test", 4096 + 64 * 512 + (128 << 20), extentsize=512)
    async with trio.open_nursery() as nursery:
        component = SimulatedComponent(disk, nursery)
        activemap = Activemap(disk.layout.nextents, 4)
        store = Metastore(component, disk.metadata, activemap, Statistics(), metaflush=True)
        if running:
            nursery.start_soon(store.run)
        yield store, disk, nursery
        nursery.cancel_scope.cancel()


async def test_the_second_copy_is_durable_before_the_first_is_written(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, _):
        await store.update(localcnt=1)
        await store.update(localcnt=2)
        assert [position for position, _ in disk.durable_writes] == [SECOND_COPY, 0] * 2
        assert (disk.metadata.localcnt, disk.metadata.serial) == (2, 3)


async def test_changes_that_depend_on_the_old_values_do_not_undo_each_other(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, nursery):
        disk.latency["durable"] = 1.0
        for _ in range(3):
            nursery.start_soon(store.revise, lambda metadata: replace(metadata, localcnt=metadata.localcnt + 1))
        await trio.sleep(5)
        assert disk.metadata.localcnt == 3


async def test_a_write_of_metadata_that_fails_changes_nothing(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, _):
        disk.failing["durable"] = errno.EIO
        with pytest.raises(ComponentError, match="metadata"):
            await store.update(localcnt=1)
        assert store.metadata.localcnt == disk.metadata.localcnt == 0


async def test_only_changed_pages_are_written_and_neighbours_together(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, _):
        for extent in (0, 32768, 5 * 32768):
            store.activemap.begin_write(extent, extent)
        assert await finished(store.when_mapped) == 0
        assert [(position, len(data)) for position, data in disk.durable_writes] == [
            (4096, 8192),
            (4096 + 5 * 4096, 4096),
        ]


async def test_the_disks_refusal_reaches_those_who_wait_and_the_next_one_tries_again(
    autojump_clock: MockClock,
) -> None:
    async with metastore() as (store, disk, _):
        disk.failing["durable"] = errno.EIO
        store.activemap.begin_write(3, 3)
        assert await finished(store.when_mapped) == errno.EIO
        disk.failing.clear()
        assert await finished(store.when_mapped) == 0
        assert disk.map[0] == 1 << 3


async def test_nobody_waits_for_a_writer_that_has_ended(autojump_clock: MockClock) -> None:
    async with metastore(running=False) as (store, disk, _):
        disk.latency["durable"] = 5.0
        answers: list[int] = []
        with trio.move_on_after(1):
            async with trio.open_nursery() as running:
                running.start_soon(store.run)
                store.activemap.begin_write(3, 3)
                store.when_mapped(answers.append)
                await trio.sleep(0.5)
                store.activemap.begin_write(4, 4)
                store.when_mapped(answers.append)
        assert answers == [0, errno.EIO]  # the first was being written
        store.activemap.begin_write(5, 5)
        store.when_mapped(answers.append)
        assert answers == [0, errno.EIO, errno.EIO]
        await store.write_cleaned()
        assert answers == [0, errno.EIO, errno.EIO], "each is told once"


async def test_the_end_of_both_the_writer_and_who_waits_for_it_is_no_refusal_of_the_disk(
    autojump_clock: MockClock,
) -> None:
    async with metastore() as (store, _, nursery):
        await wait_all_tasks_blocked()
        store.activemap.begin_write(0, 0)
        nursery.start_soon(store.make_durable)
        nursery.cancel_scope.cancel()


async def test_being_alone_is_recorded_once_until_the_nodes_are_the_same_again(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, nursery):
        alone = Alone(store)
        nursery.start_soon(alone.run)
        assert await finished(alone.when_recorded) == 0
        assert disk.metadata.localcnt == 0
        for _ in range(3):
            alone.want()
            assert await finished(alone.when_recorded) == 0
            assert disk.metadata.localcnt == 1
        assert disk.metadata.resuid
        generations = disk.metadata.generations
        assert alone.new_stint()
        alone.want()
        assert not alone.new_stint()
        assert await finished(alone.when_recorded) == 0
        assert disk.metadata.localcnt == 2
        assert disk.metadata.generations.current != generations.current


async def test_a_record_that_fails_is_an_error_and_is_tried_again(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, nursery):
        alone = Alone(store)
        nursery.start_soon(alone.run)
        disk.failing["durable"] = errno.EIO
        alone.want()
        assert await finished(alone.when_recorded) == errno.EIO
        disk.failing.clear()
        assert await finished(alone.when_recorded) == 0
        assert disk.metadata.localcnt == 1


async def test_nobody_waits_for_a_recorder_that_has_ended(autojump_clock: MockClock) -> None:
    async with metastore() as (store, disk, _):
        alone = Alone(store)
        answers: list[int] = []
        disk.latency["durable"] = 5.0
        with trio.move_on_after(1):
            async with trio.open_nursery() as running:
                running.start_soon(alone.run)
                alone.want()
                alone.when_recorded(answers.append)
        assert answers == [0]  # it was being recorded
        assert alone.new_stint()
        alone.want()
        alone.when_recorded(answers.append)
        assert answers == [0, errno.EIO]
