"""The life of a pair from the first file system to the last comparison, in every replication mode."""

from __future__ import annotations

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files
from tests.kernel.node import MIB, Options

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    ("replication", "checksum", "compression"),
    [("fullsync", "crc32", "lzf"), ("memsync", "none", "hole"), ("async", "sha256", "none")],
)
def test_a_file_system_survives_the_death_of_the_primary_and_the_return_of_the_old_one(
    make_pair: MakePair, replication: str, checksum: str, compression: str
) -> None:
    options = Options(
        replication=replication, checksum=checksum, compression=compression, device=True, mediasize=512 * MIB
    )
    pair = make_pair(options, own_names=False)
    pair.start()
    pair.connect()
    files = Files(pair.a.device, pair.root / "disk")
    files.make()
    files.mount()
    files.write_many("before", 150 * MIB)

    pair.a.kill()
    machine.release(pair.root)
    pair.b.become_primary()
    files.recover()
    files.mount()
    files.check()
    files.write_many("alone", 50 * MIB)
    assert pair.b.status().status == "degraded"
    assert pair.b.dirty() > 0

    done = pair.b.count("syncdone")
    pair.a.start()
    pair.a.role("secondary")
    pair.b.until_event("syncdone", before=done)
    pair.b.until_status("complete")
    files.write_many("together", 1 * MIB)
    files.umount()
    files.check_structure()
    kept = pair.b.options.keepdirty * pair.b.options.extentsize
    pair.b.until(lambda: pair.b.dirty() <= kept, "no more is dirty than what was hot")
    pair.rest()
    pair.assert_equal()

    pair.b.role("secondary")
    pair.a.become_primary()  # and back again: what the old primary learned is a whole file system
    files.check_structure()
    files.mount()
    files.check()
    files.umount()
