"""The four messages that open a link, and the refusals (hastd(8), protocol version 2, and our version 3).

Step 1, `Hello`, and step 2, `Welcome` or `Refusal`, go over the first connection; step 3, `Joining`, opens the second
with the token of step 2; step 4, `Terms` or `Refusal`, goes over the first again. A wrong token is refused on the
second. Version 3 adds `generation` and `state` to steps 3 and 4, `detached` and the sizes to step 3 and `boot` to step
4; both sides only send them when 3 was negotiated, and the original ignores names that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hastfs.errors import ProtocolError
from hastfs.model import PROTOCOL_VERSION, Checksum, Compression, Consistency, Generations, Role, SyncSource
from hastfs.protocol.frame import Frame, encode
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import Packed, pack, unpack, zeros
from hastfs.volume import Buffer

TOKEN_SIZE: Final = 16

SPLIT_BRAIN: Final = "Split-brain condition!"
NOT_CONFIGURED: Final = "Resource not configured."
NO_ACCESS: Final = "No access to the resource."
BAD_TOKEN: Final = "Token doesn't match."


def acts_as(actual: Role, wanted: Role = Role.SECONDARY) -> str:
    """The refusal of a node in another role than the one that is needed."""
    return f"Remote node acts as {actual.word} for the resource and not as {wanted.word}."


def resuid_mismatch(primary: int, secondary: int) -> str:
    """The refusal of a secondary that belongs to another pair."""
    return f"Resource unique ID mismatch (primary={primary}, secondary={secondary})."


def size_mismatch(what: str, primary: int, secondary: int) -> str:
    """The refusal of a secondary whose `what` (data, an extent) has another size, in bytes."""
    return f"{what} size differs between nodes (primary={primary}, secondary={secondary})."


def negotiate(offered: int) -> int:
    """The version that both sides speak, given what the primary offers."""
    return min(offered, PROTOCOL_VERSION)


def _offered(frame: Frame) -> int:
    """The highest version of a message's sender. 0 and 1 do not say it in the list; only 0 has 0 in the head too."""
    return frame.nv.get_int("version", NvType.UINT8) or min(frame.version, 1)


@dataclass(frozen=True, slots=True)
class Hello:
    """Step 1. `version` is the highest the primary speaks."""

    resource: str
    version: int

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("resource", NvType.STRING, self.resource)
        nv.add("version", NvType.UINT8, self.version)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Hello:
        return cls(_need_str(frame.nv, "resource"), _offered(frame))


