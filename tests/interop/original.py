"""What the original's programs sent to each other and wrote to disk (tests/interop/vectors/original.json).

Captured byte streams, cut into messages: `head` is the message without its data, `fields` what the original's own
library read in it. Data is `hex`, or NAME*LENGTH: that many bytes of a named block, `zero` and `ones` included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


class Entry(NamedTuple):
    """An entry of a list, by its places in the bytes; walked by hand, so that a mistake of our codec cannot hide."""

    name: str
    name_end: int
    start: int
    end: int
    after: int


def entries(raw: bytes, *, at: int = HEAD.size, size: int | None = None) -> Iterator[Entry]:
    """What is in a message's list, or in the list of `size` bytes at `at`."""
    if not raw:
        return
    stop = at + (HEAD.unpack_from(raw)[1] if size is None else size)
    while at < stop and raw[at]:
        name_end = at + 6 + raw[at + 1]
        start = at + 6 + -(-raw[at + 1] // 8) * 8
        end = start + int.from_bytes(raw[at + 2 : at + 6], "little")
        after = start + -(-(end - start) // 8) * 8
        yield Entry(raw[at + 6 : name_end - 1].decode(), name_end, start, end, after)
        at = after


def entry(raw: bytes, name: str) -> bytes | None:
    """The bytes of an entry of a message; None if it is not there."""
    return next((raw[found.start : found.end] for found in entries(raw) if found.name == name), None)


def number(raw: bytes, name: str) -> int | None:
    """The value of an unsigned entry of a message; None if it is not there."""
    value = entry(raw, name)
    return None if value is None else int.from_bytes(value, "little")


def with_entry(raw: bytes, name: str, value: bytes | int) -> bytes:
    """The same message with another value, as long as the one before."""
    (found,) = (one for one in entries(raw) if one.name == name)
    length = found.end - found.start
    new = value.to_bytes(length, "little") if isinstance(value, int) else value
    assert len(new) == length
    return raw[: found.start] + new + raw[found.end :]


def tidied(raw: bytes) -> bytes:
    """The same message with zeros where the original leaves rubbish: in the padding of names."""
    out = bytearray(raw)
    for found in entries(raw):
        out[found.name_end : found.start] = bytes(found.start - found.name_end)
        out[found.end : found.after] = bytes(found.after - found.end)
    return bytes(out)


def normalised(raw: bytes) -> bytes:
    """The same message as we would send it: version 2 in the head, zeros where the original leaves rubbish."""
    return b"\x02" + tidied(raw)[1:]
