"""Messages cut out of a byte stream: `version` u8, `size` u32 of the nv list, the list, then its `size` bytes of data.

Sans-I/O. One receive may bring many small messages or a part of a large one; a payload is handed out as a view into
the receive buffer. Memory is bounded by the largest message the owner of the stream is ready for: what a peer
announces beyond that is refused before a byte of it is stored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from hastfs.errors import ProtocolError
from hastfs.model import ORIGINAL_VERSION
from hastfs.protocol.nv import Nv, NvType
from hastfs.volume import Buffer

HEAD: Final = struct.Struct("<BI")
"""`version` u8, `size` u32 of the nv list."""

MAX_NV: Final = 64 * 1024
"""Bytes; the largest nv list of a replication message. Real ones are below 400 bytes."""

_ROOM = 64 * 1024  # Offered beyond the message that is being received: the messages behind it come along.
_FIRST_SIZE = 256 * 1024  # Dozens of 4 KiB writes in one receive, without growing.
_LARGE = 32 * 1024  # Messages that are longer get the full buffer: in a small one, half of each would have to be moved.
_SMALL_ROUNDS = 64  # Rounds without them after which it is given back.


def encode(nv: bytes, payload: Buffer = b"", version: int = ORIGINAL_VERSION) -> list[Buffer]:
    """A message as buffers to be sent one after the other. `payload` is as long as the list's `size` says.

    `version` is the head's byte, which a receiver checks: see `for_version`.
    """
    head = HEAD.pack(version, len(nv)) + nv
    return [head, payload] if len(payload) else [head]


def for_version(frame: list[Buffer], version: int) -> list[Buffer]:
    """The same message with a head that a peer of `version` accepts: a receiver closes on more than it knows.

    What we negotiate beyond the original's version does not show here.
    """
    if version >= ORIGINAL_VERSION:
        return frame
    head, *rest = frame
    return [bytes([version]) + bytes(head[1:]), *rest]


@dataclass(slots=True)
class Frame:
    """One message. `data` is a view into the receive buffer: valid until the reader's next `buffer()` call."""

    version: int
    nv: Nv
    data: memoryview


class FrameReader:
    """Cuts a stream into messages: receive into `buffer()`, tell `received(n)`, then take `next()` until None.

    Who knows a message by its first bytes (replication.py) looks at it in `view` from `start` to `end`, and says by
    `skip` that it took it, or by `expect` how long it is.
    """

    def __init__(self, max_nv: int, max_data: int) -> None:
        """Bytes; the longest nv list and the longest payload (as on the wire) that are accepted."""
        self._max_nv = max_nv
        self.max_data = max_data
        self._full_size = HEAD.size + max_nv + max_data + _ROOM
        self._first_size = min(_FIRST_SIZE, self._full_size)
        self.view = memoryview(bytearray(self._first_size))
        """What was received; messages not yet taken are in it from `start` to `end`."""
        self.start = 0
        self.end = 0
        self.need = HEAD.size
        """Bytes of the next message as far as is known: with fewer, there is nothing to look at."""
        self._nv: Nv | None = None  # of the next message, once decoded
        self._nv_end = 0  # bytes from the message's start to its data
        self._small_rounds = 0  # how often in a row little was received into a large buffer

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished message (or messages not yet taken) are there."""
        return self.end > self.start

    def buffer(self) -> memoryview:
        """Room to receive into, never empty. Ends the validity of all data handed out before.

        To be called only when `next()` has returned None (or never yet).
        """
        pending = self.end - self.start
        if not pending:
            self._empty()
        else:
            self._make_room(pending)
        return self.view[self.end :]

    def _empty(self) -> None:
        """Begin at the front; in a small buffer if only small messages have come for a while."""
        if len(self.view) > self._first_size:
            self._small_rounds = 0 if self.end > _LARGE else self._small_rounds + 1
            if self._small_rounds > _SMALL_ROUNDS:
                self.view = memoryview(bytearray(self._first_size))
                self._small_rounds = 0
        self.start = self.end = 0

    def _make_room(self, pending: int) -> None:
        size = len(self.view)
        if self.need > size:
            self._move(memoryview(bytearray(self._full_size)), pending)
        elif self.start and (self.start + self.need > size or size - self.end < _ROOM):
            grow = self.need > _LARGE and size < self._full_size
            self._move(memoryview(bytearray(self._full_size)) if grow else self.view, pending)

    def _move(self, target: memoryview, pending: int) -> None:
        """Bring what is pending to the front of `target`, which may be the present buffer."""
        target[:pending] = self.view[self.start : self.end]
        self.view = target
        self.start, self.end = 0, pending

    def received(self, count: int) -> None:
        """`count` bytes were put to the front of the last `buffer()`."""
        if not 0 <= count <= len(self.view) - self.end:
            raise ValueError(f"{count} bytes do not fit into the buffer that was offered")
        self.end += count

    def expect(self, size: int) -> None:
        """The next message is `size` bytes long: `buffer` makes room for it."""
        self.need = size

    def skip(self, size: int) -> None:
        """The next message, or several, of `size` bytes in all were taken."""
        self.start += size
        self.need, self._nv = HEAD.size, None

    def next(self) -> Frame | None:
        """The next whole message, or None. ProtocolError: the stream cannot be used any further."""
        pending = self.end - self.start
        if pending < self.need:
            return None
        nv = self._nv or self._take_nv(pending)
        if nv is None or pending < self.need:
            return None
        data_at = self.start + self._nv_end
        frame = Frame(self.view[self.start], nv, self.view[data_at : self.start + self.need])
        self.skip(self.need)
        return frame

    def _take_nv(self, pending: int) -> Nv | None:
        """The next message's list if all of it is there; then the message's whole length is known."""
        version, nv_size = HEAD.unpack_from(self.view, self.start)
        if version > ORIGINAL_VERSION:
            raise ProtocolError(f"message of unknown version {version}")
        if nv_size > self._max_nv:
            raise ProtocolError(f"message with a list of {nv_size} bytes, {self._max_nv} are allowed")
        self.need = self._nv_end = HEAD.size + nv_size
        if pending < self._nv_end:
            return None
        nv = Nv.decode(self.view[self.start + HEAD.size : self.start + self._nv_end])
        data_size = nv.get_int("size", NvType.UINT32) or 0
        if data_size > self.max_data:
            raise ProtocolError(f"message with {data_size} bytes of data, {self.max_data} are allowed")
        self._nv = nv
        self.need += data_size
        return nv
