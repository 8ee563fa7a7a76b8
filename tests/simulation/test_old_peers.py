"""Secondaries that speak an older protocol: what they do not know is not asked of them (hast.h: version history)."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from hastfs.model import Checksum, Command, Replication
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.nv import NvType
from hastfs.protocol.replication import decode_request
from hastfs.volume import Buffer
from tests.simulation.disk import SimulatedDisk
from tests.simulation.network import SimulatedChannel
from tests.simulation.node import BLOCK, EXTENT, RESOURCE, Node, agreed, connected, in_sync, linked, pair, until

OLD = [0, 1, 2]


def messages(channel: SimulatedChannel | None) -> list[Frame]:
    """Everything that was sent into this end of a connection."""
    assert channel is not None
    reader = FrameReader(1 << 16, 1 << 20)
    frames: list[Frame] = []
    rest = bytes(channel.sent)
    while rest:
        room = reader.buffer()
        taken, rest = rest[: len(room)], rest[len(room) :]
        room[: len(taken)] = taken
        reader.received(len(taken))
        while (frame := reader.next()) is not None:
            frames.append(frame)
    return frames


def commands(a: Node) -> list[Command]:
    """Of all requests over the last link that the primary made."""
    return [decode_request(frame, 1 << 20).command for frame in messages(a.connections[-2])[1:]]


async def joined(a: Node, b: Node) -> None:
    """a becomes primary of the older b, and is in sync with it."""
    b.become_secondary()
    await a.become_primary()
    await until(lambda: in_sync(a))


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("mode", list(Replication))
async def test_an_old_secondary_gets_all_that_is_written(
    autojump_clock: MockClock, mode: Replication, version: int
) -> None:
    async with pair(replication=mode) as (a, b):
        b.version = version
        await joined(a, b)
        await a.write(0, BLOCK)
        await a.write(8 * EXTENT, BLOCK * 2)
        await a.discard(8 * EXTENT, 512)
        assert await a.flush() == 0
        assert b.disk.data == a.disk.data
        a.cut()
        await until(lambda: not linked(a))
        await a.write(16 * EXTENT, BLOCK)
        await until(lambda: in_sync(a))
        assert await a.flush() == 0
        assert b.disk.data == a.disk.data


@pytest.mark.parametrize("version", OLD)
async def test_no_message_says_more_than_the_other_node_knows(autojump_clock: MockClock, version: int) -> None:
    """A receiver closes the connection on a head with a version above its own."""
    async with pair() as (a, b):
        b.version = version
        await joined(a, b)
        await a.write(0, BLOCK)
        for channel in a.connections[-2:]:
            for end in (channel, channel.peer):
                heads = {frame.version for frame in messages(end)}
                assert heads <= {min(version, 1), version}


async def test_the_first_message_says_version_1_and_later_ones_what_was_negotiated(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        assert messages(a.connections[0])[0].version == 1
        assert {frame.version for frame in messages(a.connections[1])} == {2}
        a.cut()
        await until(lambda: not linked(a))
        await until(lambda: linked(a))
        assert messages(a.connections[0])[0].version == 2


async def test_a_secondary_that_closes_on_version_1_is_asked_with_version_0(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        b.version = 0
        b.become_secondary()
        await a.become_primary()
        await until(lambda: linked(a))
        assert [messages(channel)[0].version for channel in a.connections] == [1, 0, 0]


async def test_a_secondary_of_version_0_hears_no_keepalive(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        b.version = 0
        b.become_secondary()
        await a.become_primary()
        await until(lambda: linked(a))
        await trio.sleep(60)
        assert linked(a)
        assert Command.KEEPALIVE not in commands(a)


@pytest.mark.parametrize(("version", "packed"), [(0, False), (1, True)])
async def test_a_secondary_of_version_0_gets_data_as_it_is(
    autojump_clock: MockClock, version: int, packed: bool
) -> None:
    """It would write a hole's length, or what lzf makes of a block, to its disk."""
    async with pair() as (a, b):
        a.config = replace(a.config, checksum=Checksum.CRC32)
        b.version = version
        b.become_secondary()
        await a.become_primary()
        await until(lambda: linked(a))
        await a.write(0, bytes(4096))
        names = {name for frame in messages(a.connections[-2]) for name, _, _ in frame.nv}
        assert ({"compression", "checksum"} <= names) is packed
        assert b.disk.data == a.disk.data


async def test_memsync_with_a_secondary_of_version_1_is_fullsync_and_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(replication=Replication.MEMSYNC) as (a, b):
        b.version = 1
        b.become_secondary()
        with caplog.at_level(logging.WARNING):
            await a.become_primary()
            await until(lambda: linked(a))
        assert "falling back to 'fullsync' mode" in caplog.text
        b.disk.latency["write"] = 5.0
        start = trio.current_time()
        await a.write(0, BLOCK)
        assert trio.current_time() - start == 5.0
        assert all(frame.nv.get_int("memsync", NvType.UINT8) is None for frame in messages(a.connections[-2]))


@pytest.mark.parametrize("version", [*OLD, 3])
async def test_a_secondary_made_anew_gets_everything_though_its_first_answer_is_lost(
    autojump_clock: MockClock, version: int
) -> None:
    """It has our resuid by then: the next time it looks like one that has all that it ever had."""
    async with pair() as (a, b):
        b.version = version
        await connected(a, b) if version == 3 else await joined(a, b)
        await a.write(0, BLOCK)
        await a.stop()
        await b.stop()
        b.disk = CutAtFirstMetadata(a, b)
        await joined(a, b)
        await trio.sleep(5)
        assert b.disk.data == a.disk.data


class CutAtFirstMetadata(SimulatedDisk):
    """Of b, made anew: the link is cut between its first metadata write and its answer."""

    def __init__(self, a: Node, b: Node) -> None:
        layout = b.disk.layout
        super().__init__(RESOURCE, layout.mediasize, layout.extentsize)
        self._node: Node | None = a

    def put(self, position: int, data: Buffer) -> None:
        super().put(position, data)
        if position == 0 and self._node is not None:
            self._node.cut()
            self._node = None


@pytest.mark.parametrize("version", [2, 3])
async def test_nodes_with_nothing_to_copy_send_nothing(autojump_clock: MockClock, version: int) -> None:
    async with pair() as (a, b):
        b.version = version
        await joined(a, b)
        await trio.sleep(5)
        assert Command.FLUSH not in commands(a)
        if version == 2:
            assert commands(a) == []


async def test_the_other_node_s_disk_moved_here_from_the_original_is_no_split_brain(autojump_clock: MockClock) -> None:
    """It writes alone before it meets the node that has generations already, which did not write meanwhile."""
    async with pair() as (a, b):
        b.version = 2
        await joined(a, b)
        await a.write(0, BLOCK)
        await a.flush()
        await a.crash()
        await b.crash()
        assert a.disk.metadata.generations.current
        assert not b.disk.metadata.generations.current
        a.version = b.version = 3
        await b.become_primary()
        await b.write(8 * EXTENT, BLOCK)
        a.become_secondary()
        await until(lambda: agreed(b, a))
        assert a.disk.data == b.disk.data
        assert BLOCK in a.disk.data[8 * EXTENT :]
        assert "split-brain" not in a.events + b.events
