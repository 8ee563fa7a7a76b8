"""Data on the wire: compressed first, then checksummed; the receiver undoes it in reverse.

The receiver goes by the fields that are there, not by its own configuration (hast.conf(5): checksum, compression).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

import lzf
from isal import isal_zlib

from hastfs.errors import ProtocolError
from hastfs.model import MAX_REQUEST, Checksum, Compression
from hastfs.protocol.nv import Nv, NvType, Value
from hastfs.volume import Buffer

_ZERO_BYTES: Final = bytes(MAX_REQUEST)
_ZERO_VIEW: Final = memoryview(_ZERO_BYTES)
_U32 = struct.Struct("<I")

LZF_LEAST: Final = 1024
"""Bytes; data that is not longer is not compressed by lzf, nor is any that would not save more (hast_compression.c)."""

Field = tuple[str, NvType, Value]
"""An nv entry: name, type, value."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Data ready to be sent: the entries that go to the end of the nv list, and the bytes that follow the list."""

    fields: list[Field]
    data: Buffer


@dataclass(frozen=True, slots=True)
class Payload:
    """Data as received: its length in bytes, and the bytes, or None if they are all zero (it came as `hole`)."""

    length: int
    data: Buffer | None


def understood(version: int, compression: Compression, checksum: Checksum) -> tuple[Compression, Checksum]:
    """How data can be packed for a peer of that version: 0 knows neither, and would write to its disk what it gets."""
    return (compression, checksum) if version else (Compression.NONE, Checksum.NONE)


def zeros(length: int) -> memoryview:
    """`length` zero bytes, shared and read-only up to MAX_REQUEST."""
    return _ZERO_VIEW[:length] if length <= MAX_REQUEST else memoryview(bytes(length))


def is_zero(data: Buffer) -> bool:
    """Whether all bytes are zero: a memcmp, which ends at the first that is not."""
    if len(data) <= MAX_REQUEST:
        return _ZERO_BYTES.startswith(data)
    view = memoryview(data)
    return all(_ZERO_BYTES.startswith(view[at : at + MAX_REQUEST]) for at in range(0, len(view), MAX_REQUEST))


def pack(data: Buffer, compression: Compression, checksum: Checksum) -> Packed:
    """Data as the wire wants it, and as the original would have it; not copied where it cannot shrink."""
    if compression is not Compression.NONE and len(data) and is_zero(data):
        return pack_zeros(len(data), checksum)
    if compression is Compression.LZF:
        compressed = _lzf_compress(data)
        if compressed is not None:
            return _packed(Compression.LZF, compressed, checksum)
    return Packed([*_checksum_fields(data, checksum), ("size", NvType.UINT32, len(data))], data)


def pack_zeros(length: int, checksum: Checksum) -> Packed:
    """`length` zero bytes as a hole, without having them at hand."""
    return _packed(Compression.HOLE, _U32.pack(length), checksum)


def _packed(compression: Compression, data: bytes, checksum: Checksum) -> Packed:
    fields: list[Field] = [("compression", NvType.STRING, compression.value)]
    return Packed([*fields, *_checksum_fields(data, checksum), ("size", NvType.UINT32, len(data))], data)


def _lzf_compress(data: Buffer) -> bytes | None:
    """u32 of the length before, then the LZF stream; None if that does not save enough."""
    room = len(data) - LZF_LEAST - 1  # the binding gives liblzf one byte more than it is asked for
    stream = lzf.compress(bytes(data), room) if room > 0 else None
    return None if stream is None else _U32.pack(len(data)) + stream


def unpack(nv: Nv, data: Buffer, limit: int) -> Payload:
    """Check and unfold what came. ProtocolError for what is unknown, damaged, or longer than `limit` bytes.

    Nothing longer than `limit` is ever made, whatever a compressed stream would expand to.
    """
    algorithm = nv.get_str("checksum")
    if algorithm is not None:
        _verify(algorithm, nv.get_bytes("hash"), data)
    compression = nv.get_str("compression")
    if compression is None:
        payload = Payload(len(data), data)
    elif compression == Compression.HOLE.value:
        payload = Payload(_hole_length(data), None)
    elif compression == Compression.LZF.value:
        payload = _lzf_decompress(data, limit)
    else:
        raise ProtocolError(f"data with the compression {compression!r}, which is not supported")
    _check_length(payload.length, limit)
    return payload


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise ProtocolError(f"data of {length} bytes, {limit} are allowed")


def _checksum_fields(data: Buffer, checksum: Checksum) -> list[Field]:
    if checksum is Checksum.NONE:
        return []
    return [
        ("checksum", NvType.STRING, checksum.value),
        ("hash", NvType.UINT8_ARRAY, _digest(data, checksum)),
    ]


def _digest(data: Buffer, checksum: Checksum) -> bytes:
    if checksum is Checksum.CRC32:
        return _U32.pack(isal_zlib.crc32(data))
    return hashlib.sha256(data).digest()


def _verify(algorithm: str, expected: bytes | None, data: Buffer) -> None:
    if algorithm not in (Checksum.CRC32.value, Checksum.SHA256.value):
        raise ProtocolError(f"data with the checksum {algorithm!r}, which is not supported")
    if _digest(data, Checksum(algorithm)) != expected:
        raise ProtocolError(f"data of {len(data)} bytes does not match its {algorithm} checksum")


def _hole_length(data: Buffer) -> int:
    length = _U32.unpack(data)[0] if len(data) == _U32.size else 0
    if not length:
        raise ProtocolError("a hole that does not say how long it is")
    return int(length)


def _lzf_decompress(data: Buffer, limit: int) -> Payload:
    length = _U32.unpack_from(data)[0] if len(data) > _U32.size else 0
    _check_length(length, limit)
    try:
        unfolded = lzf.decompress(bytes(data[_U32.size :]), length) if length else None
    except ValueError:
        unfolded = None
    if unfolded is None or len(unfolded) != length:
        raise ProtocolError(f"lzf data of {len(data)} bytes that does not unfold to the {length} bytes it announces")
    return Payload(length, unfolded)
