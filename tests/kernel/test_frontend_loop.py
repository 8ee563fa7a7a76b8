"""The image as a block device, with a file system and load on it, over real FUSE and loop."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.errors import SystemFailure
from hastfs.frontend import loop
from tests.kernel.frontend_support import (
    MIB,
    PATIENCE,
    Image,
    Server,
    ext4,
    fio_command,
    loop_device,
    mounted_image,
    run,
)
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with mounted_image(tmp_path) as image:
        yield image


@pytest.fixture
def server(image: Image) -> Server:
    return image.serve()


@pytest.fixture
def device(image: Image, server: Server) -> Iterator[str]:
    with loop_device(image.path) as device:
        yield device


def allocated(path: Path) -> int:
    """Bytes that the file takes."""
    return os.stat(path).st_blocks * 512


def test_the_device_has_the_images_size_and_bypasses_its_cache(image: Image, device: str) -> None:
    assert int(run("blockdev", "--getsize64", device)) == image.size
    assert int(run("blockdev", "--getss", device)) == 512
    assert loop.uses_direct_io(device)
    assert loop.backing(device) == str(image.path)
    assert loop.find(str(image.path)) == [device]
    assert str(image.path) in run("losetup", "--list", device)


def test_direct_io_is_a_choice(image: Image, server: Server) -> None:
    device = loop.attach(str(image.path), direct_io=False)
    try:
        assert not loop.uses_direct_io(device)
    finally:
        assert loop.detach(device)


def test_detaching_leaves_nothing(image: Image, server: Server) -> None:
    device = loop.attach(str(image.path))
    assert loop.detach(device)
    assert loop.backing(device) is None
    assert loop.find(str(image.path)) == []
    assert loop.detach(device)


def test_a_device_in_use_is_detached_when_its_user_closes_it(image: Image, device: str) -> None:
    with open(device, "rb"):
        assert not loop.detach(device)
        assert loop.backing(device) == str(image.path)
    assert loop.backing(device) is None


def test_attaching_at_the_same_time_gives_different_devices(image: Image, server: Server) -> None:
    devices: list[str] = []
    threads = [threading.Thread(target=lambda: devices.append(loop.attach(str(image.path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    try:
        assert len(set(devices)) == 4
        assert sorted(devices) == sorted(loop.find(str(image.path)))
    finally:
        for device in devices:
            loop.detach(device)


def test_no_image_no_device(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=r"no-such-file.*No such file"):
        loop.attach(str(tmp_path / "no-such-file"))


def test_a_link_to_a_device_that_is_no_longer_attached_is_replaced(tmp_path: Path, image: Image, device: str) -> None:
    path = str(tmp_path / "hast" / "demo")
    other = loop.attach(str(image.path))
    loop.link(other, path)
    loop.link(device, path)  # of the same image: ours from an earlier life
    loop.link(other, path)
    loop.detach(other)
    loop.link(device, path)
    assert os.path.realpath(path) == device


def test_discards_reach_the_volume(image: Image, server: Server, device: str) -> None:
    run("dd", "if=/dev/urandom", f"of={device}", "bs=1M", "count=8", "oflag=direct", "status=none")
    assert allocated(image.backing) >= 8 * MIB
    run("blkdiscard", "--offset", "0", "--length", str(4 * MIB), device)
    assert allocated(image.backing) < 5 * MIB
    run("blkdiscard", "--zeroout", "--offset", str(4 * MIB), "--length", str(2 * MIB), device)
    with image.backing.open("rb") as backing:
        assert backing.read(6 * MIB) == bytes(6 * MIB)
        assert backing.read(2 * MIB) != bytes(2 * MIB)
    loop.detach(device)
    server.stop()
    counts = server.counts()
    assert counts["discards"] >= 1
    assert counts["allocated"] >= 1


def test_a_file_system_trims_what_it_deleted(image: Image, device: str, tmp_path: Path) -> None:
    with ext4(device, tmp_path) as directory:
        (directory / "large").write_bytes(os.urandom(20 * MIB))
        run("sync", "--file-system", str(directory))
        before = allocated(image.backing)
        (directory / "large").unlink()
        run("sync", "--file-system", str(directory))
        assert "trimmed" in run("fstrim", "--verbose", str(directory))
        assert allocated(image.backing) < before - 15 * MIB
        run("umount", str(directory))
    run("e2fsck", "-f", "-n", device)


def test_syncs_above_arrive_as_flushes(image: Image, server: Server, device: str, tmp_path: Path) -> None:
    with ext4(device, tmp_path) as directory:
        for number in range(3):
            with (directory / str(number)).open("wb") as file:
                file.write(b"data")
                file.flush()
                os.fsync(file.fileno())
        run("umount", str(directory))
    loop.detach(device)
    server.stop()
    assert server.counts()["flushes"] >= 3


def test_fio_finds_everything_it_wrote(device: str, tmp_path: Path) -> None:
    options = ["--rw=randwrite", "--bsrange=4k-1m", "--blockalign=4k", "--size=24m", "--iodepth=16", "--verify=crc32c"]
    with ext4(device, tmp_path) as directory:
        run(*fio_command(directory / "file", *options, "--do_verify=1"))
        run("umount", str(directory))
    run("e2fsck", "-f", "-n", device)


def test_killing_the_server_under_load_is_a_pause_and_no_error(
    image: Image, server: Server, device: str, tmp_path: Path
) -> None:
    options = ["--rw=randrw", "--bs=4k", "--size=16m", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1"]
    with ext4(device, tmp_path) as directory:
        command = fio_command(directory / "file", *options, "--time_based", "--runtime=2", "--verify_backlog=512")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as load:
            try:
                for _ in range(2):
                    wait_for_writes(device, 500)
                    image.servers[-1].kill()
                    image.serve("take-over")
                wait_for_writes(device, 500)
                said, _ = load.communicate(timeout=PATIENCE)
            finally:
                load.kill()
        assert load.returncode == 0, said
        run("umount", str(directory))
    run("e2fsck", "-f", "-n", device)


def wait_for_writes(device: str, count: int) -> None:
    """Waits until the device has finished `count` writes from now on."""
    statistics = Path(f"/sys/block/{os.path.basename(device)}/stat")

    def finished() -> int:
        return int(statistics.read_text().split()[4])

    goal = finished() + count
    wait_for(lambda: finished() >= goal, f"{count} writes on {device}", timeout=PATIENCE, interval=0.01)
