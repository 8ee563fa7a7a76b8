"""Whole conversations of the original's programs (tests/interop/vectors/transcripts.json), in the order they were had.

`wire`: two originals. `fake_primary`: what a hand-made primary said to the original as a secondary; `after` is what
the original's metadata and `hastctl status` said then. `lives`: what its metadata and map said from `create` on, on
two nodes that were connected, cut, written to alone, synchronised and swapped.

Connections are numbered in the order in which they were opened.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hastfs.protocol.frame import HEAD
from tests.interop.component import EXTENTSIZE
from tests.interop.original import block, entry, number, tidied, with_entry

_FILE = Path(__file__).parent / "vectors" / "transcripts.json"
_KNOWN: Final[dict[str, Any]] = json.loads(_FILE.read_text())

HAND_MADE: Final[list[str]] = list(_KNOWN["fake_primary"])

READ, WRITE, DELETE, FLUSH, KEEPALIVE = range(1, 6)

OPEN, PRIMARY, SECONDARY = "open", "primary", "secondary"
PRIMARY_CLOSES, SECONDARY_CLOSES, SILENCE = "primary closes", "secondary closes", "silence"


@dataclass(frozen=True, slots=True)
class Step:
    """What happened on a connection: it was opened, a side said something (`raw`), or closed it, or silence."""

    connection: int
    what: str
    raw: bytes = b""

    def has(self, name: str) -> bool:
        """Whether the message has this entry."""
        return entry(self.raw, name) is not None

    def number(self, name: str) -> int:
        """The value of an unsigned entry; 0 if it is not there."""
        return number(self.raw, name) or 0

    @property
    def command(self) -> int:
        """Of a request; 0 for everything else."""
        return self.number("cmd") if self.what == PRIMARY else 0

    @property
    def range(self) -> slice:
        """What a request is about, in bytes."""
        return slice(self.number("offset"), self.number("offset") + self.number("length"))

    @property
    def data(self) -> bytes:
        """What follows the list of the message, as it was on the wire."""
        return self.raw[HEAD.size + HEAD.unpack_from(self.raw)[1] :]

    @property
    def content(self) -> bytes:
        """What a WRITE writes."""
        length = self.number("length")
        compression = entry(self.raw, "compression")
        if compression == b"hole\0":
            return bytes(length)
        if compression == b"lzf\0":
            return block(f"text*{length}")  # the only block of the captures that lzf makes shorter
        return self.data

    def saying(self, **values: bytes | int) -> Step:
        """The same with other values in its entries."""
        raw = self.raw
        for name, value in values.items():
            raw = with_entry(raw, name, value)
        return replace(self, raw=raw)


def after(scenario: str) -> tuple[tuple[int, int, int, str], str]:
    """resuid, localcnt, remotecnt and prevrole of the original's metadata, and the word of `hastctl status`."""
    resuid, localcnt, remotecnt, prevrole, status = _KNOWN["after"][scenario]
    return (resuid, localcnt, remotecnt, prevrole), status


def life(state: str) -> tuple[int, int, int, str, frozenset[int]]:
    """resuid, localcnt, remotecnt, prevrole and the dirty extents of an original's component at a point of its life."""
    resuid, localcnt, remotecnt, prevrole, dirty = _KNOWN["lives"][state]
    return resuid, localcnt, remotecnt, prevrole, frozenset(dirty)


def transcript(scenario: str) -> list[Step]:
    """A conversation from its beginning: a capture that begins after the handshake gets that of two unused nodes."""
    steps = _steps(_KNOWN["wire"].get(scenario) or _KNOWN["fake_primary"][scenario])
    return steps if steps[0].what == OPEN else split(transcript("hs_virgin"))[0] + steps


def split(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """The handshake, up to the secondary's terms, and what comes after it."""
    end = next(i for i, step in enumerate(steps) if step.has("syncsrc")) + 1
    return list(steps[:end]), list(steps[end:])


def pair_of(steps: Sequence[Step]) -> int:
    """The pair's resuid, as the primary says it in step 3."""
    return next(resuid for step in steps if (resuid := step.number("resuid")))


def requests_of(steps: Sequence[Step]) -> list[bytes]:
    """The requests, in the order they were made."""
    return [tidied(step.raw) for step in steps if step.command]


def exchanges(steps: Sequence[Step]) -> Iterator[tuple[Step, Step]]:
    """(request, its last reply) of a conversation in which there is never more than one request under way."""
    replies = [step for step in steps if step.command or (step.what == SECONDARY and not step.has("received"))]
    return ((asked, reply) for asked, reply in itertools.pairwise(replies) if asked.command and not reply.command)


def changed(steps: Sequence[Step], before: bytes) -> bytes:
    """What `before` becomes by the requests that were answered without an error."""
    whole = bytearray(before)
    for asked, reply in exchanges(steps):
        if asked.command == WRITE and not reply.has("error"):
            whole[asked.range] = asked.content
        elif asked.command == DELETE and not reply.has("error"):
            whole[asked.range] = bytes(len(whole[asked.range]))
    return bytes(whole)


def brought(steps: Sequence[Step]) -> dict[int, bytes]:
    """What the replies to READs brought, by offset."""
    return {asked.range.start: reply.data for asked, reply in exchanges(steps) if asked.command == READ}


def extents_of(steps: Sequence[Step]) -> frozenset[int]:
    """What the requests touch."""
    return frozenset(
        extent
        for step in steps
        if step.command and step.number("length")
        for extent in range(step.range.start // EXTENTSIZE, -(-step.range.stop // EXTENTSIZE))
    )


def _steps(listed: list[list[Any]]) -> list[Step]:
    steps: list[Step] = []
    for what in listed:
        if what == ["..."]:
            steps += _elided(steps[-1])
        else:
            connection, kind, *message = what
            raw = b"".join([bytes.fromhex(message[0]), *map(block, message[1:])]) if message else b""
            steps.append(Step(connection, kind, raw))
    return steps


def _elided(last: Step) -> Iterator[Step]:
    """The capture of the full resync leaves out the writes of zeros between the third and the last extent."""
    for offset in range(3 * EXTENTSIZE, 254 * EXTENTSIZE, EXTENTSIZE):
        yield Step(last.connection + 1, SECONDARY, DONE)
        yield last.saying(offset=offset)


DONE: Final = bytes.fromhex("021600000008040800000073657100000000000100000000000000")
"""A reply without an error; `seq` is 1."""
