"""A component as the original leaves it on disk, and what is on one afterwards, looked at by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.interop.original import VECTORS, entries

NV_SIZE: Final = 4096
MEDIASIZE: Final = 1 << 20
EXTENTSIZE: Final = 4096
KEEPDIRTY: Final = 64
LOCALOFF: Final = 4608

_WRITTEN_BY_THE_ORIGINAL: Final = {
    "init": "life_01_created.a",
    "primary": "life_09_resynced.a",
    "secondary": "life_09_resynced.b",
}


@dataclass(frozen=True, slots=True)
class State:
    """A component of resource `test`: what its metadata says, its dirty extents, and data by offset (else zeros)."""

    resuid: int = 0
    localcnt: int = 0
    remotecnt: int = 0
    prevrole: str = "init"
    dirty: frozenset[int] = frozenset()
    data: Mapping[int, bytes] = field(default_factory=dict)
    mediasize: int = MEDIASIZE

    def write(self, path: Path) -> None:
        """Metadata in the very bytes of the original, with our values in them."""
        values = {
            "datasize": self.mediasize - LOCALOFF,
            "extentsize": EXTENTSIZE,
            "keepdirty": KEEPDIRTY,
            "offset": LOCALOFF,
            "resuid": self.resuid,
            "localcnt": self.localcnt,
            "remotecnt": self.remotecnt,
        }
        block = bytearray.fromhex(VECTORS["metadata"][_WRITTEN_BY_THE_ORIGINAL[self.prevrole]]["block"])
        for found in entries(bytes(block), at=0, size=len(block)):
            if found.name in values:
                block[found.start : found.end] = values[found.name].to_bytes(found.end - found.start, "little")
        with path.open("wb") as file:
            file.truncate(self.mediasize)
            file.write(block)
            file.seek(NV_SIZE)
            file.write(sum(1 << extent for extent in self.dirty).to_bytes(LOCALOFF - NV_SIZE, "little"))
            for offset, data in self.data.items():
                file.seek(LOCALOFF + offset)
                file.write(data)

    @property
    def content(self) -> bytes:
        """The whole data area."""
        whole = bytearray(self.mediasize - LOCALOFF)
        for offset, data in self.data.items():
            whole[offset : offset + len(data)] = data
        return bytes(whole)


@dataclass(frozen=True, slots=True)
class Found:
    """What is on a component: numbers and words of the metadata by name, the dirty extents, the data area."""

    numbers: Mapping[str, int]
    prevrole: str
    dirty: frozenset[int]
    content: bytes

    @property
    def identity(self) -> tuple[int, int, int, str]:
        """resuid, localcnt, remotecnt, prevrole."""
        return self.numbers["resuid"], self.numbers["localcnt"], self.numbers["remotecnt"], self.prevrole


def look(path: Path) -> Found:
    """The first copy of the metadata, which is the one that the original knows of; map and data."""
    raw = path.read_bytes()
    values = {found.name: raw[found.start : found.end] for found in entries(raw, at=0, size=512)}
    words = {name: values.pop(name)[:-1].decode() for name in ("resource", "prevrole")}
    assert words["resource"] == "test"
    bits = int.from_bytes(raw[NV_SIZE:LOCALOFF], "little")
    dirty = frozenset(extent for extent in range(bits.bit_length()) if bits >> extent & 1)
    numbers = {name: int.from_bytes(value, "little") for name, value in values.items()}
    return Found(numbers, words["prevrole"], dirty, raw[LOCALOFF:])
