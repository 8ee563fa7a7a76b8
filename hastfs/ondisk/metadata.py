"""A component's metadata: the original's nv list with our entries behind it, in one sector, kept twice.

Ours are `serial` (raised with every write), `generation`, `state` and, last, `crc`: CRC-32C over all entries before
it. The original ignores them, and drops them (and the second copy) whenever it writes: then its list counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crcmod.predefined import mkPredefinedCrcFun

from hastfs.errors import DataError, MetadataError, ProtocolError
from hastfs.model import SECTOR_SIZE, Consistency, Generations, Role
from hastfs.ondisk.layout import COPY_SIZE, MAX_EXTENTSIZE, METADATA_SIZE
from hastfs.protocol.nv import Nv, NvType, encode_entry

crc32c: Final[Callable[[bytes], int]] = mkPredefinedCrcFun("crc-32c")

_NO_GENERATIONS: Final = Generations()
_CRC_HEAD: Final = encode_entry("crc", NvType.UINT32, 0)[:-8]
_CRC_SIZE: Final = len(_CRC_HEAD) + 8
_OURS: Final = ("serial", "generation", "state", "crc")
_VIRGIN: Final = 3  # `state` of a virgin component that was written to; the other values are those of Consistency


@dataclass(frozen=True, slots=True)
class Metadata:
    """Sizes and offsets in bytes. `resuid` identifies the pair, 0 before the first connect or write; `localcnt` and
    `remotecnt` are HAST's counters; `serial` is raised with every write of ours, 0 if the original wrote it.
    `virgin`: written to, but no other node was ever told of it: all that was written is in the map. Such data is
    consistent."""

    resource: str
    datasize: int
    extentsize: int
    keepdirty: int
    localoff: int
    resuid: int = 0
    localcnt: int = 0
    remotecnt: int = 0
    prevrole: Role = Role.INIT
    serial: int = 0
    generations: Generations = _NO_GENERATIONS
    consistency: Consistency = Consistency.CONSISTENT
    virgin: bool = False

    @property
    def mapsize(self) -> int:
        """Bytes of the activemap on disk, between metadata and data."""
        return self.localoff - METADATA_SIZE

    @property
    def nextents(self) -> int:
        """Extents that hold data; the map may have a bit more."""
        return -(-self.datasize // self.extentsize)


def encode(metadata: Metadata) -> bytes:
    """One copy, exactly COPY_SIZE bytes. DataError if the resource's name is too long to fit whatever the role."""
    block = _encode(metadata, metadata.prevrole)
    if len(_encode(metadata, Role.SECONDARY)) > COPY_SIZE:  # the longest of the roles' names
        raise DataError(f"[{metadata.resource}] The name is too long for the metadata's {COPY_SIZE} bytes.")
    return block.ljust(COPY_SIZE, b"\0")


def _encode(metadata: Metadata, prevrole: Role) -> bytes:
    nv = Nv()
    nv.add("resource", NvType.STRING, metadata.resource)
    nv.add("datasize", NvType.UINT64, metadata.datasize)
    nv.add("extentsize", NvType.UINT32, metadata.extentsize)
    nv.add("keepdirty", NvType.UINT32, metadata.keepdirty)
    nv.add("offset", NvType.UINT64, metadata.localoff)
    nv.add("resuid", NvType.UINT64, metadata.resuid)
    nv.add("localcnt", NvType.UINT64, metadata.localcnt)
    nv.add("remotecnt", NvType.UINT64, metadata.remotecnt)
    nv.add("prevrole", NvType.STRING, prevrole.word)
    nv.add("serial", NvType.UINT64, metadata.serial)
    nv.add("generation", NvType.UINT64_ARRAY, metadata.generations.as_tuple())
    nv.add("state", NvType.UINT8, _VIRGIN if metadata.virgin else metadata.consistency)
    body = nv.encode()
    return body + encode_entry("crc", NvType.UINT32, crc32c(body))


def decode_copy(block: bytes) -> Metadata:
    """One copy of COPY_SIZE bytes, checked. MetadataError says what is wrong with it.

    Without a `crc` it was written by the original: then nothing of ours may be there, and zeros behind the list.
    """
    if not any(block):
        raise MetadataError("not initialised: there is no metadata")
    try:
        nv = Nv.decode(block[:COPY_SIZE])
    except ProtocolError as error:
        raise MetadataError(f"damaged: {error}") from None
    if any(block[nv.encoded_size : COPY_SIZE]):
        raise MetadataError("damaged: there is something behind the end of the list")
    if any(name in _OURS for name, _, _ in nv):
        _check_crc(nv, block)
    return _checked(_from_nv(nv))


