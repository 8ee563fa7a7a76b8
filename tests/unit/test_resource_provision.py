"""Making components, and what is refused when one is made or opened."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from hastfs.config.schema import ResourceConfig
from hastfs.errors import BusyError, ComponentError, DataError, MetadataError, SystemFailure
from hastfs.model import Consistency, Role
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.resource.component import open_locked
from hastfs.resource.provision import attach_component, create, open_component, read_metadata, without_component
from tests.simulation.node import resource_config

SIZE = 8 << 20


@pytest.fixture
def config(tmp_path: Path) -> ResourceConfig:
    return dataclasses.replace(resource_config(), local=str(tmp_path / "component"))


def make(config: ResourceConfig, size: int | None = SIZE, *, force: bool = False, extentsize: int = 2 << 20) -> None:
    create(config, extentsize=extentsize, keepdirty=64, mediasize=size, force=force)


def fill(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def patch(path: str, position: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(data)


def test_a_path_that_does_not_exist_becomes_a_file_with_its_space_reserved(config: ResourceConfig) -> None:
    make(config)
    found = os.stat(config.local)
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE
    assert found.st_mode & 0o777 == 0o600
    metadata = read_metadata(config)
    assert (metadata.resource, metadata.resuid, metadata.localcnt, metadata.remotecnt) == ("test", 0, 0, 0)
    assert (metadata.prevrole, metadata.consistency) == (Role.INIT, Consistency.CONSISTENT)
    assert metadata.datasize == SIZE - 4096 - 512


def test_a_path_that_does_not_exist_needs_a_size(config: ResourceConfig) -> None:
    with pytest.raises(ComponentError, match="-m"):
        make(config, None)
    assert not os.path.exists(config.local)


def test_impossible_sizes_leave_no_file_behind(config: ResourceConfig) -> None:
    for size, extentsize in ((100, 2 << 20), (4096, 2 << 20), (SIZE, 5120), (SIZE, 3 << 20)):
        with pytest.raises(DataError):
            make(config, size, extentsize=extentsize)
        assert not os.path.exists(config.local)


def test_a_disk_that_is_too_small_for_the_file_leaves_none_behind(config: ResourceConfig) -> None:
    with pytest.raises(SystemFailure, match="Unable to reserve"):
        make(config, 1 << 55)
    assert not os.path.exists(config.local)


def test_a_component_cannot_be_larger_than_its_file(config: ResourceConfig) -> None:
    make(config)
    with pytest.raises(DataError, match="larger"):
        make(config, SIZE + 512)


def test_a_component_may_be_smaller_than_its_file(config: ResourceConfig) -> None:
    fill(config.local, b"\xff" * SIZE)
    make(config, SIZE // 2, force=True)
    opened = open_component(config)
    assert opened.layout.mediasize == SIZE // 2
    assert not any(opened.ondisk_map)
    opened.close()


def test_a_file_system_is_only_overwritten_by_force(config: ResourceConfig) -> None:
    with open(config.local, "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", config.local], check=True)
    before = Path(config.local).read_bytes()
    with pytest.raises(DataError, match="ext4"):
        make(config, None)
    assert Path(config.local).read_bytes() == before
    make(config, None, force=True)
    assert read_metadata(config).resource == "test"


def test_another_resource_is_only_overwritten_by_force(config: ResourceConfig) -> None:
    make(dataclasses.replace(config, name="other"))
    with pytest.raises(DataError, match="holds resource other"):
        make(config, None)
    make(config, None, force=True)
    assert read_metadata(config).resource == "test"


def test_the_same_resource_can_be_made_again(config: ResourceConfig) -> None:
    make(config)
    patch(config.local, 4096, b"\xff")
    make(config, None)
    assert Path(config.local).read_bytes()[4096:4608] == bytes(512)


def test_a_component_in_use_is_not_made_again(config: ResourceConfig) -> None:
    make(config)
    opened = open_component(config)
    with pytest.raises(BusyError):
        make(config, None, force=True)
    with pytest.raises(BusyError):
        open_component(config)
    assert read_metadata(config).resource == "test"
    opened.close()
    make(config, None)


def test_the_map_on_disk_is_handed_over(config: ResourceConfig) -> None:
    make(config)
    patch(config.local, 4096, b"\x05")
    opened = open_component(config)
    assert opened.ondisk_map == b"\x05" + bytes(511)
    opened.close()


def test_a_component_of_another_resource_is_refused(config: ResourceConfig) -> None:
    make(dataclasses.replace(config, name="other"))
    with pytest.raises(MetadataError, match="is not part of resource test"):
        open_component(config)
    os.close(open_locked(config.local))  # and not locked for ever


def test_a_component_that_was_cut_short_is_refused(config: ResourceConfig) -> None:
    make(config)
    os.truncate(config.local, SIZE - 1)
    with pytest.raises(MetadataError, match="cut short"):
        open_component(config)


def test_a_component_that_grew_is_used_as_it_was_made(config: ResourceConfig) -> None:
    make(config)
    os.truncate(config.local, 1 << 40)
    opened = open_component(config)
    assert opened.layout.mediasize == SIZE
    opened.close()


def test_a_damaged_copy_of_the_metadata_is_survived_and_two_are_not(config: ResourceConfig) -> None:
    make(config)
    patch(config.local, 40, b"\xff\xff")
    opened = open_component(config)
    assert opened.metadata.resource == "test"
    opened.close()
    patch(config.local, SECOND_COPY + 40, b"\xff\xff")
    with pytest.raises(MetadataError, match="damaged"):
        open_component(config)
    with pytest.raises(MetadataError, match="damaged"):
        read_metadata(config)


def test_an_empty_file_and_zeros_are_no_component(config: ResourceConfig) -> None:
    fill(config.local, b"")
    with pytest.raises(ComponentError, match="too small"):
        open_component(config)
    fill(config.local, bytes(SIZE))
    with pytest.raises(MetadataError, match="not initialised"):
        open_component(config)


def test_a_component_that_is_attached_again_says_that_it_lacks_something(config: ResourceConfig) -> None:
    make(config)
    left = dataclasses.replace(read_metadata(config), resuid=7)
    attach_component(config, left).close()
    found = read_metadata(config)
    assert found.consistency is Consistency.INCONSISTENT
    assert found.resuid == 7 and not found.generations.current, "one that was made anew is to get everything"
    assert found.serial > left.serial


def test_one_of_another_pair_or_size_is_not_attached(config: ResourceConfig) -> None:
    make(config)
    found = read_metadata(config)
    before = Path(config.local).read_bytes()
    for left, what in (
        (dataclasses.replace(found, datasize=found.datasize + 512), "disk of .*hastctl create test"),
        (dataclasses.replace(found, extentsize=1 << 20), "extents of .*hastctl create -e 1M test"),
    ):
        with pytest.raises(ComponentError, match=what):
            attach_component(config, left)
    assert Path(config.local).read_bytes() == before


def test_without_a_component_there_is_nothing_to_lock(config: ResourceConfig) -> None:
    make(config)
    metadata = read_metadata(config)
    os.unlink(config.local)
    opened = without_component(config, metadata)
    assert opened.detached and opened.layout.datasize == metadata.datasize
    opened.close()
