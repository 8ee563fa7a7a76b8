"""Moments at which a link comes or goes, each of which once lost data, hung a request or stopped the resync."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import DataError
from hastfs.model import Consistency, Replication
from hastfs.protocol.nv import NvType, encode_entry
from tests.simulation.disk import Fault
from tests.simulation.node import BLOCK, EXTENT, agreed, connected, in_sync, linked, pair, primary_out_of_date, until

NEW = BLOCK[::-1]


async def test_a_write_of_the_old_link_that_ends_after_the_next_one_is_up_is_resynced(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await connected(a, b)
        for channel in a.connections:
            channel.stalled = True
        a.disk.latency["write"] = 30.0
        nursery.start_soon(a.write, 0, BLOCK)
        await trio.sleep(1)
        a.cut()
        await until(lambda: linked(a))
        await trio.sleep(5)
        assert BLOCK not in a.disk.data, "the write must outlive the start of the link for this test to mean anything"
        await until(lambda: BLOCK in a.disk.data)
        a.disk.latency.clear()
        await until(lambda: BLOCK in b.disk.data and agreed(a, b), timeout=30)
        assert a.disk.data == b.disk.data


@pytest.mark.parametrize("mode", list(Replication))
async def test_the_other_node_has_it_on_record_that_it_lacks_a_write_of_the_old_link(
    autojump_clock: MockClock, mode: Replication
) -> None:
    """Later writes do get there: without this one, its copy never was the disk (promise 6)."""
    async with pair(replication=mode) as (a, b), trio.open_nursery() as nursery:
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.latency["write"] = 30.0
        nursery.start_soon(a.write, 0, BLOCK)
        await trio.sleep(1)
        b.reachable = True
        await until(lambda: linked(a))
        b.disk.latency["write"] = 30.0
        a.disk.latency.clear()
        await until(lambda: a.primary is not None and not a.primary.active)
        assert await a.flush() == 0
        assert BLOCK not in b.disk.data, "the resync must not be over for this test to mean anything"
        assert b.disk.metadata.consistency is Consistency.INCONSISTENT
        b.disk.latency.clear()
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data and b.disk.consistent


async def test_what_is_written_alone_after_a_resync_over_the_same_link_is_counted_again(
    autojump_clock: MockClock,
) -> None:
    """Recorded once for a write that failed on the other node, resynced, then alone: the count had been taken back."""
    async with pair() as (a, b):
        await connected(a, b)
        b.disk.failing["write"] = 5
        await a.write(0, BLOCK)
        b.disk.failing.clear()
        await until(lambda: agreed(a, b))
        a.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert await a.write(EXTENT, BLOCK) == 0
        assert a.disk.metadata.localcnt == 1
        assert a.disk.metadata.generations.current != b.disk.metadata.generations.current
        await a.crash()
        await b.become_primary()
        await b.write(2 * EXTENT, BLOCK)
        a.reachable = True
        a.become_secondary()
        await until(lambda: "split-brain" in b.events)
        assert a.disk.data[EXTENT : 2 * EXTENT] == BLOCK


async def test_a_primary_that_caught_up_repairs_the_other_node_instead_of_undoing_its_own_writes(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 3)
        await a.become_primary()
        await until(lambda: agreed(a, b))
        b.disk.failing["write"] = 5
        assert await a.write(0, NEW) == 0
        b.disk.failing.clear()
        await until(lambda: agreed(a, b))
        assert await a.read(0, EXTENT) == NEW
        assert a.disk.data == b.disk.data


async def test_a_held_write_under_a_range_that_the_resync_waits_for_does_not_hold_up_the_next_link(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 40)
        b.disk.latency["read"] = 0.5
        await a.become_primary()
        errors: list[int] = []

        async def write(extent: int) -> None:
            errors.append(await a.write(extent * EXTENT, NEW))

        b.disk.latency["write"] = 3.0
        for extent in range(8, 40):
            nursery.start_soon(write, extent)
        await trio.sleep(1.2)  # the resync has come to what is being written
        a.cut()
        start = trio.current_time()
        await until(lambda: not linked(a))
        b.disk.latency.clear()
        await until(lambda: linked(a))
        assert trio.current_time() - start < 5
        await until(lambda: len(errors) == 32)
        assert errors == [0] * 32
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_flush_of_the_resync_is_not_held_when_the_good_copy_goes_away(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await primary_out_of_date(a, b, 3)
        b.disk.latency["flush"] = 2.0
        await a.become_primary()
        await until(lambda: a.primary is not None and a.primary.map.in_sync)
        assert a.primary is not None
        assert a.primary.stale
        a.cut()
        start = trio.current_time()
        await until(lambda: not linked(a))
        await until(lambda: linked(a))
        assert trio.current_time() - start < 5
        await until(lambda: agreed(a, b))
        assert a.disk.data == b.disk.data


async def test_a_link_lost_while_the_resync_reads_locally_is_followed_by_another(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        await a.write(0, BLOCK)
        a.disk.latency["read"] = 5.0
        b.reachable = True
        await until(lambda: "syncstart" in a.events)
        await trio.sleep(1)
        a.cut()
        a.disk.latency.clear()
        await until(lambda: agreed(a, b), timeout=60)
        assert a.disk.data == b.disk.data


async def test_a_link_lost_while_the_merged_map_is_written_never_comes_up(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await b.crash()
        assert a.primary is not None
        primary = a.primary
        await until(lambda: primary.link is None)
        await a.write(0, BLOCK)
        # b brings a map of its own, so that there is something to be merged.
        b.disk.content[4096] |= 0x80
        a.disk.latency["durable"] = 3.0
        b.become_secondary()
        await until(lambda: b.secondary is not None)
        await trio.sleep(1)
        b.reachable = False
        a.cut()
        await trio.sleep(10)
        assert primary.link is None
        with trio.fail_after(30):
            assert await a.write(5 * EXTENT, BLOCK) == 0


async def test_a_read_from_the_good_copy_survives_the_end_of_the_resync_and_of_the_link(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 3)
        b.disk.latency["read"] = 2.0
        await a.become_primary()
        found: list[bytes] = []

        async def read() -> None:
            found.append(await a.read(0, EXTENT))

        await trio.sleep(1.9)
        b.disk.latency["read"] = 10.0
        nursery.start_soon(read)
        await until(lambda: agreed(a, b))
        assert not found, "the read must outlive the resync for this test to mean anything"
        b.reachable = False
        a.cut()
        await until(lambda: bool(found))
        assert found == [BLOCK]


async def test_a_flush_asked_again_over_the_next_link_is_sent_at_once(autojump_clock: MockClock) -> None:
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 30)
        b.disk.latency["read"] = 15.0  # so that the resync sends nothing either
        await a.become_primary()
        a.disk.latency["flush"] = 2.0
        ended: list[float] = []

        async def flush() -> None:
            assert await a.flush() == 0
            ended.append(trio.current_time())

        nursery.start_soon(flush)
        await trio.sleep(0.1)
        a.cut()
        await until(lambda: not linked(a))
        await until(lambda: linked(a))
        start = trio.current_time()
        await until(lambda: bool(ended))
        assert ended[0] - start < 5


@pytest.mark.parametrize("mode", list(Replication))
async def test_a_flush_without_anything_to_flush_is_no_reason_to_count_a_lost_link(
    autojump_clock: MockClock, mode: Replication
) -> None:
    async with pair(replication=mode) as (a, b), trio.open_nursery() as nursery:
        await connected(a, b)
        b.disk.latency["flush"] = 5.0
        nursery.start_soon(a.flush)
        await trio.sleep(1)
        b.reachable = False
        a.cut()
        await trio.sleep(10)
        assert a.disk.metadata.localcnt == 0
        assert a.disk.metadata.generations == b.disk.metadata.generations


async def test_reconnecting_is_quick_again_after_a_link_that_was_up(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        for _ in range(6):
            a.cut()
            await until(lambda: not linked(a))
            start = trio.current_time()
            await until(lambda: linked(a))
            assert trio.current_time() - start < 1


async def test_a_stop_in_the_middle_of_the_other_nodes_slow_flush_ends(autojump_clock: MockClock) -> None:
    """The resync's own flush is under way, its link is cancelled, and nobody records that this node is alone."""
    async with pair() as (a, b):
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        await a.write(0, BLOCK)
        a.disk.latency["flush"] = 3.0
        b.reachable = True
        await until(lambda: linked(a))
        assert a.primary is not None
        await a.write(EXTENT, BLOCK)
        a.primary.stopping.set()  # what an orderly stop ends with, and a disk that cannot flush begins with
        with trio.fail_after(30):
            await a._ended.wait()


