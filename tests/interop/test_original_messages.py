"""Every message that was captured between two originals: we read what they meant, and say it in the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

from hastfs.model import MAX_REQUEST, Checksum, Command, Compression, SyncSource
from hastfs.protocol import handshake, replication
from hastfs.protocol.frame import Frame
from hastfs.protocol.handshake import Hello, Joining, Refusal, Standing, Terms, Welcome
from hastfs.protocol.payload import Packed, pack, pack_zeros
from hastfs.volume import Buffer
from tests.interop.original import VECTORS, block, fields, messages, normalised, read

MAX_MAP = 1 << 16
MESSAGES = [pytest.param(message, raw, id=name) for name, message, raw in messages()]


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def names(message: dict[str, Any]) -> set[str]:
    return {field[0] for field in message["fields"]}


def means(message: dict[str, Any]) -> tuple[Compression, Checksum]:
    """How the sender was configured, as far as this message shows it."""
    values = {name: value for name, _, value in message["fields"]}
    return Compression(values.get("compression", "none")), Checksum(values.get("checksum", "none"))


def packed_again(length: int, data: Buffer | None, message: dict[str, Any]) -> Packed:
    compression, checksum = means(message)
    return pack_zeros(length, checksum) if data is None else pack(data, compression, checksum)


def said_again(message: dict[str, Any], frame: Frame) -> bytes:
    """The message through our typed decoder and encoder."""
    found = names(message)
    if "cmd" in found:
        request = replication.decode_request(frame, MAX_REQUEST)
        if request.command is Command.KEEPALIVE:
            return joined(replication.encode_keepalive())
        is_write = request.command is Command.WRITE
        packed = packed_again(request.length, request.data, message) if is_write else None
        return joined(
            replication.encode_request(
                request.command, request.seq, request.offset, request.length, memsync=request.memsync, packed=packed
            )
        )
    if "seq" in found:
        reply = replication.decode_reply(frame, MAX_REQUEST)
        found_data = reply.payload
        packed = None if found_data is None else packed_again(found_data.length, found_data.data, message)
        return joined(replication.encode_reply(reply.seq, received=reply.received, error=reply.error, packed=packed))
    if message["from"] == "primary":
        return joined(handshake.decode_opening(frame).encode())
    if "token" in found:
        return joined(Welcome.decode(frame).encode())
    if "errmsg" in found:
        return joined(Refusal.decode(frame).encode())
    terms = Terms.decode(frame, MAX_MAP)
    assert isinstance(terms, Terms)
    return joined(terms.encode(*means(message)))


@pytest.mark.parametrize(("message", "raw"), MESSAGES)
def test_the_fields_are_those_that_the_original_reads(message: dict[str, Any], raw: bytes) -> None:
    frame = read(raw)
    assert list(frame.nv) == fields(message["fields"])
    assert frame.data == block(message["data"])


@pytest.mark.parametrize(("message", "raw"), MESSAGES)
def test_decoded_and_encoded_again_it_is_the_same_message(message: dict[str, Any], raw: bytes) -> None:
    assert said_again(message, read(raw)) == normalised(raw)


def test_all_kinds_of_messages_were_captured() -> None:
    kinds = [names(message) for _, message, _ in messages()]
    for wanted in ("cmd", "memsync", "received", "error", "token", "virgin", "syncsrc", "errmsg", "wait", "hash"):
        assert any(wanted in kind for kind in kinds), wanted


def typed(scenario: str, sender: str, name: str) -> Frame:
    """The first message of `sender` in the scenario that has the field `name`."""
    for found, message, raw in messages():
        if found.startswith(f"{scenario}-") and message["from"] == sender and name in names(message):
            return read(raw)
    raise LookupError(f"{scenario} has no such message")


def test_the_first_handshake_of_two_virgins_is_understood() -> None:
    assert Hello.decode(typed("hs_virgin", "primary", "version")) == Hello("test", 2)
    token = bytes.fromhex("c324341d80400ce2008f0defc6860f53")
    assert Welcome.decode(typed("hs_virgin", "secondary", "token")) == Welcome(2, token)
    joining = Joining.decode(typed("hs_virgin", "primary", "token"))
    assert joining == Joining("test", token, True, 16483866436695120174, 0, 0)
    terms = Terms.decode(typed("hs_virgin", "secondary", "syncsrc"), MAX_MAP)
    assert terms == Terms(1043968, 4096, 0, 0, True, SyncSource.PRIMARY, b"")


def test_a_full_sync_sends_a_map_of_ones() -> None:
    terms = Terms.decode(typed("hs_secondary_virgin_full", "secondary", "syncsrc"), MAX_MAP)
    assert isinstance(terms, Terms)
    assert terms.map == b"\xff" * 512


def test_an_empty_map_comes_as_a_hole() -> None:
    terms = Terms.decode(typed("hs_regsync_hole_none", "secondary", "syncsrc"), MAX_MAP)
    assert isinstance(terms, Terms)
    assert terms.map == bytes(512)


def test_a_refusal_for_split_brain_tells_the_counters() -> None:
    refusal = Terms.decode(typed("refused_split_brain", "secondary", "errmsg"), MAX_MAP)
    assert refusal == Refusal(handshake.SPLIT_BRAIN, standing=Standing(1043968, 4096, 1, 0))


def test_a_node_that_is_primary_itself_asks_to_wait() -> None:
    refusal = Welcome.decode(typed("refused_acts_as_primary", "secondary", "errmsg"))
    assert refusal == Refusal("Remote node acts as primary for the resource and not as secondary.", wait=True)


@pytest.mark.parametrize("vector", VECTORS["payload"], ids=lambda vector: vector["input"])
def test_data_is_packed_as_the_original_does_with_hole(vector: dict[str, Any]) -> None:
    packed = pack(block(vector["input"]), Compression.HOLE, Checksum.NONE)
    assert bytes(packed.data) == block(vector["output"])
    assert ("compression" in [name for name, _, _ in packed.fields]) is (vector["compression"] == "hole")
