from __future__ import annotations

import pytest

from hastfs.errors import ProtocolError
from hastfs.model import PROTOCOL_VERSION, Checksum, Compression, Consistency, Generations, Role, SyncSource
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.handshake import (
    Hello,
    Joining,
    Refusal,
    Standing,
    Terms,
    Welcome,
    acts_as,
    decode_opening,
    negotiate,
    resuid_mismatch,
)
from hastfs.protocol.nv import Nv, NvType, Value
from hastfs.volume import Buffer

TOKEN = bytes(range(16))
GENERATIONS = Generations(11, 12, (13, 14))
JOINING = Joining("disk", TOKEN, False, 77, 3, 2)
TERMS = Terms(1 << 30, 1 << 21, 3, 2, False, SyncSource.SECONDARY, b"\x05" + bytes(511))


def received(buffers: list[Buffer]) -> Frame:
    raw = b"".join(bytes(part) for part in buffers)
    assert raw[0] == 2
    reader = FrameReader(1 << 16, 1 << 20)
    room = reader.buffer()
    room[: len(raw)] = raw
    reader.received(len(raw))
    frame = reader.next()
    assert frame is not None
    return frame


def changed(frame: Frame, name: str, kind: NvType | None = None, value: Value = 0) -> Frame:
    """The same message with one entry of another value, or without it."""
    nv = Nv()
    for entry in frame.nv:
        if entry[0] != name:
            nv.add(*entry)
        elif kind is not None:
            nv.add(name, kind, value)
    return Frame(frame.version, nv, frame.data)


def names(frame: Frame) -> list[str]:
    return [name for name, _, _ in frame.nv]


def test_we_offer_our_version_in_the_list_and_2_in_the_head() -> None:
    frame = received(Hello("disk", PROTOCOL_VERSION).encode())
    assert frame.version == 2
    assert Hello.decode(frame) == Hello("disk", 3)


@pytest.mark.parametrize(("offered", "agreed"), [(1, 1), (2, 2), (3, 3), (4, 3), (255, 3)])
def test_the_lower_version_is_spoken(offered: int, agreed: int) -> None:
    assert negotiate(offered) == agreed


def test_a_version_that_was_not_offered_is_refused() -> None:
    with pytest.raises(ProtocolError, match="version 4"):
        Welcome.decode(received(Welcome(4, TOKEN).encode()))


def test_only_step_3_carries_a_token() -> None:
    assert decode_opening(received(Hello("disk", 2).encode())) == Hello("disk", 2)
    assert decode_opening(received(JOINING.encode())) == JOINING


def test_generations_are_not_mentioned_to_an_original() -> None:
    for buffers in (JOINING.encode(), TERMS.encode()):
        assert not {"generation", "state", "detached"} & set(names(received(buffers)))


@pytest.mark.parametrize("consistency", Consistency)
def test_between_two_of_us_generations_and_state_are_told(consistency: Consistency) -> None:
    joining = Joining("disk", TOKEN, True, 77, 3, 2, GENERATIONS, consistency, True, 1 << 40, 1 << 30)
    assert Joining.decode(received(joining.encode())) == joining
    terms = Terms(1 << 30, 512, 1, 0, True, SyncSource.PRIMARY, b"\xff" * 512, GENERATIONS, consistency)
    assert Terms.decode(received(terms.encode()), 512) == terms


def test_our_entries_come_after_those_the_original_looks_for() -> None:
    joining = Joining("disk", TOKEN, False, 77, 3, 2, GENERATIONS, detached=True, datasize=512, extentsize=512)
    assert names(received(joining.encode()))[5:] == ["generation", "state", "detached", "datasize", "extentsize"]
    assert names(received(JOINING.encode()))[-1] == "remotecnt"
    terms = Terms(1 << 30, 512, 1, 0, False, SyncSource.PRIMARY, b"\xff" * 512, GENERATIONS)
    assert names(received(terms.encode()))[-4:] == ["mapsize", "generation", "state", "size"]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.HOLE])
@pytest.mark.parametrize("checksum", Checksum)
@pytest.mark.parametrize("activemap", [b"", bytes(512), b"\x01" * 1024])
def test_the_map_arrives_however_it_is_packed(compression: Compression, checksum: Checksum, activemap: bytes) -> None:
    terms = Terms(1 << 30, 512, 1, 0, False, SyncSource.PRIMARY, activemap)
    assert Terms.decode(received(terms.encode(compression, checksum)), 1024) == terms


def test_a_map_longer_than_the_component_s_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1024 bytes, 512 are allowed"):
        Terms.decode(received(Terms(1 << 30, 512, 1, 0, False, SyncSource.PRIMARY, bytes(1024)).encode()), 512)


def test_a_map_of_another_length_than_announced_is_refused() -> None:
    with pytest.raises(ProtocolError, match="512 bytes, 1024 were announced"):
        Terms.decode(changed(received(TERMS.encode()), "mapsize", NvType.UINT32, 1024), 4096)


@pytest.mark.parametrize("name", ["datasize", "extentsize", "localcnt", "remotecnt", "syncsrc", "mapsize"])
def test_terms_must_be_complete(name: str) -> None:
    with pytest.raises(ProtocolError, match=name):
        Terms.decode(changed(received(TERMS.encode()), name), 512)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("datasize", NvType.INT64, 0),
        ("datasize", NvType.INT64, -1),
        ("extentsize", NvType.INT32, -4096),
        ("syncsrc", NvType.UINT8, 0),
        ("syncsrc", NvType.UINT8, 3),
        ("localcnt", NvType.UINT64, 1 << 63),
        ("remotecnt", NvType.UINT64, (1 << 64) - 1),
    ],
)
def test_terms_must_make_sense(name: str, kind: NvType, value: int) -> None:
    with pytest.raises(ProtocolError):
        Terms.decode(changed(received(TERMS.encode()), name, kind, value), 512)


@pytest.mark.parametrize("name", ["resource", "resuid", "localcnt", "remotecnt"])
def test_who_joins_must_say_who_it_is(name: str) -> None:
    with pytest.raises(ProtocolError, match=name):
        Joining.decode(changed(received(JOINING.encode()), name))


@pytest.mark.parametrize("token", [TOKEN[:15], TOKEN + b"x"])
def test_a_token_has_16_bytes(token: bytes) -> None:
    with pytest.raises(ProtocolError, match="token"):
        Welcome.decode(received(Welcome(2, token).encode()))


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [("generation", NvType.UINT64_ARRAY, (1, 2, 3)), ("state", NvType.UINT8, 0), ("state", NvType.UINT8, 3)],
)
def test_our_entries_must_make_sense(name: str, kind: NvType, value: Value) -> None:
    frame = received(Joining("disk", TOKEN, False, 77, 3, 2, GENERATIONS).encode())
    with pytest.raises(ProtocolError):
        Joining.decode(changed(frame, name, kind, value))


@pytest.mark.parametrize(
    "refusal", [Refusal("No."), Refusal("No.", wait=True), Refusal("No.", standing=Standing(1 << 30, 512, 1, 2))]
)
def test_a_refusal_is_understood_wherever_it_comes(refusal: Refusal) -> None:
    frame = received(refusal.encode())
    assert Welcome.decode(frame) == Terms.decode(frame, 0) == Refusal.decode(frame) == refusal


def test_refusals_are_in_the_original_s_words() -> None:
    assert acts_as(Role.INIT) == "Remote node acts as init for the resource and not as secondary."
    assert resuid_mismatch(1, 2) == "Resource unique ID mismatch (primary=1, secondary=2)."
