"""Requests (primary to secondary, first connection) and replies (secondary to primary, second connection).

The hot path: a request or a reply costs one struct pack and, for data, no copy. Field order is the original's:
cmd, seq, offset, length, memsync, compression, checksum, hash, size; seq, received, error, compression, ...
"""

from __future__ import annotations

import errno
import functools
import struct
from dataclasses import dataclass
from typing import Final

from hastfs.errors import ProtocolError
from hastfs.model import ORIGINAL_VERSION, SECTOR_SIZE, Command, Consistency, Generations
from hastfs.protocol.frame import HEAD, Frame, encode
from hastfs.protocol.nv import NvType, encode_entry
from hastfs.protocol.payload import Packed, Payload, unpack
from hastfs.volume import Buffer

MISSING: Final = -1
"""Stands for an `offset` or `length` that a request needs and lacks: `validate_request` refuses it."""

_U64_HEAD_SIZE = 14  # type, namesize, dsize and a name of up to 7 letters


def _u64_head(name: str) -> bytes:
    return encode_entry(name, NvType.UINT64, 0)[:_U64_HEAD_SIZE]


_COMMANDS: Final = {command: encode_entry("cmd", NvType.UINT8, command) for command in Command}
_BY_NUMBER: Final = {int(command): command for command in Command}
_SEQ: Final = _u64_head("seq")
_OFFSET: Final = _u64_head("offset")
_LENGTH: Final = _u64_head("length")
_MEMSYNC: Final = encode_entry("memsync", NvType.UINT8, 1)
_RECEIVED: Final = encode_entry("received", NvType.INT8, 1)
_DETACHED: Final = encode_entry("detached", NvType.INT8, 1)
_REQUEST: Final = struct.Struct("<BI22s14sQ14sQ14sQ")
_REPLY: Final = struct.Struct("<BI14sQ")
_KEEPALIVE: Final = HEAD.pack(ORIGINAL_VERSION, len(_COMMANDS[Command.KEEPALIVE])) + _COMMANDS[Command.KEEPALIVE]


@dataclass(frozen=True, slots=True)
class StateChange:
    """Ours (version 3): the secondary's component is now this consistent and of these generations. `detached`: from now
    on it is the only copy, because the primary's component failed."""

    consistency: Consistency
    generations: Generations
    detached: bool = False


@dataclass(slots=True)
class Request:
    """What the primary asks. `offset` and `length` in bytes; `payload` of a WRITE; `state` of a STATE.

    `seq` is 0 for KEEPALIVE alone, or if it is missing. Two requests of the original may carry the same `seq` at the
    same time.
    """

    command: Command
    seq: int
    offset: int
    length: int
    memsync: bool
    payload: Payload | None
    state: StateChange | None


@dataclass(slots=True)
class Reply:
    """What the secondary answers. `received`: the first of memsync's two answers. `error`: 0, or the errno of the
    secondary's system, whose numbers above 34 mean different things on FreeBSD and Linux."""

    seq: int
    received: bool
    error: int
    payload: Payload | None


def encode_request(
    command: Command, seq: int, offset: int, length: int, *, memsync: bool = False, packed: Packed | None = None
) -> list[Buffer]:
    """READ, WRITE, DELETE or FLUSH (offset and length 0). `packed` is a WRITE's data."""
    tail = _MEMSYNC if memsync else b""
    if packed is not None:
        tail += _encode_fields(packed)
    size = _REQUEST.size - HEAD.size + len(tail)
    head = _REQUEST.pack(ORIGINAL_VERSION, size, _COMMANDS[command], _SEQ, seq, _OFFSET, offset, _LENGTH, length)
    return [head + tail] if packed is None else [head + tail, packed.data]


def encode_keepalive() -> list[Buffer]:
    """Sent when nothing else was for a while; it has no reply."""
    return [_KEEPALIVE]


def encode_state(
    seq: int, consistency: Consistency, generations: Generations, *, detached: bool = False
) -> list[Buffer]:
    """Ours (version 3 only): make this the state of the secondary's component, durably, then reply."""
    nv = (
        _COMMANDS[Command.STATE]
        + encode_entry("seq", NvType.UINT64, seq)
        + encode_entry("state", NvType.UINT8, consistency)
        + encode_entry("generation", NvType.UINT64_ARRAY, generations.as_tuple())
        + (_DETACHED if detached else b"")
    )
    return encode(nv)