def _check_crc(nv: Nv, block: bytes) -> None:
    """The crc must be the last entry, and right."""
    at = nv.encoded_size - _CRC_SIZE
    if at < 0 or not block.startswith(_CRC_HEAD, at):
        raise MetadataError("damaged: the checksum is not where it belongs")
    if block[at : nv.encoded_size] != encode_entry("crc", NvType.UINT32, crc32c(block[:at])):
        raise MetadataError("damaged: the checksum is wrong")


def _from_nv(nv: Nv) -> Metadata:
    word = _need_str(nv, "prevrole")
    state = nv.get_int("state", NvType.UINT8)
    generations = nv.get_ints("generation", NvType.UINT64_ARRAY)
    try:
        return Metadata(
            resource=_need_str(nv, "resource"),
            datasize=_need_int(nv, "datasize", NvType.UINT64),
            extentsize=_need_int(nv, "extentsize", NvType.UINT32),
            keepdirty=_need_int(nv, "keepdirty", NvType.UINT32),
            localoff=_need_int(nv, "offset", NvType.UINT64),
            resuid=_need_int(nv, "resuid", NvType.UINT64),
            localcnt=_need_int(nv, "localcnt", NvType.UINT64),
            remotecnt=_need_int(nv, "remotecnt", NvType.UINT64),
            prevrole=Role.from_word(word),
            serial=nv.get_int("serial", NvType.UINT64) or 0,
            generations=_NO_GENERATIONS if generations is None else Generations.from_tuple(generations),
            consistency=Consistency.CONSISTENT if state in (None, _VIRGIN) else Consistency(state),
            virgin=state == _VIRGIN,
        )
    except ValueError as error:
        raise MetadataError(f"damaged: {error}") from None


def _checked(metadata: Metadata) -> Metadata:
    extentsize = metadata.extentsize
    if extentsize < SECTOR_SIZE or extentsize > MAX_EXTENTSIZE or extentsize & (extentsize - 1):
        raise MetadataError(f"damaged: extentsize {extentsize} is not a power of two from {SECTOR_SIZE}")
    if metadata.mapsize < SECTOR_SIZE or metadata.mapsize % SECTOR_SIZE or metadata.localoff >= 1 << 63:
        raise MetadataError(f"damaged: offset {metadata.localoff} cannot be where the data starts")
    if not SECTOR_SIZE <= metadata.datasize < 1 << 63:
        raise MetadataError(f"damaged: datasize {metadata.datasize} is impossible")
    if metadata.mapsize * 8 < metadata.nextents:
        raise MetadataError(f"damaged: there is no room for {metadata.nextents} extents before {metadata.localoff}")
    return metadata


def choose(first: bytes, second: bytes) -> tuple[Metadata, str | None]:
    """The metadata that counts, and a warning if the copies are not both good and alike.

    A first copy without crc counts whatever the second says: the original wrote it, later than we wrote the second.
    MetadataError if neither copy can be used: the first one's reason.
    """
    try:
        ours = decode_copy(first)
    except MetadataError as error:
        return _fall_back(error, second)
    if _CRC_HEAD not in first:
        return ours, None
    try:
        other = decode_copy(second)
    except MetadataError as error:
        return ours, f"the second copy of the metadata is {error}"
    if other == ours:
        return ours, None
    if other.serial > ours.serial:
        return other, f"the second copy of the metadata is newer ({other.serial} > {ours.serial}) and is used"
    return ours, f"the second copy of the metadata is older ({other.serial}, first {ours.serial}) and is not used"


def _fall_back(reason: MetadataError, second: bytes) -> tuple[Metadata, str]:
    try:
        other = decode_copy(second)
    except MetadataError:
        raise reason from None
    return other, f"the first copy of the metadata is {reason}; the second is used"


def _need_str(nv: Nv, name: str) -> str:
    value = nv.get_str(name)
    if not value:
        raise MetadataError(f"damaged: {name} is missing")
    return value


def _need_int(nv: Nv, name: str, kind: NvType) -> int:
    value = nv.get_int(name, kind)
    if value is None:
        raise MetadataError(f"damaged: {name} is missing")
    return value
