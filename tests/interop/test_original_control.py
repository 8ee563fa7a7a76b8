"""The control socket: the original's hastctl must be able to talk to our hastd, and ours to the original."""

from __future__ import annotations

from typing import Any

import pytest

from hastfs.errors import ProtocolError
from hastfs.protocol.control import (
    ERROR_INVALID,
    ERROR_UNIMPLEMENTED,
    ControlCommand,
    ControlError,
    Reply,
    Request,
)
from tests.interop.original import VECTORS, fields, normalised, read

EXCHANGES = {exchange["what"]: exchange for exchange in VECTORS["control"]}
REFUSED = {
    "no resource0": ERROR_INVALID,
    "unknown cmd 9": ERROR_UNIMPLEMENTED,
    "SETROLE bad role 7": ERROR_INVALID,
}


def request_of(exchange: dict[str, Any]) -> bytes:
    return bytes.fromhex(exchange["request"])


@pytest.mark.parametrize("what", [what for what in EXCHANGES if what not in REFUSED and what != "no cmd"])
def test_requests_are_said_in_the_original_s_bytes(what: str) -> None:
    raw = request_of(EXCHANGES[what])
    request = Request.decode(read(raw))
    assert b"".join(bytes(part) for part in request.encode()) == normalised(raw)


@pytest.mark.parametrize("what", REFUSED)
def test_requests_that_make_no_sense_are_answered_with_the_original_s_error(what: str) -> None:
    with pytest.raises(ControlError) as refused:
        Request.decode(read(request_of(EXCHANGES[what])))
    assert refused.value.code == REFUSED[what]
    answer = b"".join(bytes(part) for part in Reply(error=refused.value.code).encode())
    assert answer == normalised(bytes.fromhex(EXCHANGES[what]["reply"]))


def test_a_request_without_a_command_is_not_answered() -> None:
    with pytest.raises(ProtocolError) as refused:
        Request.decode(read(request_of(EXCHANGES["no cmd"])))
    assert not isinstance(refused.value, ControlError)
    assert EXCHANGES["no cmd"]["reply"] == ""


@pytest.mark.parametrize("what", [what for what, exchange in EXCHANGES.items() if exchange["reply"]])
def test_replies_are_said_in_the_original_s_bytes(what: str) -> None:
    raw = bytes.fromhex(EXCHANGES[what]["reply"])
    frame = read(raw)
    assert list(frame.nv) == fields(EXCHANGES[what]["reply_fields"])
    assert b"".join(bytes(part) for part in Reply.decode(frame).encode()) == normalised(raw)


def test_the_status_of_two_resources_is_told_apart() -> None:
    reply = Reply.decode(read(bytes.fromhex(EXCHANGES["STATUS test + nope"]["reply"])))
    known, unknown = reply.resources
    assert (known.resource, known.error, known.role, known.status) == ("test", 0, "primary", "complete")
    assert known.stats["idle_queue_size"] == 255
    assert (unknown.resource, unknown.error, unknown.role) == ("nope", 1, None)


def test_a_role_change_names_role_and_resources() -> None:
    request = Request.decode(read(request_of(EXCHANGES["SETROLE init all"])))
    assert (request.command, request.role and request.role.word, request.resources) == (
        ControlCommand.SETROLE,
        "init",
        ("all",),
    )
