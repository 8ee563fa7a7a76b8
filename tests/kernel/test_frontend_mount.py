"""Mounting and unmounting, and the life of a session, over real FUSE."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.errors import BusyError
from hastfs.frontend import mount
from tests.kernel.frontend_support import PATIENCE, Image, mounted_image

pytestmark = pytest.mark.kernel


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with mounted_image(tmp_path) as image:
        yield image


def reader(path: Path) -> subprocess.Popen[str]:
    """A process that reads the image's first block, bypassing its cache."""
    command = ["dd", f"if={path}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})


def test_unmounting_ends_the_session_in_order_and_removes_the_name(image: Image) -> None:
    server = image.serve()
    mount.unmount(str(image.path))
    server.counts()
    assert not image.path.exists()
    assert not mount.is_mounted(str(image.path))
    mount.unmount(str(image.path))


def test_an_image_in_use_is_not_unmounted(image: Image) -> None:
    image.serve()
    with image.path.open("rb"), pytest.raises(BusyError, match="in use"):
        mount.unmount(str(image.path))
    assert os.stat(image.path).st_size == image.size
    mount.unmount(str(image.path))


def test_a_lazily_unmounted_image_serves_whoever_has_it_open(image: Image) -> None:
    server = image.serve()
    with image.path.open("rb", buffering=0) as file:
        mount.unmount(str(image.path), lazy=True)
        assert not image.path.exists()
        assert file.read(4096) == bytes(4096)
    server.counts()


def test_answers_that_come_after_the_end_harm_nobody(image: Image) -> None:
    server = image.serve("late")
    waiting = reader(image.path)
    server.wait_for_line("kept")
    subprocess.run(["umount", "--force", "--lazy", image.path], check=True, timeout=PATIENCE)
    assert waiting.communicate(timeout=PATIENCE)[1] != ""
    assert server.counts()["reads"] == 1


def test_a_cancelled_session_ends_in_order_and_another_one_goes_on(image: Image) -> None:
    first = image.serve()
    image.path.open("rb").close()  # else the next server, forked here, would have to close the image before it serves
    with image.path.open("r+b", buffering=0) as file:
        file.write(b"data")
        first.stop()
        first.counts()
        image.serve("take-over")
        file.seek(0)
        assert file.read(8) == b"data\0\0\0\0"


def test_what_a_dead_server_left_unanswered_is_answered_by_the_next(image: Image) -> None:
    dead = image.serve("mute")
    waiting = reader(image.path)
    dead.wait_for_line("kept")
    dead.kill()
    image.serve("take-over")
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, said


def test_what_a_cancelled_session_left_unanswered_is_answered_by_the_next(image: Image) -> None:
    first = image.serve("mute")
    waiting = reader(image.path)
    first.wait_for_line("kept")
    first.stop()
    first.counts()
    image.serve("take-over")
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, said


def test_a_server_that_leaves_answers_what_it_took_and_the_next_one_gets_the_rest(image: Image) -> None:
    leaving = image.serve("mute")
    asked_before = reader(image.path)
    leaving.wait_for_line("kept")
    leaving.leave()
    asked_after = subprocess.Popen(["stat", "--file-system", image.path], stdout=subprocess.DEVNULL)
    assert leaving.process.poll() is None, "it waits for the answer to what it took"
    leaving.answer()
    _, said = asked_before.communicate(timeout=PATIENCE)
    assert "Input/output error" in said, "as the volume answered"
    assert leaving.counts()["reads"] == 1
    assert asked_after.poll() is None, "it waits in the kernel"
    image.serve("take-over", "in-order")
    assert asked_after.wait(PATIENCE) == 0


def test_servers_that_leave_in_order_need_no_kernel_that_sends_requests_again(image: Image) -> None:
    server = image.serve()
    for number in range(5):
        with image.path.open("r+b") as file:
            file.seek(512 * number)
            file.write(b"data")
        os.stat(image.path)
        server.leave()
        server.counts()
        server = image.serve("take-over", "in-order")
    assert image.path.read_bytes()[: 512 * 5] == (b"data" + bytes(508)) * 5


def test_a_process_that_is_killed_while_it_waits_does_not_disturb_others(image: Image) -> None:
    server = image.serve("mute")
    waiting = reader(image.path)
    server.wait_for_line("kept")
    waiting.send_signal(signal.SIGINT)  # the kernel sends INTERRUPT, which pyfuse3 must not see
    os.stat(image.path)
    server.kill()
    image.serve("take-over")
    waiting.communicate(timeout=PATIENCE)
    assert image.path.read_bytes()[:512] == bytes(512)


def test_closing_the_image_does_not_wait_for_a_server(image: Image) -> None:
    server = image.serve()
    script = "import sys; files = [open(sys.argv[1]) for _ in 'ab']; files.pop().close(); print('open', flush=True)"
    script += "; input(); files.pop().close(); print('closed', flush=True)"
    command = [sys.executable, "-c", script, str(image.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "open\n"
        server.kill()
        try:
            assert user.communicate("\n", timeout=PATIENCE)[0] == "closed\n"
        finally:
            subprocess.run(["umount", "--force", "--lazy", image.path], check=True, timeout=PATIENCE)


def test_nothing_else_is_covered(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BusyError, match="no empty file"):
        mount.open_and_mount(str(path))
    assert path.read_text() == "data"
    mount.unmount(str(path))
    assert path.read_text() == "data"
    with pytest.raises(BusyError, match="no empty file"):
        mount.open_and_mount(str(tmp_path))


def test_a_mount_that_lives_is_not_covered(image: Image) -> None:
    image.serve()
    with pytest.raises(BusyError, match="mount point already"):
        mount.open_and_mount(str(image.path))


def test_a_mount_without_a_worker_is_not_taken_for_a_dead_one(image: Image) -> None:
    assert not mount.is_dead(str(image.path))
    with pytest.raises(BusyError, match="mount point already"):
        mount.open_and_mount(str(image.path))
    image.serve()  # for the probe, which still waits


def test_a_dead_mount_is_found_and_cleared_away(tmp_path: Path) -> None:
    path = str(tmp_path / "with space" / "disk")
    os.close(mount.open_and_mount(path))
    try:
        with pytest.raises(OSError) as caught:
            os.stat(path)
        assert caught.value.errno == errno.ENOTCONN
        assert mount.is_dead(path)
        os.close(mount.open_and_mount(path))
    finally:
        mount.unmount(path, lazy=True)
    assert not mount.is_mounted(path)
    assert not os.path.lexists(path)


def test_a_symbolic_link_on_the_way_is_understood(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    path = str(tmp_path / "alias" / "disk")
    os.close(mount.open_and_mount(path))
    try:
        assert mount.is_mounted(path)
    finally:
        mount.unmount(path)
    assert os.listdir(tmp_path / "real") == []


def test_the_descriptor_is_not_inherited_by_accident(image: Image) -> None:
    assert not os.get_inheritable(image.fuse_fd)
    assert not os.get_blocking(image.fuse_fd)
