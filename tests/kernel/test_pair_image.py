"""The image of a primary as applications and administrators meet it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files, Fio
from tests.kernel.node import MIB, RESOURCE, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def test_the_image_is_a_private_regular_file_of_the_disk_s_size(pair: Pair) -> None:
    pair.a.become_primary()
    found = pair.a.image.stat()
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == pair.a.data_area().size
    assert [entry.name for entry in pair.a.mountdir.iterdir()] == [pair.a.provider]
    assert any(mount.kind == "fuse.hastfs" for mount in machine.mounts_below(pair.root))


def test_a_loop_device_made_by_hand_carries_a_file_system_to_both_nodes(pair: Pair) -> None:
    pair.connect()
    loop = Path(machine.run("losetup", "--find", "--show", "--direct-io=on", pair.a.image).stdout.strip())
    files = Files(loop, pair.root / "disk")
    files.make()
    files.mount()
    files.write_many("by-hand", 20 * MIB)
    machine.run("fstrim", files.mountpoint)
    files.umount()
    files.check_structure()
    machine.run("losetup", "-d", loop)
    pair.rest()
    pair.assert_equal()


def test_the_device_is_a_link_to_a_loop_device_with_direct_io(make_pair: MakePair) -> None:
    pair = make_pair(Options(device=True))
    pair.start()
    pair.a.become_primary()
    (loop,) = machine.loops_below(pair.root)
    assert os.readlink(pair.a.device) == loop
    assert Path(f"/sys/block/{Path(loop).name}/loop/dio").read_text().strip() == "1"
    pair.a.role("init")
    assert machine.loops_below(pair.root) == []
    assert not pair.a.device.is_symlink()


SHAPE_CHANGES: dict[str, Callable[[Path], object]] = {
    "make it smaller": lambda image: os.truncate(image, MIB),
    "make it larger": lambda image: os.truncate(image, image.stat().st_size + MIB),
    "empty it": lambda image: image.open("wb"),
    "unlink it": lambda image: image.unlink(),
    "rename it": lambda image: image.rename(image.with_name("elsewhere")),
    "link it": lambda image: os.link(image, image.with_name("elsewhere")),
    "replace it": lambda image: os.replace(image.parent.parent / "hast.conf", image),
    "write behind its end": lambda image: write_at(image, image.stat().st_size),
}


def write_at(image: Path, offset: int) -> None:
    with image.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"too far", offset)


@pytest.mark.parametrize("change", SHAPE_CHANGES)
def test_the_image_cannot_change_its_shape(pair: Pair, change: str) -> None:
    pair.a.become_primary()
    before = pair.a.image.stat()
    with pytest.raises(OSError):
        SHAPE_CHANGES[change](pair.a.image)
    after = pair.a.image.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert [entry.name for entry in pair.a.mountdir.iterdir()] == [pair.a.provider]


def test_a_discarded_range_reads_as_zeros_on_both_nodes(pair: Pair) -> None:
    pair.connect()
    with pair.a.image.open("r+b", buffering=0) as image:
        image.write(b"\xaa" * (4 * MIB))
        machine.run("fallocate", "--punch-hole", "--offset", str(MIB), "--length", str(MIB), pair.a.image)
        machine.run(
            "fallocate", "--zero-range", "--keep-size", "--offset", str(3 * MIB), "--length", "4096", pair.a.image
        )
        os.fsync(image.fileno())
    with pair.a.image.open("rb") as image:
        content = image.read(4 * MIB)
    assert content[MIB : 2 * MIB].count(0) == MIB
    assert content[3 * MIB : 3 * MIB + 4096].count(0) == 4096
    assert content.count(0xAA) == 3 * MIB - 4096
    pair.rest()
    pair.assert_equal()


def test_a_killed_worker_is_replaced_under_load(pair: Pair) -> None:
    pair.connect()
    worker = pair.a.fields()["workerpid"]
    with Fio(pair.a.image, pair, seconds=6) as fio:
        pair.a.until(lambda: pair.to_b.sent > 8 * MIB, "fio is busy")
        os.kill(int(worker), 9)
        pair.a.until(lambda: pair.a.fields().get("workerpid", "0") not in ("0", worker), "there is a new worker")
        fio.finish()
    pair.a.until_status("complete")
    pair.rest()
    pair.assert_equal()


def test_sigterm_takes_everything_away_that_hastd_made(make_pair: MakePair) -> None:
    pair = make_pair(Options(device=True))
    pair.start()
    pair.connect()
    assert pair.a.control.is_socket()
    assert stat.S_IMODE(pair.a.control.stat().st_mode) == 0o600
    assert pair.a.process is not None
    assert pair.a.pidfile.read_text().strip() == str(pair.a.process.pid)
    for node in pair.nodes:
        node.stop()
    assert machine.mounts_below(pair.root) == []
    assert machine.loops_below(pair.root) == []
    for node in pair.nodes:
        assert not node.device.is_symlink()
        assert not node.control.exists()
        assert not node.pidfile.exists()
        assert not node.image.exists()


def test_hastctl_stop_ends_the_daemon(pair: Pair) -> None:
    pair.a.become_primary()
    assert pair.a.process is not None
    pair.a.hastctl("stop")
    assert pair.a.process.wait(timeout=30) == 0
    assert machine.mounts_below(pair.a.root) == []
    pair.a.until(lambda: not pair.a.processes(), "no process of the node is left", timeout=10)
    refused = pair.a.hastctl("status", RESOURCE, check=False)
    assert refused.returncode == os.EX_OSERR