@pytest.mark.parametrize("slow", ["durable", "read"])
@pytest.mark.parametrize("mode", list(Replication))
async def test_half_a_sector_is_completed_from_the_good_copy_although_it_was_not_known_yet(
    autojump_clock: MockClock, mode: Replication, slow: str
) -> None:
    """The write waits for its map bit, or for the other half, while the nodes connect; and the other node turns out to
    have the good copy."""
    async with pair(replication=mode) as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 1)
        b.reachable = False
        await a.become_primary()
        a.disk.latency[slow] = 3.0
        b.reachable = True
        nursery.start_soon(a.write, 256, b"n" * 256)
        await until(lambda: agreed(a, b))
        assert a.disk.data[:512] == b.disk.data[:512] == BLOCK[:256] + b"n" * 256


async def test_a_secondary_that_cannot_record_its_gap_is_no_partner_any_more(autojump_clock: MockClock) -> None:
    """Otherwise it would call itself consistent, without what was acknowledged and flushed."""
    async with pair() as (a, b):
        await connected(a, b)
        b.disk.failing["write"] = b.disk.failing["durable"] = 5
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        assert not linked(a)
        assert a.disk.metadata.generations.base == b.disk.metadata.generations.current


async def test_a_record_of_writing_alone_that_failed_is_tried_again(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await a.write(0, BLOCK)
        a.disk.failing["durable"] = 5
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert await a.write(0, NEW) == 5
        a.disk.failing.clear()
        b.reachable = True
        await until(lambda: "syncdone" in a.events)


async def test_the_other_node_knows_that_it_lacks_a_write_that_was_made_alone_and_ended_later(
    autojump_clock: MockClock,
) -> None:
    """The write is acknowledged and flushed while the nodes are linked: the secondary must not be served without it."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await connected(a, b)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        a.disk.latency["write"] = 20.0
        written: list[int] = []

        async def write() -> None:
            written.append(await a.write(0, BLOCK))

        nursery.start_soon(write)
        await trio.sleep(1)
        b.reachable = True
        await until(lambda: linked(a))
        b.disk.latency["write"] = 20.0
        await until(lambda: written)
        assert BLOCK not in b.disk.data
        assert not b.disk.consistent
        await a.crash()
        await b.crash()
        with pytest.raises(DataError):
            await b.become_primary()


async def test_half_a_sector_that_waited_for_the_good_copy_is_completed_from_what_it_is_then(
    autojump_clock: MockClock,
) -> None:
    """The other node was primary in between, and wrote the other half."""
    async with pair() as (a, b), trio.open_nursery() as nursery:
        await primary_out_of_date(a, b, 40)
        b.disk.latency["read"] = 1.0
        await a.become_primary()
        a.disk.latency["durable"] = 5.0
        place = 45 * EXTENT  # in sync: its bit has to be written
        nursery.start_soon(a.write, place + 256, b"n" * 256)
        await trio.sleep(3)  # it has read the other half, and waits for its map bit
        b.reachable = False
        a.cut()
        await b.crash()
        b.disk.latency.clear()
        await b.become_primary(force=True)
        assert await b.write(place, b"o" * 256) == 0
        await b.stop()
        b.become_secondary()
        b.reachable = True
        await until(lambda: in_sync(a))
        expected = b"o" * 256 + b"n" * 256
        assert a.disk.data[place : place + 512] == b.disk.data[place : place + 512] == expected


async def test_what_a_write_leaves_behind_that_could_not_be_completed_is_copied_over_the_same_link(
    autojump_clock: MockClock,
) -> None:
    """Half a sector waited for the good copy, which then could not be read once: the resync has passed it by then."""
    async with pair() as (a, b):
        await connected(a, b)
        a.disk.failing["write"] = errno.EIO
        assert await a.write(EXTENT, BLOCK) == 0
        a.disk.failing.clear()
        b.reachable = False
        a.cut()
        await a.attach()
        primary = a.primary
        assert primary is not None and primary.stale and primary.link is None
        answers: list[int] = []
        primary.write(EXTENT, NEW[:256], answers.append)
        b.disk.latency["read"] = 2
        b.reachable = True
        await until(lambda: b.secondary is not None and b.secondary.status().stats["stat_read"] == 2)
        b.disk.faults.append(Fault("read", left=1))
        await until(lambda: bool(answers))
        assert answers == [errno.EIO]
        await until(lambda: in_sync(a) and agreed(a, b), 60)
        assert a.disk.data[EXTENT : 2 * EXTENT] == BLOCK


async def test_a_flush_waits_until_the_other_node_has_it_on_record_that_it_refused_a_write_before(
    autojump_clock: MockClock,
) -> None:
    """Acknowledged early (async), garbled on its way: a power loss here must not leave one that looks whole."""
    length = encode_entry("length", NvType.UINT64, 0)[:-8]

    def garble(data: bytes) -> bytes | None:
        at = data.index(length) + len(length)
        return data[:at] + (0x7FFFFFFF).to_bytes(4, "little") + data[at + 4 :]

    async with pair(replication=Replication.ASYNC) as (a, b):
        await connected(a, b)
        assert await a.write(0, BLOCK) == 0
        assert await a.flush() == 0
        assert a.out is not None
        a.out.lie = garble
        b.disk.latency["durable"] = 2.0
        assert await a.write(0, NEW) == 0
        assert await a.flush() == 0
        assert linked(a)
        assert b.disk.data[:EXTENT] == NEW or b.disk.stable_metadata.consistency is Consistency.INCONSISTENT
        b.disk.latency.clear()
        await until(lambda: in_sync(a) and agreed(a, b), 60)
        assert b.disk.data == a.disk.data
