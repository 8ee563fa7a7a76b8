"""What was thrown at the original as a secondary, and what we make of the same bytes.

Never less tolerant of what a primary really sends; never a crash, a desynchronised stream, or data that was not sent.
"""

from __future__ import annotations

import errno

import pytest

from hastfs.errors import ProtocolError
from hastfs.model import MAX_REQUEST_V2, Command
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.handshake import Hello, Joining, decode_opening
from hastfs.protocol.replication import decode_request, validate_request
from tests.interop.original import VECTORS, read

TRANSCRIPTS = VECTORS["fake_primary"]
DATASIZE = 1043968


def from_primary(scenario: str, connection: str = "first") -> list[bytes]:
    said = TRANSCRIPTS[scenario]
    return [bytes.fromhex(part[2]) for part in said if part[0] == connection and part[1] == "primary"]


def requests(scenario: str) -> list[bytes]:
    """What followed the handshake's first step."""
    return from_primary(scenario)[1:]


@pytest.mark.parametrize("scenario", [s for s in TRANSCRIPTS if from_primary(s, "second")])
def test_both_openings_are_understood(scenario: str) -> None:
    hello = decode_opening(read(from_primary(scenario)[0]))
    joining = decode_opening(read(from_primary(scenario, "second")[0]))
    assert isinstance(hello, Hello)
    assert isinstance(joining, Joining)
    assert hello.resource == joining.resource == "test"
    assert joining.generations is None


def test_a_primary_that_does_not_say_its_version_speaks_version_1() -> None:
    assert Hello.decode(read(from_primary("v_missing")[0])).version == 1


@pytest.mark.parametrize("scenario", ["hdr_v3", "no_resource"])
def test_openings_that_the_original_refuses_are_refused(scenario: str) -> None:
    with pytest.raises(ProtocolError):
        decode_opening(read(from_primary(scenario)[0]))


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("read_ok", 0),
        ("write_ok", 0),
        ("bad_seq0", errno.EINVAL),
        ("read_no_offset", errno.EINVAL),
        ("read_len0", errno.EINVAL),
        ("read_unaligned", errno.EINVAL),
        ("read_beyond", errno.EINVAL),
        ("write_beyond", errno.EINVAL),
    ],
)
def test_requests_are_answered_with_the_original_s_error(scenario: str, error: int) -> None:
    request = decode_request(read(requests(scenario)[0]), MAX_REQUEST_V2)
    assert validate_request(request, DATASIZE, MAX_REQUEST_V2) == error


@pytest.mark.parametrize("scenario", ["no_cmd", "unknown_cmd", "write_badck", "write_unkcomp", "write_nodata"])
def test_a_stream_that_cannot_be_trusted_is_dropped(scenario: str) -> None:
    with pytest.raises(ProtocolError):
        decode_request(read(requests(scenario)[0]), MAX_REQUEST_V2)


def test_the_request_after_a_refused_write_is_understood() -> None:
    """The original takes the refused data for the next message."""
    reader = FrameReader(1 << 16, MAX_REQUEST_V2)
    stream = b"".join(requests("write_beyond"))
    reader.buffer()[: len(stream)] = stream
    reader.received(len(stream))
    commands = []
    while (frame := reader.next()) is not None:
        commands.append(decode_request(frame, MAX_REQUEST_V2).command)
    assert commands == [Command.WRITE, Command.READ]
    assert not reader.pending


def test_a_keepalive_needs_no_sequence_number() -> None:
    assert decode_request(read(requests("keepalive")[0]), MAX_REQUEST_V2).command is Command.KEEPALIVE
