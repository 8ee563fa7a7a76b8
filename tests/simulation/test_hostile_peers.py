"""Engines against another node that says whatever it likes, in any order: it ends its link, and nothing else.

A seed decides what is said. An exception that is none of ours fails the test; so does a request that is not answered.
"""

from __future__ import annotations

import dataclasses
import errno
import random
from collections.abc import Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from hastfs.errors import DataError, HastError
from hastfs.model import Checksum, Command, Compression, Consistency, Generations, Replication, SyncSource
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.ondisk.metadata import encode
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.handshake import Hello, Joining, Refusal, Terms, Welcome, decode_opening
from hastfs.protocol.payload import pack, pack_zeros
from hastfs.protocol.replication import (
    Request,
    decode_request,
    encode_keepalive,
    encode_reply,
    encode_request,
    encode_state,
)
from hastfs.resource.connecting import receive_frame, send_frame
from hastfs.volume import Buffer
from tests.simulation.network import SimulatedChannel
from tests.simulation.node import BLOCK, EXTENT, Node, connected, linked, pair, until
from tests.unit.test_resource_secondary import joining, serving

NUMBERS = (0, 1, 2, 3, 511, 512, 4096, 1 << 20, (1 << 31) - 1, (1 << 62) + 512, (1 << 63) - 1, (1 << 64) - 1)


class Chance(random.Random):
    """What a seed decides."""

    def damaged(self, message: Sequence[Buffer]) -> bytes:
        """The message, perhaps with a byte or a piece of it changed."""
        raw = bytearray(b"".join(bytes(piece) for piece in message))
        match self.choice(("whole",) * 12 + ("flip", "cut", "insert")):
            case "flip":
                raw[self.randrange(len(raw))] ^= 1 << self.randrange(8)
            case "cut":
                del raw[self.randrange(len(raw)) :]
            case "insert":
                raw[self.randrange(len(raw)) :] = self.randbytes(self.randint(1, 60))
        return bytes(raw)

    def generations(self, known: Generations | None) -> Generations | None:
        numbers = known.as_tuple() if known is not None else (1, 2, 3, 4)
        return self.choice(
            (known, known, None, Generations.from_tuple(tuple(self.choice((*numbers, 0, 9)) for _ in range(4))))
        )


class Liar(Node):
    """A secondary of which nothing is certain, but that it has the same sizes: otherwise no link would come about."""

    def __init__(self, chance: Chance, primary: Node) -> None:
        self.chance = chance
        self.reachable = True
        self.connections = []
        self._primary = primary
        self._first: SimulatedChannel
        self._version = 3

    async def accept(self, channel: SimulatedChannel) -> None:
        try:
            opening = decode_opening(await receive_frame(channel, FrameReader(4096, 0)))
            if isinstance(opening, Hello):
                await self._welcome(channel)
            else:
                await self._serve(channel, opening)
        except (HastError, OSError):
            channel.close()

    async def _welcome(self, channel: SimulatedChannel) -> None:
        self._first = channel
        self._version = self.chance.choice((1, 2, 3, 3, 3))
        message: Welcome | Refusal = Welcome(self._version, bytes(16))
        if self.chance.random() < 0.05:
            message = Refusal("Split-brain condition!")
        channel.send([self.chance.damaged(message.encode())])

    def _terms(self, step3: Joining) -> Terms:
        chance, metadata = self.chance, self._primary.disk.metadata
        counters = (step3.localcnt, step3.remotecnt, *NUMBERS)
        return Terms(
            metadata.datasize,
            metadata.extentsize,
            step3.remotecnt if chance.random() < 0.5 else chance.choice(counters),
            step3.localcnt if chance.random() < 0.5 else chance.choice(counters),
            chance.random() < 0.3,
            chance.choice((SyncSource.PRIMARY, SyncSource.PRIMARY, SyncSource.SECONDARY)),
            chance.choice((b"", bytes(512), b"\xff" * 512, chance.randbytes(512), chance.randbytes(4096))),
            chance.generations(step3.generations) if self._version >= 3 else None,
            chance.choice((Consistency.CONSISTENT, Consistency.CONSISTENT, Consistency.INCONSISTENT)),
        )

    async def _serve(self, second: SimulatedChannel, step3: Joining) -> None:
        first, chance = self._first, self.chance
        await send_frame(first, [chance.damaged(self._terms(step3).encode(chance.choice(list(Compression)[:2])))])
        reader = FrameReader(4096, 1 << 20)
        while True:
            request = decode_request(await receive_frame(first, reader), 1 << 20)
            for answer in self._answers(request):
                second.send([chance.damaged(answer)])
            if chance.random() < 0.01:
                chance.choice((first, second)).close()

    def _answers(self, request: Request) -> list[list[Buffer]]:
        chance, seq = self.chance, request.seq
        if request.command is Command.KEEPALIVE:
            return []
        packed = None
        if request.command is Command.READ:
            length = chance.choice((request.length,) * 9 + (512,))
            packed = pack_zeros(length, Checksum.NONE)
            if chance.random() < 0.5:
                packed = pack(chance.randbytes(length), Compression.HOLE, Checksum.CRC32)
        final = encode_reply(seq, packed=packed)
        honest = [encode_reply(seq, received=True), final] if request.memsync else [final]
        return chance.choice(
            [honest] * 20
            + [
                [],
                [final, final],
                [encode_reply(seq, received=True)] * 2,
                [encode_reply(seq, error=chance.choice((5, 22, -1, 32767, -32768)))],
                [encode_reply(seq + chance.choice((1, 1 << 40)))],
                [encode_reply(seq, packed=pack(b"x" * 512, Compression.NONE, Checksum.SHA256))],
                [Refusal("no more").encode()],
            ]
        )


