"""Requests (primary to secondary, first connection) and replies (secondary to primary, second connection).

Field order is the original's: cmd, seq, offset, length, memsync, compression, checksum, hash, size; seq, received,
error, compression, ...

There are two codecs, and neither copies data. The general one (`encode_request`, `decode_request`, `encode_reply`,
`decode_reply`) knows all there is. The fast one (`encode_write`, `encode_plain_reply`, `encode_received`,
`next_request`, `plain_replies`, `next_reply`) does the frequent messages by the templates of shapes.py, in a fifth of
the time or less, and leaves all others to the general one.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hastfs.errors import ProtocolError
from hastfs.model import ORIGINAL_VERSION, SECTOR_SIZE, Command, Consistency, Generations
from hastfs.protocol import shapes
from hastfs.protocol.frame import HEAD, Frame, FrameReader, encode
from hastfs.protocol.nv import NvType, encode_entry
from hastfs.protocol.payload import Packed, Payload, unpack
from hastfs.volume import Buffer

MISSING: Final = -1
"""Stands for an `offset` or `length` that a request needs and lacks: `validate_request` refuses it."""

_BY_NUMBER: Final = {int(command): command for command in Command}
_DETACHED: Final = encode_entry("detached", NvType.INT8, 1)
_KEEPALIVE: Final = (
    HEAD.pack(ORIGINAL_VERSION, len(shapes.COMMANDS[Command.KEEPALIVE])) + shapes.COMMANDS[Command.KEEPALIVE]
)


@dataclass(frozen=True, slots=True)
class StateChange:
    """Ours (version 3): the secondary's component is now this consistent and of these generations. `detached`: from now
    on it is the only copy, because the primary's component failed."""

    consistency: Consistency
    generations: Generations
    detached: bool = False


@dataclass(slots=True)
class Request:
    """What the primary asks. `offset` and `length` in bytes; `data` of a WRITE, None if it is all zeros; `state` of a
    STATE.

    `seq` is 0 for KEEPALIVE alone, or if it is missing. Two requests of the original may carry the same `seq` at the
    same time.
    """

    command: Command
    seq: int
    offset: int
    length: int
    memsync: bool = False
    data: Buffer | None = None
    state: StateChange | None = None


@dataclass(slots=True)
class Reply:
    """What the secondary answers. `received`: the first of memsync's two answers. `error`: 0, or the errno of the
    secondary's system, whose numbers above 34 mean different things on FreeBSD and Linux."""

    seq: int
    received: bool = False
    error: int = 0
    payload: Payload | None = None


def encode_request(
    command: Command, seq: int, offset: int, length: int, *, memsync: bool = False, packed: Packed | None = None
) -> list[Buffer]:
    """READ, WRITE, DELETE or FLUSH (offset and length 0). `packed` is a WRITE's data."""
    tail = shapes.MEMSYNC if memsync else b""
    if packed is not None:
        tail += _encode_fields(packed)
    head = shapes.REQUEST.pack(
        shapes.request_head(command, len(tail)), seq, shapes.OFFSET, offset, shapes.LENGTH, length
    )
    return [head + tail] if packed is None else [head + tail, packed.data]


def encode_write(seq: int, offset: int, length: int, *, memsync: bool) -> bytes:
    """A WRITE without its data, of which `length` bytes follow as they are: neither compressed nor with a checksum.

    For peers of version 2 and later (`for_version` does it for those before).
    """
    if memsync:
        return shapes.MEMSYNC_WRITE.pack(
            shapes.MEMSYNC_WRITE_HEAD,
            seq,
            shapes.OFFSET,
            offset,
            shapes.LENGTH,
            length,
            shapes.MEMSYNC_SIZE,
            length,
        )
    return shapes.WRITE.pack(shapes.WRITE_HEAD, seq, shapes.OFFSET, offset, shapes.LENGTH, length, shapes.SIZE, length)


