"""Where things are on a component: metadata, activemap, data (hastctl(8), create)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hastfs.errors import DataError
from hastfs.model import SECTOR_SIZE

METADATA_SIZE: Final = 4096
"""Bytes at the start of a component; the activemap follows."""

COPY_SIZE: Final = 512
"""Bytes of one copy of the metadata: one sector, so that it is written whole or not at all."""

SECOND_COPY: Final = 2048
"""Offset in bytes of the second copy (ours); the original has zeros there, and writes zeros."""

MAX_EXTENTSIZE: Final = 1 << 30
"""Bytes; the largest power of two that fits into the handshake's i32."""

_MAX_MAP = (1 << 32) - SECTOR_SIZE  # u32 in the handshake


@dataclass(frozen=True, slots=True)
class Layout:
    """The places on a component of `mediasize` bytes with extents of `extentsize` bytes, as `create` sets them up.

    A component that exists goes by its metadata (`Metadata.localoff`, `datasize`) instead, because it may have been
    created smaller than it is, or have grown.
    """

    mediasize: int
    extentsize: int

    @property
    def nextents(self) -> int:
        """Bits of the map: the original counts the map's own place as if it were data."""
        return -(-(self.mediasize - METADATA_SIZE) // self.extentsize)

    @property
    def mapsize(self) -> int:
        """Bytes of the activemap, whole sectors."""
        return -(-self.nextents // (8 * SECTOR_SIZE)) * SECTOR_SIZE

    @property
    def localoff(self) -> int:
        """Where the data starts."""
        return METADATA_SIZE + self.mapsize

    @property
    def datasize(self) -> int:
        """Bytes of data; not rounded to sectors (HAST)."""
        return self.mediasize - self.localoff

    @property
    def provider_size(self) -> int:
        """Bytes an application sees."""
        return provider_size(self.datasize)


def provider_size(datasize: int) -> int:
    """Bytes an application sees of `datasize` bytes of data: whole sectors."""
    return datasize // SECTOR_SIZE * SECTOR_SIZE


def check_geometry(mediasize: int, extentsize: int, keepdirty: int) -> None:
    """DataError unless a component can be made with these (hastctl(8): create -m, -e, -k).

    Says it in the original's words; what the original takes, and then dies of or stores as garbage, in ours.
    """
    if extentsize < SECTOR_SIZE:
        raise DataError(f"Extent size ({extentsize}) is less than sector size ({SECTOR_SIZE}).")
    if extentsize % SECTOR_SIZE:
        raise DataError(f"Extent size ({extentsize}) is not multiple of sector size ({SECTOR_SIZE}).")
    if extentsize & (extentsize - 1):
        raise DataError(f"Extent size ({extentsize}) is not a power of two.")
    if extentsize > MAX_EXTENTSIZE:
        raise DataError(f"Extent size ({extentsize}) is more than {MAX_EXTENTSIZE}.")
    if not 0 <= keepdirty < 1 << 32:
        raise DataError(f"Number of extents to keep dirty ({keepdirty}) is not from 0 to {(1 << 32) - 1}.")
    layout = Layout(mediasize, extentsize)
    if mediasize <= METADATA_SIZE or layout.datasize < SECTOR_SIZE:
        needed = METADATA_SIZE + 2 * SECTOR_SIZE
        raise DataError(f"Media size ({mediasize}) is too small: at least {needed} bytes are needed.")
    if layout.mapsize > _MAX_MAP or mediasize >= 1 << 63:
        raise DataError(f"Media size ({mediasize}) is too large for extents of {extentsize} bytes: use larger ones.")
