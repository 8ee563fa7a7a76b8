"""Who is found to be using an image, with real mounts, loop devices and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hastfs.frontend.holders import holders
from tests.kernel.frontend_support import PATIENCE, Image, ext4, loop_device, mounted, mounted_image, run

pytestmark = pytest.mark.kernel


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with mounted_image(tmp_path, 16 << 20) as image:
        image.serve()
        yield image


@pytest.fixture
def device(image: Image) -> Iterator[str]:
    with loop_device(image.path) as device:
        yield device


@contextmanager
def user(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that says a line when it has what it is to have, and ends when its input does."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


def opener(path: str) -> tuple[str, ...]:
    return ("sh", "-c", 'exec 3<"$1"; echo ready; read line', "sh", path)


def test_nobody_holds_an_idle_image(image: Image) -> None:
    assert holders(str(image.path)) == []


def test_the_image_itself_is_no_holder_below_another_root_directory(image: Image, tmp_path: Path) -> None:
    code = (
        "import os, sys; from hastfs.frontend.holders import holders; os.chroot(sys.argv[1]); os.chdir('/');"
        " print(holders(sys.argv[2]))"
    )
    with mounted("/proc", tmp_path / "proc", "--bind"), mounted("/sys", tmp_path / "sys", "--bind"):
        said = run(sys.executable, "-c", code, str(tmp_path), f"/{image.path.relative_to(tmp_path)}")
    assert said == "[]\n"


def test_a_process_that_has_the_image_open_is_named(image: Image) -> None:
    with user(*opener(str(image.path))) as process:
        assert holders(str(image.path)) == [f"process {process.pid} (sh) has {image.path} open"]
        assert holders(str(image.path), exclude_pids={process.pid}) == []
    assert holders(str(image.path)) == []


def test_our_own_loop_device_is_no_holder_but_others_are(image: Image, device: str) -> None:
    assert holders(str(image.path), exclude_loops={device}) == []
    assert holders(str(image.path)) == [f"losetup -d {device} first: it is attached to {image.path}"]


def test_a_loop_device_of_something_else_is_not_taken_for_ours(image: Image, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(1 << 20))
    with loop_device(tmp_path / "other") as other, user(*opener(other)):
        assert holders(str(image.path), exclude_loops={other}) == []


def test_a_process_that_has_our_loop_device_open_is_named(image: Image, device: str) -> None:
    with user(*opener(device)) as process:
        assert holders(str(image.path), exclude_loops={device}) == [f"process {process.pid} (sh) has {device} open"]


def test_a_mounted_file_system_is_named(image: Image, device: str, tmp_path: Path) -> None:
    with ext4(device, tmp_path) as directory:
        said = holders(str(image.path), exclude_loops={device})
    assert said == [f"umount {directory} first: {device} is mounted on {directory}"]


def test_a_mounted_file_system_in_another_namespace_is_named(image: Image, device: str, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", "-F", device)
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    script = 'mount "$1" "$2" && echo ready && read line'
    with user("unshare", "--mount", "sh", "-c", script, "sh", device, str(directory)) as process:
        said = holders(str(image.path), exclude_loops={device})
    assert said == [
        f"umount {directory} first: {device} is mounted on {directory} in the mount namespace of process"
        f" {process.pid} (sh)"
    ]


def test_an_image_opened_under_another_name_in_another_namespace_is_found(image: Image, tmp_path: Path) -> None:
    inside = tmp_path / "disk-of-the-container"
    inside.touch()
    script = 'mount --bind "$1" "$2" && exec 3<"$2" && echo ready && read line'
    with user("unshare", "--mount", "sh", "-c", script, "sh", str(image.path), str(inside)) as process:
        said = holders(str(image.path))
    assert said == [
        f"umount {inside} first: {image.path} is mounted there in the mount namespace of process {process.pid} (sh)",
        f"process {process.pid} (sh) has {image.path} open",
    ]


def test_a_bind_mount_is_named(image: Image, tmp_path: Path) -> None:
    (tmp_path / "bound").touch()
    run("mount", "--bind", str(image.path), str(tmp_path / "bound"))
    try:
        said = holders(str(image.path))
    finally:
        run("umount", str(tmp_path / "bound"))
    assert said == [f"umount {tmp_path / 'bound'} first: {image.path} is mounted there"]


def test_swap_is_named(image: Image, device: str) -> None:
    run("mkswap", device)
    run("swapon", device)
    try:
        said = holders(str(image.path), exclude_loops={device})
    finally:
        run("swapoff", device)
    assert said == [f"swapoff {device} first: it is in use as swap"]


def test_a_second_loop_device_is_named_together_with_its_users(image: Image, device: str, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", "-F", device)
    with loop_device(image.path) as second, mounted(second, tmp_path / "mnt") as directory:
        said = holders(str(image.path), exclude_loops={device})
        assert said == [
            f"umount {directory} first: {second} is mounted on {directory}",
            f"losetup -d {second} first: it is attached to {image.path}",
        ]


def test_an_image_that_nobody_serves_is_looked_at_without_waiting(image: Image) -> None:
    with user(*opener(str(image.path))) as process:
        image.servers[-1].kill()
        assert holders(str(image.path)) == [f"process {process.pid} (sh) has {image.path} open"]
        image.serve("take-over")  # to let the user close it


def test_an_image_that_is_not_mounted_has_no_holders(tmp_path: Path) -> None:
    assert holders(str(tmp_path / "none"), exclude_pids={os.getpid()}) == []
