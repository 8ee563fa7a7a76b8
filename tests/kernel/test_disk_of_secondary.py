"""The secondary's disk fails: applications do not notice, and the secondary catches up when its disk is well again."""

from __future__ import annotations

import errno
import os
import time

import pytest

from hastfs.model import Consistency
from hastfs.ondisk.layout import COPY_SIZE, SECOND_COPY
from hastfs.ondisk.metadata import choose
from tests.kernel.conftest import MakePair
from tests.kernel.failing_disk import Disks, FailingDisk
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
    """b's; there is some data on the pair, which is connected."""
    disk = disks.failing(SIZE)
    pair.b.keep_on(disk.component)
    pair.start()
    pair.connect()
    write(pair.a, at=0, megabytes=4)
    return disk


def write(node: Node, *, at: int, megabytes: int) -> None:
    """Random data, flushed; OSError if the application is told of any trouble."""
    with node.image.open("r+b", buffering=0) as image:
        for number in range(megabytes):
            os.pwrite(image.fileno(), os.urandom(MIB), at + number * MIB)
        os.fsync(image.fileno())


def is_consistent(node: Node) -> bool:
    """What its metadata says of its data, on the disk and not by hastd's word."""
    with node.component.open("rb") as component:
        head = component.read(4096)
    metadata, _ = choose(head[:COPY_SIZE], head[SECOND_COPY : SECOND_COPY + COPY_SIZE])
    return metadata.consistency is Consistency.CONSISTENT


def assert_healed(pair: Pair, *, synced_before: int) -> None:
    """Without a word of anybody's, within a bounded time."""
    pair.a.until_event("syncdone", before=synced_before, timeout=40)
    pair.a.until_status("complete")
    pair.rest()
    pair.assert_equal()
    assert is_consistent(pair.b)


@pytest.mark.parametrize(("replication", "error"), [("memsync", errno.EIO), ("async", errno.ENOSPC)])
def test_writes_that_fail_on_the_secondary_are_sent_again_when_its_disk_is_well(
    make_pair: MakePair, disks: Disks, replication: str, error: int
) -> None:
    pair = make_pair(Options(replication=replication, mediasize=SIZE, timeout=3, keepdirty=2))
    disk = disks.failing(SIZE)
    pair.b.keep_on(disk.component)
    pair.start()
    pair.connect()
    disk.fail("write", error=error, start=DATA)
    write(pair.a, at=8 * MIB, megabytes=4)
    pair.a.until(lambda: pair.a.dirty() >= 4 * MIB, "what the secondary lacks is dirty", timeout=10)
    assert f"bytes at {8 * MIB}: {os.strerror(error)}." in pair.b.log.read_text()
    pair.b.until(lambda: not is_consistent(pair.b), "the gap is on record", timeout=10)
    synced = pair.a.count("syncdone")

    disk.heal()
    write(pair.a, at=0, megabytes=1)
    assert_healed(pair, synced_before=synced)


def test_a_secondary_with_a_gap_is_refused_as_primary(pair: Pair, disk: FailingDisk) -> None:
    disk.fail("write", start=DATA, end=DATA + 12 * MIB)
    write(pair.a, at=8 * MIB, megabytes=1)
    pair.a.kill()
    disk.heal()
    pair.b.until(lambda: "Disconnected" in pair.b.tail(), "b has noticed", timeout=10)
    refused = pair.b.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode != 0
    assert "inconsistent" in refused.stderr or "resync" in refused.stderr, refused.stderr
    assert pair.b.status().role == "secondary"

    pair.a.start()
    synced = pair.a.count("syncdone")
    pair.a.become_primary()
    assert_healed(pair, synced_before=synced)


def test_a_flush_that_fails_on_the_secondary_sends_again_what_may_be_lost(pair: Pair, disk: FailingDisk) -> None:
    synced = pair.a.count("syncdone")
    disk.fail("flush", times=1)
    write(pair.a, at=8 * MIB, megabytes=4)
    pair.a.until_event("disconnect")
    assert "Unable to flush 0 bytes at 0: Input/output error." in pair.b.log.read_text()
    assert "the other node cannot flush its disk (Input/output error)" in pair.a.log.read_text()
    assert_healed(pair, synced_before=synced)


def test_a_secondary_that_cannot_record_its_gap_ends_the_link(pair: Pair, disk: FailingDisk) -> None:
    """The second flush that fails is that of its metadata: the primary goes on alone, and that is on record."""
    synced = pair.a.count("syncdone")
    disk.fail("flush", times=2)
    write(pair.a, at=8 * MIB, megabytes=4)
    pair.a.until_event("disconnect")
    pair.b.until(lambda: "Unable to write metadata" in pair.b.log.read_text(), "it says why", timeout=10)
    assert_healed(pair, synced_before=synced)


def test_a_secondary_that_is_full_at_write_back_is_brought_up_to_date_when_there_is_room(
    pair: Pair, disks: Disks
) -> None:
    disk = disks.small(SIZE, 6 * MIB)
    pair.b.keep_on(disk.component)
    pair.start()
    pair.connect()
    synced = pair.a.count("syncdone")
    write(pair.a, at=0, megabytes=16)
    pair.a.until_event("disconnect")
    assert "the other node cannot flush its disk" in pair.a.log.read_text()
    write(pair.a, at=2 * MIB, megabytes=2)
    disk.grow(2 * SIZE)
    assert_healed(pair, synced_before=synced)


def test_a_resync_from_a_secondary_that_cannot_read_is_tried_until_it_can(pair: Pair, disk: FailingDisk) -> None:
    pair.a.role("init")
    pair.b.become_primary()
    pair.cut()
    pair.b.until_status("degraded")
    write(pair.b, at=8 * MIB, megabytes=4)
    pair.b.role("secondary")
    disk.forget()
    disk.fail("read", start=DATA + 9 * MIB)
    pair.heal()
    pair.a.become_primary()
    pair.a.until(lambda: "Unable to synchronize" in pair.a.tail(), "the resync has failed", timeout=10)
    assert "Unable to read" in pair.b.tail()
    assert not is_consistent(pair.a)
    assert is_consistent(pair.b)
    disk.heal()
    assert_healed(pair, synced_before=0)
    assert is_consistent(pair.a)


def test_a_secondary_whose_disk_does_not_answer_costs_no_more_than_the_timeout(pair: Pair, disk: FailingDisk) -> None:
    disk.hang("write", "flush")
    started = time.monotonic()
    write(pair.a, at=8 * MIB, megabytes=4)
    stalled = time.monotonic() - started
    assert stalled < OPTIONS.timeout + 4, f"applications stalled for {stalled:.1f} s"
    pair.a.until_status("degraded", timeout=5)

    started = time.monotonic()
    status = pair.b.hastctl("status", RESOURCE, check=False)
    assert time.monotonic() - started < 5, "hastctl status has to wait for a disk"
    assert "does not answer" in status.stderr
    synced = pair.a.count("syncdone")
    disk.heal()
    assert_healed(pair, synced_before=synced)
