"""The primary's disk fails: applications do not notice, and the disk catches up when it is attached again."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from hastfs.model import Consistency
from hastfs.ondisk.layout import COPY_SIZE, SECOND_COPY
from hastfs.ondisk.metadata import choose
from tests.kernel.conftest import MakePair
from tests.kernel.failing_disk import Disks, FailingDisk
from tests.kernel.machine import run
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

SIZE = 24 * MIB
OPTIONS = Options(replication="fullsync", mediasize=SIZE, timeout=3, keepdirty=2)
DATA = 4096 + 512
"""Where the data of such a component starts."""


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Not running yet."""
    return make_pair(OPTIONS)


@pytest.fixture
def disk(pair: Pair, disks: Disks) -> FailingDisk:
    """a's; there is some data on the pair, which is connected."""
    disk = disks.failing(SIZE)
    pair.a.keep_on(disk.component)
    pair.start()
    pair.connect()
    write(pair.a, bytes(range(256)) * 4096, at=0)
    return disk


def write(node: Node, data: bytes, *, at: int) -> None:
    """Flushed; OSError if the application is told of any trouble."""
    with node.image.open("r+b", buffering=0) as image:
        assert os.pwrite(image.fileno(), data, at) == len(data)
        os.fsync(image.fileno())


def read(node: Node, at: int, length: int) -> bytes:
    """Past the page cache of the image."""
    with node.image.open("rb", buffering=0) as image:
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(image.fileno(), length, at)


def is_consistent(node: Node) -> bool:
    """What its metadata says of its data, on the disk and not by hastd's word."""
    with node.component.open("rb") as component:
        head = component.read(4096)
    metadata, _ = choose(head[:COPY_SIZE], head[SECOND_COPY : SECOND_COPY + COPY_SIZE])
    return metadata.consistency is Consistency.CONSISTENT


def attach(pair: Pair) -> None:
    pair.a.hastctl("attach", RESOURCE)
    pair.a.until_status("complete")
    pair.a.until(lambda: is_consistent(pair.a), "a's component is whole again", timeout=10)


@pytest.mark.parametrize(
    ("what", "error"), [("write", errno.EIO), ("write", errno.ENOSPC), ("flush", errno.EIO), ("discard", errno.EIO)]
)
def test_the_resource_goes_on_without_the_component_and_gets_it_back(
    pair: Pair, disk: FailingDisk, what: str, error: int
) -> None:
    first, second = os.urandom(MIB), os.urandom(MIB)
    # A write with RWF_DSYNC is a flush, too: the metadata can then not be written either.
    disk.fail(what, error=error, start=DATA)
    if what == "discard":
        with pair.a.image.open("r+b", buffering=0) as image:
            run("fallocate", "-p", "-o", "0", "-l", str(MIB), pair.a.image)
            assert os.pread(image.fileno(), MIB, 0) == bytes(MIB)
    write(pair.a, first, at=8 * MIB)
    pair.a.until_status("detached")
    pair.a.until_event("detach")
    log = pair.a.log.read_text()
    assert f"hastctl attach {RESOURCE}" in log and os.strerror(error) in log
    write(pair.a, second, at=12 * MIB)
    assert read(pair.a, 8 * MIB, MIB) == first

    disk.heal()
    attach(pair)
    pair.a.until_event("attach")
    assert read(pair.a, 12 * MIB, MIB) == second
    pair.rest()
    pair.assert_equal()


def test_only_what_changed_is_copied_back(pair: Pair, disk: FailingDisk) -> None:
    disk.fail("write", start=DATA)
    write(pair.a, os.urandom(MIB), at=8 * MIB)
    pair.a.until_status("detached")
    disk.heal()
    with disk.backing.open("r+b") as backing:  # a resync of everything would mend that
        backing.seek(DATA + 20 * MIB)
        backing.write(b"untouched")
    attach(pair)
    with disk.backing.open("rb") as backing:
        backing.seek(DATA + 20 * MIB)
        assert backing.read(9) == b"untouched"


def test_a_disk_that_is_pulled_out_is_replaced_by_a_new_one(pair: Pair, disk: FailingDisk) -> None:
    """Under a file system that is being written to all the time."""
    mounted, replacement = pair.root / "mounted", pair.root / "replacement"
    mounted.mkdir()
    device = run("losetup", "-f", "--show", pair.a.image).stdout.strip()
    with contextlib.ExitStack() as last, contextlib.ExitStack() as cleaning:
        cleaning.callback(run, "losetup", "-d", device)
        run("mkfs.ext4", "-q", device)
        run("mount", device, mounted)
        cleaning.callback(run, "umount", mounted)
        writer = subprocess.Popen(
            ["sh", "-c", "i=0; while [ $i -lt 60 ]; do echo $i >>file && sync file || exit 1; i=$((i+1)); done"],
            cwd=mounted,
        )
        cleaning.callback(writer.wait, 60)
        disk.pull_out()
        assert writer.wait(60) == 0
        pair.a.until_status("detached")
        refused = pair.a.hastctl("attach", RESOURCE, check=False)
        assert refused.returncode == os.EX_NOINPUT and str(disk.component) in refused.stderr
        assert pair.a.status().status == "detached"

        replacement.touch()
        os.truncate(replacement, SIZE)
        run("mount", "--bind", replacement, disk.component)
        last.callback(run, "umount", "-l", disk.component)
        pair.a.create()
        attach(pair)
        assert (mounted / "file").read_text().split() == [str(number) for number in range(60)]
        cleaning.close()
        run("e2fsck", "-fn", pair.a.image)
        pair.rest()
        pair.assert_equal()


