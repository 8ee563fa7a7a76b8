"""A question of `hastctl check` to the other node's listener, and its answer (docs/protocol.md, Probe). Pure.

It looks like step 3 of the handshake with a token that nobody gave out, and has `probe` besides: whoever does not know
that refuses the token, and no link that is running or being made takes notice, in the original neither.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeVar

from hastfs.errors import ProtocolError
from hastfs.model import Checksum, Compression, Replication, Role
from hastfs.protocol.frame import Frame, encode
from hastfs.protocol.handshake import Refusal
from hastfs.protocol.nv import Nv, NvType
from hastfs.volume import Buffer

FORMAT: Final = 1
"""Of question and answer. Fields may be added without another one."""

LONGEST_PROGRAM: Final = 64
"""Characters."""

_Enum = TypeVar("_Enum", bound=enum.Enum)


class Component(enum.Enum):
    """What the other node's component looks like to it; why is for its own administrator."""

    USABLE = "usable"
    MISSING = "missing"
    UNUSABLE = "unusable"
    SILENT = "silent"
    """The disk does not answer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The question. `token`: 16 random bytes."""

    resource: str
    token: bytes

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("resource", NvType.STRING, self.resource)
        nv.add("token", NvType.UINT8_ARRAY, self.token)
        for name in ("resuid", "localcnt", "remotecnt"):  # step 3 has them
            nv.add(name, NvType.UINT64, 0)
        nv.add("probe", NvType.UINT8, FORMAT)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Probe | None:
        """None if it is a step of the handshake. Raises ProtocolError."""
        if not frame.nv.get_int("probe", NvType.UINT8):
            return None
        return cls(_text(frame.nv, "resource"), frame.nv.get_bytes("token") or b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other node says of itself and the resource. Sizes in bytes, 0: not known."""

    program: str
    """HastFS's version."""
    protocol: int
    """The highest that it speaks."""
    time: float
    """Seconds since the epoch, by its clock."""
    role: Role
    replication: Replication
    checksum: Checksum
    compression: Compression
    timeout: int
    """Seconds."""
    component: Component
    datasize: int = 0
    extentsize: int = 0
    resuid: int = 0
    """Of the pair; 0: it was never part of one."""

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("probe", NvType.UINT8, FORMAT)
        nv.add("program", NvType.STRING, self.program)
        nv.add("version", NvType.UINT8, self.protocol)
        nv.add("time", NvType.UINT64, round(self.time * 1e6))
        nv.add("role", NvType.UINT8, self.role)
        for name in ("replication", "checksum", "compression", "component"):
            nv.add(name, NvType.STRING, getattr(self, name).value)
        nv.add("timeout", NvType.UINT32, self.timeout)
        nv.add("datasize", NvType.UINT64, self.datasize)
        nv.add("extentsize", NvType.UINT32, self.extentsize)
        nv.add("resuid", NvType.UINT64, self.resuid)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Answer | Refusal:
        """Raises ProtocolError for what is neither."""
        nv = frame.nv
        if nv.get_str("errmsg") is not None:
            return Refusal.decode(frame)
        if nv.get_int("probe", NvType.UINT8) != FORMAT:
            raise ProtocolError("its answer is none to a check")
        return cls(
            _text(nv, "program")[:LONGEST_PROGRAM],
            _number(nv, "version", NvType.UINT8),
            _number(nv, "time", NvType.UINT64) / 1e6,
            _role(nv),
            _word(nv, "replication", Replication),
            _word(nv, "checksum", Checksum),
            _word(nv, "compression", Compression),
            _number(nv, "timeout", NvType.UINT32),
            _word(nv, "component", Component),
            _number(nv, "datasize", NvType.UINT64),
            _number(nv, "extentsize", NvType.UINT32),
            _number(nv, "resuid", NvType.UINT64),
        )


def _text(nv: Nv, name: str) -> str:
    text = nv.get_str(name)
    if not text:
        raise ProtocolError(f"message without {name}")
    if name == "program" and not text.isprintable():
        raise ProtocolError(f"message with an impossible {name}")
    return text


def _number(nv: Nv, name: str, kind: NvType) -> int:
    number = nv.get_int(name, kind)
    if number is None:
        raise ProtocolError(f"message without {name}")
    return number


def _role(nv: Nv) -> Role:
    try:
        return Role(_number(nv, "role", NvType.UINT8))
    except ValueError:
        raise ProtocolError("message with an unknown role") from None


def _word(nv: Nv, name: str, kind: type[_Enum]) -> _Enum:
    try:
        return kind(_text(nv, name))
    except ValueError:
        raise ProtocolError(f"message with an unknown {name}") from None
