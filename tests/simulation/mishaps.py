"""What happens to the network and to the disks."""

from __future__ import annotations

import random
from collections.abc import Callable

from hastfs.protocol.frame import HEAD
from hastfs.protocol.nv import NvType, encode_entry
from tests.simulation.disk import Fault
from tests.simulation.model import SIZE
from tests.simulation.node import Node

_SIZE = encode_entry("size", NvType.UINT32, 0)[:-8]
_LENGTH = encode_entry("length", NvType.UINT64, 0)[:-8]
_WRITE = encode_entry("cmd", NvType.UINT8, 2)


def lie_in_length(chance: random.Random) -> Callable[[bytes], bytes | None]:
    """Makes of a message one that cannot be true: its lengths do not fit together, or its end never comes.

    Not one that is as good as another: what a peer says that fits together is what it asks for.
    """

    def lie(data: bytes) -> bytes | None:
        message = bytearray(data)
        where = [0, 1]
        if _SIZE in message:
            where.append(2)
        if message[HEAD.size :].startswith(_WRITE):
            where.append(3)
        kind = chance.choice(where)
        if kind == 0:
            message[0] = chance.randint(4, 255)
        elif kind == 1:
            version, size = HEAD.unpack_from(message)
            HEAD.pack_into(message, 0, version, chance.choice((size - 8, 1 << 20, (1 << 32) - 1)))
        else:
            mark = _SIZE if kind == 2 else _LENGTH
            at = message.index(mark) + len(mark)
            true = int.from_bytes(message[at : at + 4], "little")
            false = chance.choice((true + 512, true * 2, max(1, true - 512) if true > 512 else true + 1, 0x7FFFFFFF))
            message[at : at + 4] = false.to_bytes(4, "little")
        return bytes(message)

    return lie


class Mishaps:
    """Each returns what it did, in words."""

    def __init__(self, chance: random.Random, nodes: tuple[Node, Node]) -> None:
        self._chance = chance
        self._nodes = nodes

    def heal(self) -> str:
        """All that was broken works again."""
        stalled = False
        for node in self._nodes:
            assert node.out is not None
            stalled = stalled or any(channel.stalled for channel in node.connections)
            node.out.heal()
            if node.out.lied_on is not None:
                node.out.lied_on.cut()
                node.out.lied_on = None
            node.reachable = True
            node.mtu = 1 << 30
            node.disk.latency.clear()
            node.disk.faults.clear()
        if stalled:
            self._nodes[0].cut()
        return "all is well"

    def cut(self) -> str:
        """All connections end with a reset; perhaps a node cannot be reached for a while."""
        self._nodes[0].cut()
        if self._chance.random() < 0.5:
            node = self._chance.choice(self._nodes)
            node.reachable = False
            return f"cut, {node.name} cannot be reached"
        return "cut"

    def partition(self) -> str:
        """Silence, one way or both."""
        nodes = self._chance.choice((self._nodes, self._nodes[:1], self._nodes[1:]))
        for node in nodes:
            assert node.out is not None
            node.out.block()
        return f"nothing gets through from {' and '.join(node.name for node in nodes)}"

    def stall(self) -> str:
        """What is sent over the connections that there are is lost without a word."""
        for node in self._nodes:
            for channel in node.connections:
                channel.stalled = True
        return "connections stall"

    def half_close(self) -> str:
        """One direction of one connection ends."""
        channels = [channel for node in self._nodes for channel in node.connections[-2:]]
        if not channels:
            return "nothing to close"
        channel = self._chance.choice(channels)
        end = self._chance.choice((channel, channel.peer))
        assert end is not None
        end.finish()
        return "half of a connection is closed"

    def slow_down(self) -> str:
        """Delay each way, perhaps little throughput."""
        words = []
        for node in self._nodes:
            assert node.out is not None
            delay, rate = self._chance.choice((0.0, 0.001, 0.2, 3.0)), self._chance.choice((0, 0, 1 << 20, 20000, 500))
            node.out.slow_down(delay, rate)
            words.append(f"from {node.name} {delay} s, {rate or 'any number of'} bytes/s")
        return "slow network: " + "; ".join(words)

    def lie(self) -> str:
        """The next message that a node sends lies in its length."""
        node = self._chance.choice(self._nodes)
        assert node.out is not None
        node.out.lie = lie_in_length(self._chance)
        return f"{node.name} will lie"

    def odd_pieces(self) -> str:
        """New connections deliver in pieces of a few bytes."""
        for node in self._nodes:
            node.mtu = self._chance.choice((13, 100, 700, 1 << 30))
        return "odd pieces from the next connection on"

    def slow_disk(self) -> str:
        """One kind of request takes its time."""
        node = self._chance.choice(self._nodes)
        kind = self._chance.choice(("read", "write", "zero", "flush", "durable"))
        node.disk.latency[kind] = self._chance.choice((0.01, 0.3, 2.0, 25.0))
        return f"{kind} takes {node.disk.latency[kind]} s on {node.name}"

    def broken_disk(self, node: Node) -> str:
        """Until somebody does something about it, nothing of one kind can be done."""
        kind = self._chance.choice(("read", "write", "zero", "flush", "durable"))
        node.disk.faults.append(Fault(kind))
        return f"{kind} fails on {node.name}"

    def failing_disk(self) -> str:
        """One kind of request fails: a few times, in one place, or until all is well again."""
        node = self._chance.choice(self._nodes)
        kind = self._chance.choice(("read", "write", "zero", "write", "read", "flush", "durable"))
        start = self._chance.randrange(SIZE)
        place = None if self._chance.random() < 0.4 else (start, start + self._chance.choice((1, 4096, SIZE)))
        left = None if self._chance.random() < 0.4 else self._chance.randint(1, 4)
        node.disk.faults.append(Fault(kind, self._chance.choice((5, 28)), place, left))
        return f"{kind} fails on {node.name}, place {place}, times {left}"