def test_a_worker_that_dies_without_its_component_is_followed_by_one_without(pair: Pair, disk: FailingDisk) -> None:
    disk.fail("write", "flush")
    data = os.urandom(MIB)
    write(pair.a, data, at=4 * MIB)
    pair.a.until_status("detached")
    os.kill(int(pair.a.fields()["workerpid"]), signal.SIGKILL)
    assert read(pair.a, 4 * MIB, MIB) == data
    write(pair.a, data, at=8 * MIB)
    pair.a.until_status("detached")


def test_a_hastd_that_is_upgraded_goes_on_without_the_component_and_gets_it_back(pair: Pair, disk: FailingDisk) -> None:
    disk.fail("write", "flush")
    data = os.urandom(MIB)
    write(pair.a, data, at=4 * MIB)
    pair.a.until_status("detached")
    for _ in range(2):
        pair.a.hastctl("upgrade")
        pair.a.until_status("detached")
        assert read(pair.a, 4 * MIB, MIB) == data
        write(pair.a, data, at=8 * MIB)
    disk.heal()
    attach(pair)
    pair.rest()
    pair.assert_equal()


def test_the_other_node_takes_over(pair: Pair, disk: FailingDisk) -> None:
    disk.fail("write", start=DATA)
    data = os.urandom(MIB)
    write(pair.a, data, at=4 * MIB)
    pair.a.kill()
    disk.heal()
    pair.b.become_primary()
    assert read(pair.b, 4 * MIB, MIB) == data
    write(pair.b, data, at=8 * MIB)
    pair.a.start()
    refused = pair.a.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode != 0
    pair.a.role("secondary")
    pair.b.until_status("complete")
    pair.b.until_event("syncdone", before=0, timeout=20)
    pair.rest()
    pair.assert_equal()


def test_the_other_node_is_cut_off_from_one_without_component(pair: Pair, disk: FailingDisk) -> None:
    """Requests wait for `timeout`, then fail; when it is back all goes on."""
    disk.fail("write", start=DATA)
    data = os.urandom(MIB)
    write(pair.a, data, at=4 * MIB)
    pair.a.until_status("detached")
    pair.cut()
    with pytest.raises(OSError):
        write(pair.a, data, at=6 * MIB)
    pair.heal()
    pair.a.until(lambda: "Connected to" in pair.a.tail().split("Disconnected from")[-1], "linked", timeout=15)
    write(pair.a, data, at=8 * MIB)
    assert read(pair.a, 4 * MIB, MIB) == data


@pytest.mark.parametrize("damage", ["deleted", "cut short"])
def test_a_component_that_vanishes_is_noticed(pair: Pair, damage: str) -> None:
    pair.start()
    pair.connect()
    write(pair.a, os.urandom(MIB), at=0)
    if damage == "deleted":
        pair.a.component.unlink()
    else:
        os.truncate(pair.a.component, 8 * MIB)
    pair.a.until_status("detached", timeout=20)
    assert f"was {damage}" in pair.a.log.read_text()
    write(pair.a, os.urandom(MIB), at=4 * MIB)


def test_without_the_other_node_a_deleted_component_goes_on_and_the_log_says_how_to_save_it(pair: Pair) -> None:
    pair.start()
    pair.a.become_primary()
    data = os.urandom(MIB)
    write(pair.a, data, at=0)
    pair.a.component.unlink()
    pair.a.until(lambda: "was deleted" in pair.a.log.read_text(), "said so", timeout=20)
    assert f"/proc/{pair.a.fields()['workerpid']}/fd" in pair.a.log.read_text()
    assert read(pair.a, 0, MIB) == data
    write(pair.a, data, at=4 * MIB)


def test_what_cannot_be_read_comes_from_the_other_node_and_is_written_anew(pair: Pair, disk: FailingDisk) -> None:
    disk.forget()
    bad = DATA + 64 * 1024
    disk.fail("read", start=bad, end=bad + 8192)
    written = disk.seen()["write"]
    expected = bytes(range(256)) * 4096
    assert read(pair.a, 0, MIB) == expected
    assert "written anew" in pair.a.log.read_text()
    assert disk.seen()["write"] > written
    disk.heal()
    disk.forget()
    assert read(pair.a, 0, MIB) == expected
    assert pair.a.status().status == "complete"


def test_a_full_disk_is_detached_and_attached_when_there_is_room(pair: Pair, disks: Disks) -> None:
    disk = disks.small(SIZE, 6 * MIB)
    pair.a.keep_on(disk.component)
    pair.start()
    pair.connect()
    for number in range(16):
        write(pair.a, os.urandom(MIB), at=number * MIB)
    pair.a.until_status("detached")
    disk.grow(2 * SIZE)
    attach(pair)
    pair.rest()
    pair.assert_equal()


def test_without_a_peer_a_full_sparse_component_is_an_error_and_nothing_else(
    make_pair: MakePair, scratch: Path
) -> None:
    small = scratch / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={6 * MIB}", "hastfs-test", small)
    try:
        pair = make_pair(OPTIONS)
        sparse = small / "component"
        sparse.touch()
        os.truncate(sparse, SIZE)
        pair.a.keep_on(sparse)
        pair.start()
        pair.a.become_primary()
        with pytest.raises(OSError, match="No space left"):
            for number in range(16):
                with pair.a.image.open("r+b", buffering=0) as image:
                    os.pwrite(image.fileno(), os.urandom(MIB), number * MIB)
                    os.fsync(image.fileno())
        assert pair.a.status().role == "primary"
        run("mount", "-o", f"remount,size={2 * SIZE}", small)
        write(pair.a, os.urandom(MIB), at=20 * MIB)
        pair.a.role("init")
    finally:
        run("umount", "-l", small)
