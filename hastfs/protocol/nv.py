"""HAST's name-value lists: the encoding of every message's head and of the metadata on disk (nv.c of hastd).

An entry is `type` u8, `namesize` u8 (with the NUL), `dsize` u32, the name with its NUL, the data; name and data are
each zero padded to a multiple of 8 bytes. All integers are little-endian. A zero byte where a type would be ends the
list. What we send has zeros for padding; what we receive may have anything there, because the original leaves
uninitialised memory behind names.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from hastfs.errors import ProtocolError
from hastfs.volume import Buffer

Value: TypeAlias = int | str | bytes | tuple[int, ...]
"""int for scalars, str for STRING, bytes for UINT8_ARRAY, a tuple for the other arrays."""

_HEAD = struct.Struct("<BBI")
_HOST_ORDER = 0x80  # The original marks lists in memory with it; on a little-endian machine the bytes are the same.


class NvType(enum.IntEnum):
    """What an entry holds; the numbers are those on the wire."""

    INT8 = 1
    UINT8 = 2
    INT16 = 3
    UINT16 = 4
    INT32 = 5
    UINT32 = 6
    INT64 = 7
    UINT64 = 8
    INT8_ARRAY = 9
    UINT8_ARRAY = 10
    INT16_ARRAY = 11
    UINT16_ARRAY = 12
    INT32_ARRAY = 13
    UINT32_ARRAY = 14
    INT64_ARRAY = 15
    UINT64_ARRAY = 16
    STRING = 17


_TYPES: Final = (None, *NvType)  # by number
_LETTERS: Final = " bBhHiIqQbBhHiIqQ"  # struct's letter of an element, by number
_WIDTHS: Final = (0, 1, 1, 2, 2, 4, 4, 8, 8, 1, 1, 2, 2, 4, 4, 8, 8)  # bytes of an element, by number
_SCALARS: Final = tuple(struct.Struct("<" + letter) for letter in _LETTERS[1:9])


def encode_entry(name: str, kind: NvType, value: Value) -> bytes:
    """One entry. ValueError if the value is not one of that type or the name does not fit."""
    raw_name = name.encode() + b"\0"
    raw = _encode_value(name, kind, value)
    if len(raw_name) > 255 or 0 in raw_name[:-1]:
        raise ValueError(f"{name!r} cannot be the name of an nv entry")
    head = _HEAD.pack(kind, len(raw_name), len(raw))
    return b"".join((head, raw_name, bytes(-len(raw_name) % 8), raw, bytes(-len(raw) % 8)))


def _encode_value(name: str, kind: NvType, value: Value) -> bytes:
    try:
        if kind is NvType.STRING and isinstance(value, str) and "\0" not in value:
            return value.encode() + b"\0"
        if kind < NvType.INT8_ARRAY and isinstance(value, int):
            return _SCALARS[kind - 1].pack(value)
        if kind is NvType.UINT8_ARRAY and isinstance(value, bytes) and value:
            return value
        if NvType.INT8_ARRAY <= kind < NvType.STRING and isinstance(value, tuple) and value:
            return struct.pack(f"<{len(value)}{_LETTERS[kind]}", *value)
    except struct.error as error:
        raise ValueError(f"nv entry {name}: {value!r} does not fit into {kind.name}") from error
    raise ValueError(f"nv entry {name}: {value!r} is not a value of type {kind.name}")


def _frequent(name: str, kind: NvType) -> tuple[bytes, tuple[str, NvType, int]]:
    entry = encode_entry(name, kind, 0)
    return entry[:_SHORT_HEAD], (name, kind, _SHORT_HEAD + _WIDTHS[kind])


_SHORT_HEAD: Final = 14  # bytes of an entry before its data, for names of up to 7 letters
_SHORT_ENTRY: Final = 22  # bytes of such an entry if its value is a scalar
# Entries of requests and replies, as our own nodes encode them, are known by their first bytes: that is four times
# as fast, and decoding is most of what a small message costs. The original's, with rubbish for padding, are not.
_FREQUENT: Final = dict(
    _frequent(name, kind)
    for name, kind in (
        ("cmd", NvType.UINT8),
        ("seq", NvType.UINT64),
        ("offset", NvType.UINT64),
        ("length", NvType.UINT64),
        ("memsync", NvType.UINT8),
        ("size", NvType.UINT32),
    )
)


class Nv:
    """A list of named, typed values in order. A name that is there twice means its first entry."""

    __slots__ = ("_entries", "_first", "encoded_size")

    def __init__(self) -> None:
        self._entries: list[tuple[str, NvType, Value]] = []
        self._first: dict[str, tuple[NvType, Value]] = {}
        self.encoded_size = 0
        """Bytes the list took in the buffer it was decoded from, without what followed its end."""

    def __iter__(self) -> Iterator[tuple[str, NvType, Value]]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return "Nv(" + ", ".join(f"{name}={value!r}" for name, _, value in self._entries) + ")"

    def add(self, name: str, kind: NvType, value: Value) -> None:
        """Append an entry. The value is checked by `encode`."""
        self._entries.append((name, kind, value))
        self._first.setdefault(name, (kind, value))

    def get(self, name: str, kind: NvType) -> Value | None:
        """The value, or None if there is no such name or its first entry is of another type."""
        found = self._first.get(name)
        return found[1] if found is not None and found[0] is kind else None

    def get_int(self, name: str, kind: NvType) -> int | None:
        """`get` for the scalar types."""
        found = self._first.get(name)
        if found is None or found[0] is not kind:
            return None
        value = found[1]
        return value if isinstance(value, int) else None

    def get_str(self, name: str) -> str | None:
        """`get` for STRING."""
        value = self.get(name, NvType.STRING)
        return value if isinstance(value, str) else None

    def get_bytes(self, name: str) -> bytes | None:
        """`get` for UINT8_ARRAY."""
        value = self.get(name, NvType.UINT8_ARRAY)
        return value if isinstance(value, bytes) else None

    def get_ints(self, name: str, kind: NvType) -> tuple[int, ...] | None:
        """`get` for the arrays but UINT8_ARRAY."""
        value = self.get(name, kind)
        return value if isinstance(value, tuple) else None

    def encode(self) -> bytes:
        """The list as on the wire, padding zeroed. ValueError if a value does not fit its type."""
        return b"".join([encode_entry(name, kind, value) for name, kind, value in self._entries])

    @classmethod
    def decode(cls, data: Buffer) -> Nv:
        """Raises ProtocolError for wrong sizes, unterminated names or strings, and anything past the end."""
        block = bytes(data)
        end = len(block)
        nv = cls()
        entries, first = nv._entries, nv._first
        at = 0
        while at < end and block[at]:
            known = _FREQUENT.get(block[at : at + _SHORT_HEAD])
            if known is not None and end - at >= _SHORT_ENTRY:
                name, kind, value_end = known
                value: Value = int.from_bytes(block[at + _SHORT_HEAD : at + value_end], "little")
                entries.append((name, kind, value))
                if name not in first:
                    first[name] = (kind, value)
                at += _SHORT_ENTRY
                continue
            if end - at < _HEAD.size:
                raise ProtocolError(f"nv list ends in the middle of an entry's head at byte {at}")
            number, namesize, dsize = _HEAD.unpack_from(block, at)
            name_at = at + _HEAD.size
            data_at = name_at + ((namesize + 7) & ~7)
            after = data_at + ((dsize + 7) & ~7)
            if not namesize or not dsize or after > end:
                raise ProtocolError(f"nv entry at byte {at} has impossible sizes (name {namesize}, data {dsize})")
            name = _decode_text(block[name_at : name_at + namesize], at)
            kind, value = _decode_value(number & ~_HOST_ORDER, block[data_at : data_at + dsize], at)
            entries.append((name, kind, value))
            if name not in first:
                first[name] = (kind, value)
            at = after
        nv.encoded_size = at
        return nv


def _decode_text(raw: bytes, at: int) -> str:
    if raw.find(0) != len(raw) - 1:
        raise ProtocolError(f"nv entry at byte {at} has a text that does not end at its first NUL")
    try:
        return raw[:-1].decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"nv entry at byte {at} has a text that is not UTF-8") from None


def _decode_value(number: int, raw: bytes, at: int) -> tuple[NvType, Value]:
    kind = _TYPES[number] if number < len(_TYPES) else None
    if kind is None:
        raise ProtocolError(f"nv entry at byte {at} has the unknown type {number}")
    if kind is NvType.STRING:
        return kind, _decode_text(raw, at)
    width = _WIDTHS[number]
    if number < NvType.INT8_ARRAY:
        if len(raw) != width:
            raise ProtocolError(f"nv entry at byte {at} of type {kind.name} has {len(raw)} bytes")
        return kind, int.from_bytes(raw, "little", signed=bool(number & 1))
    if kind is NvType.UINT8_ARRAY:
        return kind, raw
    if len(raw) % width:
        raise ProtocolError(f"nv entry at byte {at} of type {kind.name} has {len(raw)} bytes")
    return kind, struct.unpack(f"<{len(raw) // width}{_LETTERS[number]}", raw)