def decode_request(frame: Frame, max_request: int) -> Request:
    """A request from a primary. `max_request`: bytes of data accepted in a WRITE.

    ProtocolError where the stream cannot be trusted any further. A request that is whole but asks for something
    impossible is returned: `validate_request` says what to answer.
    """
    nv = frame.nv
    command = _BY_NUMBER.get(nv.get_int("cmd", NvType.UINT8) or 0)
    if command is None:
        raise ProtocolError(f"request without a known command: {nv!r}")
    if command is Command.KEEPALIVE:
        return Request(command, 0, 0, 0, False, None, None)
    seq = nv.get_int("seq", NvType.UINT64) or 0
    if command is Command.STATE:
        return Request(command, seq, 0, 0, False, None, _decode_state(frame))
    absent = 0 if command is Command.FLUSH else MISSING
    offset = nv.get_int("offset", NvType.UINT64)
    length = nv.get_int("length", NvType.UINT64)
    payload = _decode_data(frame, command, length, max_request)
    return Request(
        command,
        seq,
        absent if offset is None else offset,
        absent if length is None else length,
        bool(nv.get_int("memsync", NvType.UINT8)),
        payload,
        None,
    )


def validate_request(request: Request, datasize: int, max_request: int) -> int:
    """0, or the errno to answer with: the range must be whole sectors of the `datasize` bytes of data, and a sequence
    number must be there.

    Python's integers do not overflow, so an offset near 2**64 is simply outside.
    """
    if not request.seq and request.command is not Command.KEEPALIVE:
        return errno.EINVAL
    if request.command not in (Command.READ, Command.WRITE, Command.DELETE):
        return 0
    offset, length = request.offset, request.length
    if offset < 0 or length <= 0 or offset % SECTOR_SIZE or length % SECTOR_SIZE:
        return errno.EINVAL
    if length > max_request and request.command is not Command.DELETE:
        return errno.EINVAL
    return errno.EINVAL if offset + length > datasize else 0


def encode_reply(seq: int, *, received: bool = False, error: int = 0, packed: Packed | None = None) -> list[Buffer]:
    """`packed` is a READ's data; `received` and `error` exclude each other."""
    tail = _RECEIVED if received else b""
    if error:
        tail += encode_entry("error", NvType.INT16, error)
    if packed is not None:
        tail += _encode_fields(packed)
    head = _REPLY.pack(ORIGINAL_VERSION, _REPLY.size - HEAD.size + len(tail), _SEQ, seq)
    return [head + tail] if packed is None else [head + tail, packed.data]


def decode_reply(frame: Frame, limit: int) -> Reply:
    """An answer from a secondary; `limit`: bytes of data accepted. ProtocolError also for a late refusal."""
    nv = frame.nv
    seq = nv.get_int("seq", NvType.UINT64)
    if not seq:
        refusal = nv.get_str("errmsg")
        raise ProtocolError("reply without a sequence number" if refusal is None else f"refused: {refusal}")
    payload = unpack(nv, frame.data, limit) if len(frame.data) else None
    received = bool(nv.get_int("received", NvType.INT8))
    return Reply(seq, received, nv.get_int("error", NvType.INT16) or 0, payload)


def _encode_fields(packed: Packed) -> bytes:
    *others, (name, kind, value) = packed.fields
    if not others:
        return _last_field(name, kind, value)
    return b"".join([encode_entry(*field) for field in others]) + _last_field(name, kind, value)


_last_field = functools.lru_cache(maxsize=256)(encode_entry)  # `size`: applications use few sizes


def _decode_state(frame: Frame) -> StateChange:
    state = frame.nv.get_int("state", NvType.UINT8) or 0
    generations = frame.nv.get_ints("generation", NvType.UINT64_ARRAY)
    try:
        detached = bool(frame.nv.get_int("detached", NvType.INT8))
        return StateChange(Consistency(state), Generations.from_tuple(generations or ()), detached)
    except ValueError as error:
        raise ProtocolError(f"STATE request that cannot be used: {error}") from None


def _decode_data(frame: Frame, command: Command, length: int | None, max_request: int) -> Payload | None:
    if command is not Command.WRITE or length is None or not 0 < length <= max_request:
        return None  # what is wrong with the length, `validate_request` says; the data is skipped with the frame
    if not len(frame.data):
        raise ProtocolError("WRITE request without data")
    payload = unpack(frame.nv, frame.data, length)
    if payload.length != length:
        raise ProtocolError(f"WRITE request for {length} bytes with {payload.length} bytes of data")
    return payload
