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
    """Cuts a stream into messages: receive into `buffer()`, tell `received(n)`, then take `next()` until None."""

    def __init__(self, max_nv: int, max_data: int) -> None:
        """Bytes; the longest nv list and the longest payload (as on the wire) that are accepted."""
        self._max_nv = max_nv
        self._max_data = max_data
        self._view = memoryview(bytearray(min(_FIRST_SIZE, HEAD.size + max_nv + max_data + _ROOM)))
        self._start = 0  # of the next message
        self._end = 0  # of what was received
        self._nv: Nv | None = None  # of the next message, once decoded
        self._nv_end = 0  # bytes from the message's start to its data
        self._need = HEAD.size  # bytes of the next message as far as is known

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished message (or messages not yet taken) are there."""
        return self._end > self._start

    def buffer(self) -> memoryview:
        """Room to receive into, never empty. Ends the validity of all data handed out before.

        To be called only when `next()` has returned None (or never yet).
        """
        pending = self._end - self._start
        size = len(self._view)
        if self._need > size:
            self._move(memoryview(bytearray(self._need + _ROOM)), pending)
        elif not pending:
            self._start = self._end = 0
        elif self._start and (self._start + self._need > size or size - self._end < _ROOM):
            self._move(self._view, pending)
        return self._view[self._end :]

    def _move(self, target: memoryview, pending: int) -> None:
        """Bring what is pending to the front of `target`, which may be the present buffer."""
        target[:pending] = self._view[self._start : self._end]
        self._view = target
        self._start, self._end = 0, pending

    def received(self, count: int) -> None:
        """`count` bytes were put to the front of the last `buffer()`."""
        if not 0 <= count <= len(self._view) - self._end:
            raise ValueError(f"{count} bytes do not fit into the buffer that was offered")
        self._end += count

    def next(self) -> Frame | None:
        """The next whole message, or None. ProtocolError: the stream cannot be used any further."""
        pending = self._end - self._start
        if pending < self._need:
            return None
        nv = self._nv or self._take_nv(pending)
        if nv is None or pending < self._need:
            return None
        data_at = self._start + self._nv_end
        end = self._start + self._need
        frame = Frame(self._view[self._start], nv, self._view[data_at:end])
        self._start = end
        self._need, self._nv = HEAD.size, None
        return frame

    def _take_nv(self, pending: int) -> Nv | None:
        """The next message's list if all of it is there; then the message's whole length is known."""
        version, nv_size = HEAD.unpack_from(self._view, self._start)
        if version > ORIGINAL_VERSION:
            raise ProtocolError(f"message of unknown version {version}")
        if nv_size > self._max_nv:
            raise ProtocolError(f"message with a list of {nv_size} bytes, {self._max_nv} are allowed")
        self._need = self._nv_end = HEAD.size + nv_size
        if pending < self._nv_end:
            return None
        nv = Nv.decode(self._view[self._start + HEAD.size : self._start + self._nv_end])
        data_size = nv.get_int("size", NvType.UINT32) or 0
        if data_size > self._max_data:
            raise ProtocolError(f"message with {data_size} bytes of data, {self._max_data} are allowed")
        self._nv = nv
        self._need += data_size
        return nv
