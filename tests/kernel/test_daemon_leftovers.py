"""What a killed hastd leaves behind, and what must not be taken for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.config.files import node_names
from hastfs.config.parser import parse
from hastfs.config.schema import Config
from hastfs.daemon import leftovers
from hastfs.errors import HastError
from hastfs.frontend import mount

pytestmark = pytest.mark.kernel


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    text = f"resource disk {{ on {node_names()[0]} {{ local {tmp_path}/disk.img remote none }} }}"
    made = dataclasses.replace(parse(text, "hast.conf", node_names()), mountdir=str(tmp_path / "mnt"))
    yield made
    with contextlib.suppress(HastError):
        mount.unmount(image(made), lazy=True)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    path = tmp_path / "hast"
    path.mkdir()
    return path


def image(config: Config) -> str:
    return os.path.join(config.mountdir, "disk")


def test_a_dead_mount_and_a_link_to_nowhere_are_removed(config: Config, links: Path) -> None:
    os.close(mount.open_and_mount(image(config)))
    (links / "disk").symlink_to("/dev/loop4095")
    leftovers.clear(config, str(links))
    assert not mount.is_mounted(image(config))
    assert not os.path.lexists(image(config))
    assert not os.path.lexists(links / "disk")


def test_nothing_left_behind_means_nothing_to_do(config: Config, links: Path) -> None:
    leftovers.clear(config, str(links))
    assert list(links.iterdir()) == []


def test_a_mount_that_somebody_serves_is_left_alone(
    config: Config, links: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leftovers, "_WORKERS_END_WITHIN", 0.0)
    fd = mount.open_and_mount(image(config))
    try:
        leftovers.clear(config, str(links))
        assert mount.is_mounted(image(config))
        assert "served by somebody else" in caplog.text
    finally:
        os.close(fd)


def test_other_files_of_that_name_are_left_alone(config: Config, links: Path) -> None:
    (links / "disk").write_text("precious")
    os.makedirs(config.mountdir)
    Path(image(config)).write_text("precious")
    leftovers.clear(config, str(links))
    assert (links / "disk").read_text() == Path(image(config)).read_text() == "precious"
