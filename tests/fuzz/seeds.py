"""What a fuzzer begins with: what the original said (tests/interop/vectors), and what we say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from hastfs.daemon import workerlink
from hastfs.daemon.workerlink import StatusAnswer
from hastfs.details import Details, Sync
from hastfs.model import Checksum, Compression, Replication, Role
from hastfs.news import Kind, News, facts
from hastfs.ondisk import metadata
from hastfs.ondisk.layout import COPY_SIZE
from hastfs.protocol.frame import HEAD
from hastfs.protocol.handshake import Refusal
from hastfs.protocol.nv import NvType, encode_entry
from hastfs.protocol.payload import pack
from hastfs.protocol.probe import Answer, Component, Probe
from hastfs.resource.status import Status
from tests.fuzz.targets import Target
from tests.interop import original
from tests.property.test_decoders import CONF, CONTROL, HANDSHAKE, ORIGINAL, PACKETS, REPLIES, REQUESTS, WRITTEN, joined

_LONGEST = 1500
"""Bytes: a longer one teaches a fuzzer nothing but patience."""


def seeds(target: Target) -> list[bytes]:
    """Inputs of the target; most are understood."""
    return [raw for raw in _SEEDS[target.name]() if len(raw) <= _LONGEST]


def _said() -> Iterator[bytes]:
    return (raw for _, _, raw in original.messages())


def _asked() -> Iterator[bytes]:
    for talk in original.VECTORS["fake_primary"].values():
        yield from (bytes.fromhex(said[2]) for said in talk if said[1] == "primary")


def _control(what: str) -> Iterator[bytes]:
    return (bytes.fromhex(talk[what]) for talk in original.VECTORS["control"] if talk.get(what))


def _both_ways(*streams: Iterable[bytes]) -> Iterator[bytes]:
    """Each stream as it is, and its first message as the list and the data (see `of_messages`)."""
    for raw in chain(*streams):
        yield b"\0" + raw
        if len(raw) >= HEAD.size:
            version, size = HEAD.unpack_from(raw)
            end = HEAD.size + size
            yield bytes([1 + 2 * version]) + raw[HEAD.size : end] + (b"\0" + raw[end:] if raw[end:] else b"")


def _nv() -> Iterator[bytes]:
    yield bytes.fromhex(original.VECTORS["nv"]["all_types"])
    for _, raw, _ in original.VECTORS["nv_validation"]:
        yield bytes.fromhex(raw)
    for raw in chain(HANDSHAKE, REQUESTS, REPLIES, CONTROL):
        yield raw[HEAD.size : HEAD.size + HEAD.unpack_from(raw)[1]]


def _metadata() -> Iterator[bytes]:
    ours = metadata.encode(WRITTEN)
    blocks = [bytes.fromhex(found["block"]) for found in original.VECTORS["metadata"].values()]
    for first in (ours, ORIGINAL, *blocks):
        for how in range(4):
            yield bytes([how]) + first.rstrip(b"\0").ljust(COPY_SIZE, b"\0") + ours


def _payloads() -> Iterator[bytes]:
    yield b"\x03" + bytes(pack(b"HAST" * 1000, Compression.LZF, Checksum.NONE).data)
    for vector in original.VECTORS["payload"]:
        output = original.block(vector["output"])
        how = {None: 0, "hole": 2, "lzf": 3}[vector["compression"]]
        yield from (bytes([how + 5 * checksum]) + output for checksum in (0, 2, 3))


def _joined_by(entry: bytes) -> bytes:
    """Step 3 with one more entry."""
    (found,) = (raw for raw in HANDSHAKE if b"remotecnt" in raw and b"resource" in raw)
    listed = entry + found[HEAD.size :]
    return HEAD.pack(2, len(listed)) + listed


_SHORT: Final = encode_entry("generation", NvType.UINT64_ARRAY, (1, 2, 3))
_STRANGE: Final = encode_entry("state", NvType.UINT8, 7)
_RESOURCE: Final = b"resource %s { name %s local /%s on me { remote none } }\n"
_CONFIGS: Final = (
    CONF,
    _RESOURCE % (b"a", b"a", b"a") * 2,
    _RESOURCE % (b"a", b"x", b"a") + _RESOURCE % (b"b", b"x", b"b"),
    _RESOURCE % (b"a", b"a", b"x") + _RESOURCE % (b"b", b"b", b"x"),
    _RESOURCE % (b"a", b"n" * 256, b"a"),
    b"on me { listen 1.2.3.4 pidfile /p mountdir /m } listen 1.2.3.4",
    b"control /" + b"c" * 108,
    b"timeout 5 timeout 99999999999 checksum crc32 on me { control unix:///c } on other { listen none }",
    b"resource a { local /a on me { source 192.0.2.1:7 remote tcp6://[::1]:1 } on ME { local /b } replication async }",
    b"resource a { on me { local /a } } resource b { on me { remote none } }",
)
PROBES: Final = tuple(
    joined(message.encode())
    for message in (
        Probe("test", bytes(range(16))),
        Answer(
            "1.0", 3, 1e9, Role.SECONDARY, Replication.MEMSYNC, Checksum.NONE, Compression.HOLE, 20, Component.USABLE
        ),
        Refusal("no", wait=False),
    )
)
DETAILS: Final = (
    Details(),
    Details("primary", "connected", "up-to-date", "inconsistent", 1 << 30, 1e9, 1e9, 1e9, 7, None, "Bad.", "good"),
    Details("secondary", "split-brain", sync=Sync("to-peer", 9, 4, 0.5, 1.0), dirty_map=(0, 1000), held=True),
    Details("primary", counters={"writes": 1, "local_errors": 2}, gauges={"held": 1}),
)
NEWS: Final = (
    News(1.5, Kind.CALL, "disk", {"happening": "connect"}),
    News(1.5, Kind.EXISTS),
    *(News(1.0, Kind.CHANGE, "disk", facts(one)) for one in DETAILS),
)
_SEEDS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "nv": _nv,
    "frames": lambda: (cuts + raw for raw in chain(_said(), _asked(), REQUESTS) for cuts in (b"\x02\x06", b"\xff\xff")),
    "payload": _payloads,
    "handshake": lambda: _both_ways(HANDSHAKE, _said(), [_joined_by(_SHORT), _joined_by(_STRANGE)]),
    "probe": lambda: _both_ways(PROBES, HANDSHAKE),
    "request": lambda: _both_ways(REQUESTS, _said(), _asked()),
    "reply": lambda: _both_ways(REPLIES, _said()),
    "control-request": lambda: _both_ways(CONTROL, _control("request")),
    "control-reply": lambda: _both_ways(CONTROL, _control("reply")),
    "metadata": _metadata,
    "config": lambda: iter(_CONFIGS),
    "workerlink": lambda: iter((*PACKETS, workerlink.encode(StatusAnswer(1, Status("", 0, 0, 0).as_dict())))),
    "details": lambda: (json.dumps(one.as_plain()).encode() for one in DETAILS),
    "news": lambda: (json.dumps(one.as_plain()).encode() for one in NEWS),
}
