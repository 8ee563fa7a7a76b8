"""What a killed hastd leaves behind, and what must not be taken for it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from hastfs.config.files import node_names
from hastfs.config.parser import parse
from hastfs.config.schema import Config
from hastfs.daemon import leftovers
from hastfs.errors import HastError
from hastfs.frontend import loop, mount
from tests.kernel.frontend_support import MIB, Server, run

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


def test_what_was_made_for_a_mount_and_a_link_that_never_came_is_removed(config: Config, links: Path) -> None:
    os.makedirs(config.mountdir)
    Path(image(config)).touch()
    (links / "disk~").symlink_to("/dev/loop0")
    leftovers.clear(config, str(links))
    assert not os.path.lexists(image(config))
    assert not os.path.lexists(links / "disk~")


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


@pytest.mark.parametrize("knows_its_name", [True, False])
def test_a_device_whose_mount_went_with_its_namespace_is_removed(
    config: Config, links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_its_name: bool
) -> None:
    fd = mount.open_and_mount(image(config))
    with served(fd, tmp_path / "backing"):
        device = loop.attach(image(config))
        mount.unmount(image(config), lazy=True)
    (links / "disk").symlink_to(device)
    if not knows_its_name:  # as some minutes later, when the kernel asks the dead image for its attributes again
        monkeypatch.setattr(loop, "_status", Mock(side_effect=OSError(errno.ENOTCONN, "")))
    leftovers.clear(config, str(links))
    assert not os.path.lexists(links / "disk")
    assert loop.backing(device) is None


def test_the_image_of_another_mount_namespace_at_the_same_path_is_left_alone(
    config: Config, links: Path, tmp_path: Path
) -> None:
    path, source = image(config), str(tmp_path / "source")
    os.close(mount.open_and_mount(path))
    fd = mount.open_and_mount(source)
    with served(fd, tmp_path / "backing"), elsewhere(source, path) as theirs:
        assert loop.backing(theirs) == path
        assert loop.find(path) == []
        leftovers.clear(config, str(links))
        assert not mount.is_mounted(path)
        assert loop.backing(theirs) == path
        assert loop.find(path) == []


@contextlib.contextmanager
def served(fuse_fd: int, backing: Path) -> Iterator[None]:
    backing.write_bytes(bytes(MIB))
    server = Server(fuse_fd, backing)
    try:
        yield
    finally:
        server.close()
        os.close(fuse_fd)


@contextlib.contextmanager
def elsewhere(source: str, path: str) -> Iterator[str]:
    """A loop device on the image `source`, which is at `path` in a mount namespace with folders of its own."""
    script = (
        'mount -t tmpfs none "${2%/*}" && touch "$2" && mount --bind "$1" "$2" && losetup --find --show "$2" && cat'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", source, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as there:
        assert there.stdin is not None
        assert there.stdout is not None
        device = there.stdout.readline().strip()
        try:
            mount.unmount(source)
            yield device
        finally:
            run("losetup", "--detach", device)
            there.stdin.close()