@dataclass(frozen=True, slots=True)
class Standing:
    """What an original secondary adds to a refusal for split brain: its own sizes (bytes) and counters."""

    datasize: int
    extentsize: int
    localcnt: int
    remotecnt: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Instead of step 2 or 4, or of replies. `wait`: the refuser is about to leave the primary role, try again soon."""

    errmsg: str
    wait: bool = False
    standing: Standing | None = None

    def encode(self) -> list[Buffer]:
        nv = Nv()
        if self.standing is not None:
            nv.add("datasize", NvType.INT64, self.standing.datasize)
            nv.add("extentsize", NvType.INT32, self.standing.extentsize)
            nv.add("localcnt", NvType.UINT64, self.standing.localcnt)
            nv.add("remotecnt", NvType.UINT64, self.standing.remotecnt)
        nv.add("errmsg", NvType.STRING, self.errmsg)
        if self.wait:
            nv.add("wait", NvType.UINT8, 1)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Refusal:
        return cls(_need_str(frame.nv, "errmsg"), bool(frame.nv.get_int("wait", NvType.UINT8)), _standing(frame.nv))


@dataclass(frozen=True, slots=True)
class Welcome:
    """Step 2. `version` is the one both sides use from now on; `token` identifies the link in step 3."""

    version: int
    token: bytes

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("version", NvType.UINT8, self.version)
        nv.add("token", NvType.UINT8_ARRAY, self.token)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Welcome | Refusal:
        if frame.nv.get_str("errmsg") is not None:
            return Refusal.decode(frame)
        version = _offered(frame)
        if version > PROTOCOL_VERSION:
            raise ProtocolError(f"answered with version {version}, {PROTOCOL_VERSION} was offered")
        return cls(version, _need_token(frame.nv))


@dataclass(frozen=True, slots=True)
class Joining:
    """Step 3: who the primary is. `generations` and `consistency` are only sent when version 3 was negotiated,
    that is, when `generations` is not None. `detached` (version 3 only): it has no component, the secondary's data is
    the only copy. `datasize`, `extentsize` (version 3 only): bytes; 0: it does not say."""

    resource: str
    token: bytes
    virgin: bool
    resuid: int
    localcnt: int
    remotecnt: int
    generations: Generations | None = None
    consistency: Consistency = Consistency.CONSISTENT
    detached: bool = False
    datasize: int = 0
    extentsize: int = 0

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("resource", NvType.STRING, self.resource)
        nv.add("token", NvType.UINT8_ARRAY, self.token)
        if self.virgin:
            nv.add("virgin", NvType.INT8, 1)
        nv.add("resuid", NvType.UINT64, self.resuid)
        nv.add("localcnt", NvType.UINT64, self.localcnt)
        nv.add("remotecnt", NvType.UINT64, self.remotecnt)
        _add_generations(nv, self.generations, self.consistency)
        if self.detached:
            nv.add("detached", NvType.INT8, 1)
        if self.datasize:
            nv.add("datasize", NvType.INT64, self.datasize)
        if self.extentsize:
            nv.add("extentsize", NvType.INT32, self.extentsize)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Joining:
        nv = frame.nv
        return cls(
            _need_str(nv, "resource"),
            _need_token(nv),
            bool(nv.get_int("virgin", NvType.INT8)),
            _need_int(nv, "resuid", NvType.UINT64),
            _need_int(nv, "localcnt", NvType.UINT64),
            _need_int(nv, "remotecnt", NvType.UINT64),
            _generations(nv),
            _consistency(nv),
            bool(nv.get_int("detached", NvType.INT8)),
            nv.get_int("datasize", NvType.INT64) or 0,
            nv.get_int("extentsize", NvType.INT32) or 0,
        )


def decode_opening(frame: Frame) -> Hello | Joining:
    """The first message of an accepted connection: only step 3 carries a token."""
    return Hello.decode(frame) if frame.nv.get_bytes("token") is None else Joining.decode(frame)


@dataclass(frozen=True, slots=True)
class Terms:
    """Step 4: the secondary's sizes (bytes), counters and verdict, and its activemap.

    `map` is the map as on disk (a multiple of 512 bytes), all 0xff for a full sync; empty if there is nothing to
    sync on the secondary's part. `generations` and `consistency` as in `Joining`. `boot` (version 3) is another number
    after each loss of what the secondary's page cache had; 0: it does not say.
    """

    datasize: int
    extentsize: int
    localcnt: int
    remotecnt: int
    virgin: bool
    syncsrc: SyncSource
    map: Buffer
    generations: Generations | None = None
    consistency: Consistency = Consistency.CONSISTENT
    boot: int = 0

    def encode(self, compression: Compression = Compression.NONE, checksum: Checksum = Checksum.NONE) -> list[Buffer]:
        nv = Nv()
        nv.add("datasize", NvType.INT64, self.datasize)
        nv.add("extentsize", NvType.INT32, self.extentsize)
        nv.add("localcnt", NvType.UINT64, self.localcnt)
        nv.add("remotecnt", NvType.UINT64, self.remotecnt)
        if self.virgin:
            nv.add("virgin", NvType.INT8, 1)
        nv.add("syncsrc", NvType.UINT8, self.syncsrc)
        nv.add("mapsize", NvType.UINT32, len(self.map))
        _add_generations(nv, self.generations, self.consistency)
        if self.generations is not None and self.boot:
            nv.add("boot", NvType.UINT64, self.boot)
        packed = pack(self.map, compression, checksum) if len(self.map) else Packed([], b"")
        for name, kind, value in packed.fields:
            nv.add(name, kind, value)
        return encode(nv.encode(), packed.data)

    @classmethod
    def decode(cls, frame: Frame, max_map: int) -> Terms | Refusal:
        """`max_map`: bytes, the longest activemap that is accepted. The map is copied out of the frame."""
        nv = frame.nv
        if nv.get_str("errmsg") is not None:
            return Refusal.decode(frame)
        datasize = _need_int(nv, "datasize", NvType.INT64)
        extentsize = _need_int(nv, "extentsize", NvType.INT32)
        if datasize <= 0 or extentsize <= 0:
            raise ProtocolError(f"impossible data size {datasize} or extent size {extentsize}")
        return cls(
            datasize,
            extentsize,
            _need_counter(nv, "localcnt"),
            _need_counter(nv, "remotecnt"),
            bool(nv.get_int("virgin", NvType.INT8)),
            _syncsrc(nv),
            _map(frame, max_map),
            _generations(nv),
            _consistency(nv),
            nv.get_int("boot", NvType.UINT64) or 0,
        )


def _need_str(nv: Nv, name: str) -> str:
    value = nv.get_str(name)
    if not value:
        raise ProtocolError(f"message without {name}")
    return value


def _need_int(nv: Nv, name: str, kind: NvType) -> int:
    value = nv.get_int(name, kind)
    if value is None:
        raise ProtocolError(f"message without {name}")
    return value


def _need_counter(nv: Nv, name: str) -> int:
    """One that the primary takes over after a resync, and then counts on from."""
    value = _need_int(nv, name, NvType.UINT64)
    if value >= 1 << 63:
        raise ProtocolError(f"impossible {name} {value}")
    return value


def _need_token(nv: Nv) -> bytes:
    token = nv.get_bytes("token")
    if token is None or len(token) != TOKEN_SIZE:
        raise ProtocolError("message without a token of 16 bytes")
    return token


def _standing(nv: Nv) -> Standing | None:
    datasize = nv.get_int("datasize", NvType.INT64)
    extentsize = nv.get_int("extentsize", NvType.INT32)
    localcnt = nv.get_int("localcnt", NvType.UINT64)
    remotecnt = nv.get_int("remotecnt", NvType.UINT64)
    if datasize is None or extentsize is None or localcnt is None or remotecnt is None:
        return None
    return Standing(datasize, extentsize, localcnt, remotecnt)


def _syncsrc(nv: Nv) -> SyncSource:
    number = nv.get_int("syncsrc", NvType.UINT8) or 0
    try:
        return SyncSource(number)
    except ValueError:
        raise ProtocolError(f"message with the unknown syncsrc {number}") from None


def _map(frame: Frame, max_map: int) -> bytes:
    size = _need_int(frame.nv, "mapsize", NvType.UINT32)
    if not size:
        return b""
    payload = unpack(frame.nv, frame.data, max_map)
    if payload.length != size:
        raise ProtocolError(f"activemap of {payload.length} bytes, {size} were announced")
    return bytes(zeros(size) if payload.data is None else payload.data)


def _add_generations(nv: Nv, generations: Generations | None, consistency: Consistency) -> None:
    if generations is not None:
        nv.add("generation", NvType.UINT64_ARRAY, generations.as_tuple())
        nv.add("state", NvType.UINT8, consistency)


def _generations(nv: Nv) -> Generations | None:
    values = nv.get_ints("generation", NvType.UINT64_ARRAY)
    if values is None:
        return None
    try:
        return Generations.from_tuple(values)
    except ValueError as error:
        raise ProtocolError(str(error)) from None


def _consistency(nv: Nv) -> Consistency:
    number = nv.get_int("state", NvType.UINT8)
    if number is None:
        return Consistency.CONSISTENT
    try:
        return Consistency(number)
    except ValueError:
        raise ProtocolError(f"message with the unknown state {number}") from None
