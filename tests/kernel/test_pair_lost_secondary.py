"""The secondary dies and comes back: the primary goes on alone and sends what was missed, and only that."""

from __future__ import annotations

import os

import pytest

from tests.kernel.component import allocated
from tests.kernel.conftest import MakePair
from tests.kernel.load import Fio
from tests.kernel.node import MIB, RESOURCE, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def fill(pair: Pair, megabytes: int, *, at: int = 0) -> None:
    """Random bytes into the primary's image, flushed."""
    with pair.a.image.open("r+b", buffering=0) as image:
        image.seek(at)
        for _ in range(megabytes):
            image.write(os.urandom(MIB))
        os.fsync(image.fileno())


@pytest.mark.parametrize("replication", ["fullsync", "memsync", "async"])
def test_a_killed_secondary_catches_up_with_only_the_dirty_extents(make_pair: MakePair, replication: str) -> None:
    pair = make_pair(Options(replication=replication))
    pair.start()
    pair.connect()
    fill(pair, 96)
    with Fio(pair.a.image, pair, seconds=6, offset=32 * MIB, size=16 * MIB) as fio:
        pair.a.until(lambda: pair.to_b.sent > 104 * MIB, "fio is busy", timeout=20)
        pair.b.kill()
        pair.a.until_status("degraded", timeout=25)
        pair.a.until(lambda: pair.a.dirty() > 0, "extents are dirty")
        assert fio.running(), "the load ended before the secondary died"
        fio.finish()
    pair.a.until_event("disconnect")

    sent = pair.to_b.sent
    done = pair.a.count("syncdone")
    pair.b.start()
    pair.b.role("secondary")
    pair.a.until_event("syncdone", before=done)
    pair.a.until_status("complete")
    resync = pair.to_b.sent - sent
    room = (pair.a.options.keepdirty + 16 + 2) * pair.a.options.extentsize  # the range of the load, and what was hot
    assert 0 < resync < room, f"{resync} bytes were sent for 16 MiB of changes"
    kept = pair.a.options.keepdirty * pair.a.options.extentsize
    pair.a.until(lambda: pair.a.dirty() <= kept, "no more is dirty than what was hot")
    pair.rest()
    pair.assert_equal()


def test_a_secondary_that_dies_while_it_catches_up_catches_up_at_the_next_attempt(pair: Pair) -> None:
    pair.a.become_primary()
    fill(pair, 64)
    pair.to_b.rate = 8 * MIB
    sent = pair.to_b.sent
    pair.b.role("secondary")
    pair.a.until(lambda: pair.to_b.sent > sent + 8 * MIB, "the resync is on its way")
    pair.b.kill()
    pair.a.until_event("syncintr")
    pair.to_b.rate = None
    done = pair.a.count("syncdone")
    pair.b.start()
    pair.b.role("secondary")
    pair.a.until_event("syncdone", before=done)
    pair.rest()
    pair.assert_equal()


def test_a_resync_goes_on_while_an_application_writes(pair: Pair) -> None:
    pair.connect()
    fill(pair, 64)
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    fill(pair, 64)
    pair.to_b.rate = 24 * MIB
    done = pair.a.count("syncdone")
    pair.heal()
    with Fio(pair.a.image, pair, seconds=5, offset=16 * MIB, size=4 * MIB) as fio:
        pair.a.until_status("complete")
        fio.finish()
    pair.to_b.rate = None
    pair.a.until_event("syncdone", before=done)
    pair.rest()
    pair.assert_equal()


def test_a_fresh_secondary_gets_everything_and_holes_stay_holes(pair: Pair) -> None:
    pair.a.become_primary()
    fill(pair, 16, at=100 * MIB)
    pair.b.role("secondary")
    pair.a.until_event("syncdone")
    pair.rest()
    pair.assert_equal()
    used = allocated(pair.b.component)
    assert 16 * MIB <= used < 32 * MIB, f"{used} bytes are allocated for 16 MiB of data"


def test_a_replaced_secondary_gets_everything_again(pair: Pair) -> None:
    pair.connect()
    fill(pair, 16)
    pair.b.stop()
    pair.a.until_status("degraded", timeout=25)
    pair.b.create()
    with pair.b.component.open("r+b") as component:  # left-overs of an earlier life where the primary has zeros
        component.seek(200 * MIB)
        component.write(b"stale" * 1000)
    done = pair.a.count("syncdone")
    pair.b.start()
    pair.b.role("secondary")
    pair.a.until_event("syncdone", before=done)
    pair.rest()
    pair.assert_equal()


def test_hooks_hear_of_every_turn(pair: Pair) -> None:
    pair.connect()
    pair.a.until(lambda: f"role {RESOURCE} init primary" in pair.a.events(), "the hook heard of the role")
    pair.b.until(lambda: f"role {RESOURCE} init secondary" in pair.b.events(), "the hook heard of the role")
    pair.a.until_event("connect")
    fill(pair, 1)
    pair.cut()
    pair.a.until_event("disconnect")
    pair.b.until_event("disconnect")
    fill(pair, 2)
    pair.heal()
    pair.a.until_event("syncdone")
    words = [line.split()[0] for line in pair.a.events()]
    assert sorted(words[:2]) == ["connect", "role"]
    assert words[-4:] == ["disconnect", "connect", "syncstart", "syncdone"]
