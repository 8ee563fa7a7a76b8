"""Metadata blocks that the original wrote: created with several parameters, and through a life on two nodes."""

from __future__ import annotations

from typing import Any

import pytest

from hastfs.model import Consistency, Generations
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout
from hastfs.ondisk.metadata import choose, decode_copy, encode
from tests.interop.original import VECTORS, normalised

BLOCKS = VECTORS["metadata"]
MEDIA_SIZES = {
    "create_default_64M.a": 64 << 20,
    "create_e64k_k8.a": 64 << 20,
    "create_m32M.a": 32 << 20,
    "create_odd_media.a": 10487296,
    "create_small_e512.a": 1 << 20,
}


def on_disk(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["block"]).ljust(METADATA_SIZE, b"\0")


@pytest.mark.parametrize("name", BLOCKS)
def test_the_original_s_metadata_is_read(name: str) -> None:
    wanted = {field: value for field, _, value in BLOCKS[name]["fields"]}
    disk = on_disk(BLOCKS[name])
    metadata, warning = choose(disk[:COPY_SIZE], disk[SECOND_COPY : SECOND_COPY + COPY_SIZE])
    assert warning is None
    assert metadata.resource == wanted["resource"]
    assert metadata.datasize == wanted["datasize"]
    assert metadata.extentsize == wanted["extentsize"]
    assert metadata.keepdirty == wanted["keepdirty"]
    assert metadata.localoff == wanted["offset"]
    assert metadata.resuid == wanted["resuid"]
    assert (metadata.localcnt, metadata.remotecnt) == (wanted["localcnt"], wanted["remotecnt"])
    assert metadata.prevrole.word == wanted["prevrole"]
    assert metadata.mapsize == BLOCKS[name]["mapsize"]
    assert (metadata.serial, metadata.generations, metadata.consistency) == (0, Generations(), Consistency.CONSISTENT)


@pytest.mark.parametrize("name", BLOCKS)
def test_what_we_write_begins_with_what_the_original_writes(name: str) -> None:
    theirs = bytes.fromhex(BLOCKS[name]["block"])
    message = bytes([2]) + len(theirs).to_bytes(4, "little") + theirs
    assert encode(decode_copy(on_disk(BLOCKS[name])[:COPY_SIZE])).startswith(normalised(message)[5:])


@pytest.mark.parametrize("name", MEDIA_SIZES)
def test_create_lays_a_component_out_like_the_original(name: str) -> None:
    wanted = {field: value for field, _, value in BLOCKS[name]["fields"]}
    layout = Layout(MEDIA_SIZES[name], wanted["extentsize"])
    assert (layout.datasize, layout.localoff, layout.mapsize) == (
        wanted["datasize"],
        wanted["offset"],
        BLOCKS[name]["mapsize"],
    )
