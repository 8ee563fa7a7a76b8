"""What the original's programs sent to each other and wrote to disk (tests/interop/vectors/original.json).

Captured byte streams, cut into messages: `head` is the message without its data, `fields` what the original's own
library read in it. Data is `hex`, or NAME*LENGTH: that many bytes of a named block, `zero` and `ones` included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hastfs.protocol.frame import HEAD, Frame, FrameReader
from hastfs.protocol.nv import NvType

_FILE = Path(__file__).parent / "vectors" / "original.json"
VECTORS: dict[str, Any] = json.loads(_FILE.read_text())

Field = tuple[str, NvType, Any]


def block(reference: str) -> bytes:
    """The bytes that a vector's `data`, `input` or `output` stands for."""
    name, star, length = reference.partition("*")
    if not star:
        return bytes.fromhex(reference)
    if name in ("zero", "ones"):
        return {"zero": b"\0", "ones": b"\xff"}[name] * int(length)
    known = bytes.fromhex(VECTORS["blocks"][name])
    return (known * (int(length) // len(known) + 1))[: int(length)]


def fields(listed: list[list[Any]]) -> list[Field]:
    """A vector's fields as `Nv` iterates over them."""
    return [(name, NvType[kind.upper()], _value(kind, value)) for name, kind, value in listed]


def _value(kind: str, value: Any) -> Any:
    if kind == "uint8_array":
        return bytes.fromhex(value)
    return tuple(value) if kind.endswith("_array") else value


def messages() -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """(what it is, the vector, the bytes on the wire) of every captured message."""
    for scenario, sent in VECTORS["wire"].items():
        for number, message in enumerate(sent):
            name = f"{scenario}-{number}-{message['from']}-{message['connection']}"
            yield name, message, bytes.fromhex(message["head"]) + block(message["data"])


def read(raw: bytes, max_data: int = 1 << 20) -> Frame:
    """The one message in `raw`."""
    reader = FrameReader(1 << 16, max_data)
    at = 0
    while at < len(raw):
        room = reader.buffer()
        count = min(len(room), len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at += count
    frame = reader.next()
    assert frame is not None
    assert reader.next() is None
    assert not reader.pending
    return frame


def normalised(raw: bytes) -> bytes:
    """The same message as we would send it: version 2 in the head, zeros where the original leaves rubbish.

    Walks the list by hand, so that a mistake of our codec cannot hide itself.
    """
    _, size = HEAD.unpack_from(raw)
    end = HEAD.size + size
    out = bytearray(raw)
    out[0] = 2
    at = HEAD.size
    while at < end and out[at]:
        name_at = at + 6
        data_at = name_at + -(-out[at + 1] // 8) * 8
        length = int.from_bytes(out[at + 2 : at + 6], "little")
        after = data_at + -(-length // 8) * 8
        name_end = name_at + out[at + 1]
        out[name_end:data_at] = bytes(data_at - name_end)
        out[data_at + length : after] = bytes(after - data_at - length)
        at = after
    return bytes(out)
