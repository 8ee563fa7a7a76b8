"""A component on a block device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.config.parser import parse
from hastfs.config.schema import ResourceConfig
from hastfs.errors import BusyError, DataError
from hastfs.resource.provision import create, open_component, read_metadata
from hastfs.resource.waiting import data_of, finished
from tests.kernel import machine

pytestmark = pytest.mark.kernel

BLOCK = os.urandom(4096)


@pytest.fixture
def device(scratch: Path) -> Iterator[str]:
    """A loop device of 32 MiB."""
    file = scratch / "disk"
    with file.open("wb") as made:
        made.truncate(32 << 20)
    name = machine.run("losetup", "-f", "--show", file).stdout.strip()
    yield name
    machine.release(scratch)


@pytest.fixture
def config(device: str) -> ResourceConfig:
    text = f"resource disk {{ on here {{ local {device} remote none }} }}"
    return parse(text, "hast.conf", ["here"]).resources["disk"]


def make(config: ResourceConfig, *, force: bool = False) -> None:
    create(config, extentsize=1 << 20, keepdirty=4, mediasize=None, force=force)


async def test_data_is_written_read_and_zeroed(config: ResourceConfig, device: str) -> None:
    make(config)
    opened = open_component(config)
    component = opened.component()
    try:
        assert opened.metadata.datasize == (32 << 20) - 4096 - 512
        assert await finished(lambda done: component.write(8192, BLOCK * 2, done)) == 0
        assert await data_of(lambda done: component.read(8192, 8192, done)) == (0, BLOCK * 2)
        assert await finished(lambda done: component.zero(8192, 4096, done, allocated=False)) == 0
        assert await finished(lambda done: component.zero(12288, 512, done, allocated=True)) == 0
        assert await finished(component.flush) == 0
        expected = bytes(4096 + 512) + BLOCK[512:]
        assert await data_of(lambda done: component.read(8192, 8192, done)) == (0, expected)
    finally:
        component.close()


def test_a_device_in_use_is_nobody_elses(config: ResourceConfig) -> None:
    make(config)
    opened = open_component(config)
    try:
        with pytest.raises(BusyError):
            make(config)
        assert read_metadata(config).resource == "disk"
    finally:
        opened.close()


def test_a_mounted_device_is_not_even_taken_by_force(config: ResourceConfig, device: str, scratch: Path) -> None:
    mount = scratch / "mnt"
    mount.mkdir()
    machine.run("mkfs.ext4", "-q", device)
    with pytest.raises(DataError, match="ext4"):
        make(config)
    machine.run("mount", device, mount)
    with pytest.raises(BusyError, match="mounted"):
        make(config, force=True)
    machine.run("umount", mount)
    make(config, force=True)
