"""The primary dies under load: the other node takes over without losing what was flushed."""

from __future__ import annotations

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files, Fio, Writer
from tests.kernel.node import MIB, RESOURCE, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("replication", ["memsync", "async"])
def test_files_flushed_under_load_are_there_after_the_takeover(make_pair: MakePair, replication: str) -> None:
    pair = make_pair(Options(replication=replication, device=True), own_names=False)
    pair.start()
    pair.connect()
    files = Files(pair.a.device, pair.root / "disk")
    files.make()
    files.mount()
    with Writer(files), Fio(files.mountpoint / "load", pair, seconds=30):
        pair.a.until(lambda: len(files.safe) >= 40 and pair.to_b.sent > 48 * MIB, "both loads are busy")
        pair.a.kill()
    machine.release(pair.root)

    pair.b.become_primary()
    files.recover()
    files.mount()
    files.check()
    files.write_many("alone", 20 * MIB)
    done = pair.b.count("syncdone")
    pair.a.start()
    pair.a.role("secondary")
    pair.b.until_event("syncdone", before=done)
    files.umount()
    pair.rest()
    pair.assert_equal()


def test_a_takeover_in_the_middle_of_a_resync_is_refused_unless_forced(pair: Pair) -> None:
    pair.a.become_primary()
    with pair.a.image.open("r+b") as image:
        for number in range(64):
            image.write(number.to_bytes(1, "little") * MIB)
    sent = pair.to_b.sent
    pair.to_b.rate = 8 * MIB
    pair.b.role("secondary")
    pair.a.until(lambda: pair.to_b.sent > sent + 8 * MIB, "the resync is on its way")
    pair.a.kill()
    pair.b.until_event("disconnect")

    refused = pair.b.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode != 0
    assert "inconsistent" in refused.stderr.lower() or "resync" in refused.stderr.lower(), refused.stderr
    assert not pair.b.image_is_there()
    assert pair.b.status().role != "primary"

    pair.b.hastctl("role", "-f", "primary", RESOURCE)
    pair.b.until(pair.b.image_is_there, "the image is mounted")
    assert pair.b.status().role == "primary"
