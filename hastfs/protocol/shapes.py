"""The messages that nearly all traffic consists of, as struct templates: to write and to recognise them in one call.

They are what our own nodes send: entries in HAST's order, zeros for padding, version 2 in the head, and data neither
compressed nor with a checksum. A template has every byte that is always the same as a constant; what is left are the
64-bit values. So a message that differs in a single byte does not match, and the general codec has to read it (the
original's, with rubbish behind its names, does as a rule not match).

A `size` is 32 bits and 4 bytes of padding: taken for 64 bits, it is the same number.
"""

from __future__ import annotations

import struct
from typing import Final

from hastfs.model import ORIGINAL_VERSION, Command
from hastfs.protocol.frame import HEAD
from hastfs.protocol.nv import NvType, encode_entry

_ENTRY_SIZE: Final = 22  # of an entry with a name of up to 7 letters and a scalar
_VALUE: Final = 8  # bytes of its value and what pads it


def _name(name: str, kind: NvType = NvType.UINT64) -> bytes:
    """All of an entry but its value."""
    return encode_entry(name, kind, 0)[:-_VALUE]


COMMANDS: Final = {command: encode_entry("cmd", NvType.UINT8, command) for command in Command}
MEMSYNC: Final = encode_entry("memsync", NvType.UINT8, 1)
RECEIVED: Final = encode_entry("received", NvType.INT8, 1)
SEQ: Final = _name("seq")
OFFSET: Final = _name("offset")
LENGTH: Final = _name("length")
SIZE: Final = _name("size", NvType.UINT32)

# -- requests: head, cmd, seq, offset, length [, memsync] [, size] ---------------------------------------------------

REQUEST: Final = struct.Struct("<41sQ14sQ14sQ")
"""What all of them begin with: REQUEST_HEAD with seq, OFFSET with its value, LENGTH with its value."""


def request_head(command: Command, more: int) -> bytes:
    """Up to the value of `seq`. `more`: bytes of the list behind `length`."""
    return HEAD.pack(ORIGINAL_VERSION, REQUEST.size - HEAD.size + more) + COMMANDS[command] + SEQ


TAIL: Final = struct.Struct("<14sQ")
"""Of a WRITE: SIZE and its value."""

MEMSYNC_TAIL: Final = struct.Struct("<36sQ")
"""Of a memsync WRITE: MEMSYNC_SIZE and its value."""

MEMSYNC_SIZE: Final = MEMSYNC + SIZE
WRITE: Final = struct.Struct("<41sQ14sQ14sQ14sQ")
MEMSYNC_WRITE: Final = struct.Struct("<41sQ14sQ14sQ36sQ")
WRITE_HEAD: Final = request_head(Command.WRITE, TAIL.size)
MEMSYNC_WRITE_HEAD: Final = request_head(Command.WRITE, MEMSYNC_TAIL.size)

Shape = tuple[Command, bool, struct.Struct | None, bytes]
"""A request's command, whether it is a memsync one, and for one with data how its tail looks: layout and constant."""

REQUESTS: Final[dict[bytes, Shape]] = {
    WRITE_HEAD: (Command.WRITE, False, TAIL, SIZE),
    MEMSYNC_WRITE_HEAD: (Command.WRITE, True, MEMSYNC_TAIL, MEMSYNC_SIZE),
    **{
        request_head(command, 0): (command, False, None, b"")
        for command in (Command.READ, Command.DELETE, Command.FLUSH)
    },
}
"""By their first 41 bytes."""

# -- replies: head, seq [, received | size] --------------------------------------------------------------------------


def reply_head(more: int) -> bytes:
    """Up to the value of `seq`. `more`: bytes of the list behind it."""
    return HEAD.pack(ORIGINAL_VERSION, _ENTRY_SIZE + more) + SEQ


REPLY: Final = struct.Struct("<19sQ")
REPLY_HEAD: Final = reply_head(0)
RECEIVED_REPLY: Final = struct.Struct(f"<19sQ{len(RECEIVED)}s")
RECEIVED_HEAD: Final = reply_head(len(RECEIVED))
DATA_REPLY: Final = struct.Struct("<19sQ14sQ")
DATA_HEAD: Final = reply_head(_ENTRY_SIZE)