def encode_keepalive() -> list[Buffer]:
    """Sent when nothing else was for a while; it has no reply."""
    return [_KEEPALIVE]


def encode_state(
    seq: int, consistency: Consistency, generations: Generations, *, detached: bool = False
) -> list[Buffer]:
    """Ours (version 3 only): make this the state of the secondary's component, durably, then reply."""
    nv = (
        shapes.COMMANDS[Command.STATE]
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
        return Request(command, 0, 0, 0)
    seq = nv.get_int("seq", NvType.UINT64) or 0
    if command is Command.STATE:
        return Request(command, seq, 0, 0, state=_decode_state(frame))
    absent = 0 if command is Command.FLUSH else MISSING
    offset = nv.get_int("offset", NvType.UINT64)
    length = nv.get_int("length", NvType.UINT64)
    data = _decode_data(frame, command, length, max_request)
    return Request(
        command,
        seq,
        absent if offset is None else offset,
        absent if length is None else length,
        bool(nv.get_int("memsync", NvType.UINT8)),
        data,
    )


def next_request(reader: FrameReader, max_request: int) -> Request | None:
    """The next whole message, which is a request, or None. Raises as `decode_request` does and `FrameReader.next`.

    Its data is a view into the reader's buffer.
    """
    pending = reader.end - reader.start
    if pending < reader.need:
        return None
    request = _request_of_shape(reader, pending, max_request) if pending >= shapes.REQUEST.size else None
    if request is not None:
        return request
    frame = reader.next()
    return None if frame is None else decode_request(frame, max_request)


def _request_of_shape(reader: FrameReader, pending: int, max_request: int) -> Request | None:
    """The next message if it is a frequent one, and whole."""
    view, start = reader.view, reader.start
    head, seq, offset_name, offset, length_name, length = shapes.REQUEST.unpack_from(view, start)
    shape = shapes.REQUESTS.get(head)
    if shape is None or offset_name != shapes.OFFSET or length_name != shapes.LENGTH:
        return None
    command, memsync, tail, size_name = shape
    if tail is None:
        reader.skip(shapes.REQUEST.size)
        return Request(command, seq, offset, length)
    data_at = shapes.REQUEST.size + tail.size
    if pending < data_at or not 0 < length <= max_request or length > reader.max_data:
        return None
    if tail.unpack_from(view, start + shapes.REQUEST.size) != (size_name, length):
        return None
    size = data_at + length
    if pending < size:
        reader.expect(size)
        return None
    reader.skip(size)
    return Request(command, seq, offset, length, memsync, view[start + data_at : start + size])


def validate_request(request: Request, datasize: int, max_request: int) -> int:
    """0, or the errno to answer with: the range must be whole sectors of the `datasize` bytes of data, and a sequence
    number must be there.

    Python's integers do not overflow, so an offset near 2**64 is simply outside.
    """
    offset, length = request.offset, request.length
    if (
        request.command is Command.WRITE
        and request.seq
        and not (offset | length) & SECTOR_SIZE - 1
        and 0 < length <= max_request
        and 0 <= offset <= datasize - length
    ):
        return 0  # by far the most frequent
    if not request.seq and request.command is not Command.KEEPALIVE:
        return errno.EINVAL
    if request.command not in (Command.READ, Command.WRITE, Command.DELETE):
        return 0
    if offset < 0 or length <= 0 or offset % SECTOR_SIZE or length % SECTOR_SIZE:
        return errno.EINVAL
    if length > max_request and request.command is not Command.DELETE:
        return errno.EINVAL
    return errno.EINVAL if offset + length > datasize else 0


def encode_reply(seq: int, *, received: bool = False, error: int = 0, packed: Packed | None = None) -> list[Buffer]:
    """`packed` is a READ's data; `received` and `error` exclude each other."""
    tail = shapes.RECEIVED if received else b""
    if error:
        tail += encode_entry("error", NvType.INT16, error)
    if packed is not None:
        tail += _encode_fields(packed)
    head = shapes.REPLY.pack(shapes.reply_head(len(tail)), seq)
    return [head + tail] if packed is None else [head + tail, packed.data]


def encode_plain_reply(seq: int) -> bytes:
    """It is done, without an error. For peers of version 2 and later, as `encode_write`."""
    return shapes.REPLY.pack(shapes.REPLY_HEAD, seq)


def encode_received(seq: int) -> bytes:
    """The first of memsync's two replies."""
    return shapes.RECEIVED_REPLY.pack(shapes.RECEIVED_HEAD, seq, shapes.RECEIVED)


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


def plain_replies(reader: FrameReader) -> list[int]:
    """Takes the replies that say no more than that it is done, as far as they come next; returns what they are to."""
    whole = reader.start + (reader.end - reader.start) // shapes.REPLY.size * shapes.REPLY.size
    answered = []
    for head, seq in shapes.REPLY.iter_unpack(reader.view[reader.start : whole]):
        if head != shapes.REPLY_HEAD or not seq:
            break
        answered.append(seq)
    if answered:
        reader.skip(len(answered) * shapes.REPLY.size)
    return answered


def next_reply(reader: FrameReader, wanted: Callable[[int], int]) -> Reply | None:
    """The next whole message, which is a reply, or None. Raises as `decode_reply` does and `FrameReader.next`.

    `wanted`: bytes of data that may come with the reply to the request of that number. Data is a view into the reader's
    buffer.
    """
    pending = reader.end - reader.start
    if pending < reader.need:
        return None
    reply = _reply_of_shape(reader, pending, wanted)
    if reply is not None:
        return reply
    frame = reader.next()
    if frame is None:
        return None
    return decode_reply(frame, wanted(frame.nv.get_int("seq", NvType.UINT64) or 0))


def _reply_of_shape(reader: FrameReader, pending: int, wanted: Callable[[int], int]) -> Reply | None:
    """The next message if it is a frequent one, and whole."""
    if pending < shapes.REPLY.size:
        return None
    view, start = reader.view, reader.start
    head, seq = shapes.REPLY.unpack_from(view, start)
    if not seq:
        return None
    if head == shapes.REPLY_HEAD:
        reader.skip(shapes.REPLY.size)
        return Reply(seq)
    if head == shapes.RECEIVED_HEAD and pending >= shapes.RECEIVED_REPLY.size:
        if shapes.RECEIVED_REPLY.unpack_from(view, start)[2] == shapes.RECEIVED:
            reader.skip(shapes.RECEIVED_REPLY.size)
            return Reply(seq, received=True)
    elif head == shapes.DATA_HEAD and pending >= shapes.DATA_REPLY.size:
        return _reply_with_data(reader, pending, wanted)
    return None


def _reply_with_data(reader: FrameReader, pending: int, wanted: Callable[[int], int]) -> Reply | None:
    view, start = reader.view, reader.start
    _, seq, size_name, length = shapes.DATA_REPLY.unpack_from(view, start)
    if size_name != shapes.SIZE or not 0 < length <= min(wanted(seq), reader.max_data):
        return None
    size = shapes.DATA_REPLY.size + length
    if pending < size:
        reader.expect(size)
        return None
    reader.skip(size)
    return Reply(seq, payload=Payload(length, view[start + shapes.DATA_REPLY.size : start + size]))


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


def _decode_data(frame: Frame, command: Command, length: int | None, max_request: int) -> Buffer | None:
    if command is not Command.WRITE or length is None or not 0 < length <= max_request:
        return None  # what is wrong with the length, `validate_request` says; the data is skipped with the frame
    if not len(frame.data):
        raise ProtocolError("WRITE request without data")
    payload = unpack(frame.nv, frame.data, length)
    if payload.length != length:
        raise ProtocolError(f"WRITE request for {length} bytes with {payload.length} bytes of data")
    return payload.data