async def some_request(node: Node, chance: Chance) -> int:
    """Of an application; the errno."""
    offset = chance.randrange(60) * EXTENT
    match chance.choice(("write", "write", "read", "discard", "flush")):
        case "write":
            return await node.write(offset, BLOCK)
        case "discard":
            return await node.discard(offset, EXTENT)
        case "flush":
            return await node.flush()
    try:
        await node.read(offset, EXTENT)
    except OSError as error:
        return error.errno or 0
    return 0


async def lied_to(seed: int) -> None:
    chance = Chance(seed)
    async with pair(replication=chance.choice(list(Replication))) as (a, b):
        if chance.random() < 0.5:  # a has met another node before
            b.become_secondary()
            await a.become_primary()
            await until(lambda: linked(a))
            await a.stop()
            await b.crash()
        a.other = Liar(chance, a)
        try:
            await a.become_primary()
        except DataError:
            return  # it was convinced that the other node has the good copy, which then went away
        for number in range(12):
            with trio.fail_after(3 * a.config.timeout):
                error = await some_request(a, chance)
            assert error in (0, errno.EIO)
            if error:
                assert a.primary is not None
                assert a.primary.stale, f"request {number} failed although this node has the good copy"
            await trio.sleep(chance.choice((0, 0.1, 15)))
        a.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert a.primary is not None
        with trio.fail_after(2 * a.config.timeout):
            error = await a.write(0, BLOCK)
        assert error == (errno.EIO if a.primary.stale else 0)
        if not error:
            assert a.disk.data[: len(BLOCK)] == BLOCK


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_secondary_that_lies_costs_the_primary_its_link_and_no_more(seed: int) -> None:
    trio.run(lied_to, seed, clock=MockClock(autojump_threshold=0))


async def test_counters_that_cannot_be_counted_on_from_are_not_taken_over(autojump_clock: MockClock) -> None:
    async with pair() as (a, b):
        await connected(a, b)
        await b.crash()
        block = encode(dataclasses.replace(b.disk.metadata, remotecnt=(1 << 64) - 1))
        b.disk.put(0, block)
        b.disk.put(SECOND_COPY, block)
        b.become_secondary()
        await trio.sleep(60)
        b.reachable = False
        a.cut()
        await until(lambda: not linked(a))
        assert await a.write(0, BLOCK) == 0
        assert a.disk.metadata.localcnt == 1


def requests(chance: Chance) -> list[list[Buffer]]:
    """Of a primary that knows the protocol and nothing else."""
    offset = chance.choice((*NUMBERS, *(at * 512 for at in range(64))))
    length = chance.choice((512, 512, 4096, 4096, *NUMBERS))
    seq = chance.choice((1, 2, 3, 1 << 63))
    data = chance.randbytes(chance.choice((512, 4096, 100)))
    packed = pack(data, Compression.HOLE, chance.choice(list(Checksum)))
    if chance.random() < 0.3:
        packed = pack_zeros(chance.choice((512, 4096, 1 << 20, 1 << 31)), Checksum.NONE)
    state = chance.choice(list(Consistency))
    return [
        encode_request(Command.READ, seq, offset, length),
        encode_request(Command.WRITE, seq, offset, len(data), memsync=chance.random() < 0.5, packed=packed),
        encode_request(Command.DELETE, seq, offset, length),
        encode_request(Command.FLUSH, seq, offset, length),
        encode_state(seq, state, Generations(chance.choice(NUMBERS), chance.choice(NUMBERS))),
        encode_keepalive(),
    ]


async def asked_anything(seed: int) -> None:
    chance = Chance(seed)
    step3 = joining(virgin=chance.random() < 0.5, generations=chance.generations(Generations(5)))
    async with serving(step3=step3) as primary:
        await trio.sleep(1)
        disk = primary.disk
        for _ in range(chance.randint(1, 30)):
            if primary.ended.is_set():
                break
            primary.requests.send([chance.damaged(chance.choice(requests(chance)))])
            await trio.sleep(chance.choice((0, 0, 0.1)))
        if not primary.ended.is_set():
            primary.requests.close()
            with trio.fail_after(60):
                await primary.ended.wait()
        assert disk.metadata.resuid == step3.resuid


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_primary_that_asks_anything_of_a_secondary_costs_it_the_link_and_no_more(seed: int) -> None:
    trio.run(asked_anything, seed, clock=MockClock(autojump_threshold=0))
