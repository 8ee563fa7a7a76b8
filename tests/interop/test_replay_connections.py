"""Who may open a link, and what becomes of one that is opened anew: against a real secondary."""

from __future__ import annotations

import socket

import pytest

from hastfs.protocol.handshake import BAD_TOKEN, NO_ACCESS
from tests.interop.component import State
from tests.interop.conftest import MakeStage
from tests.interop.original import entry, tidied, with_entry
from tests.interop.stage import Line, Lines, Setting, Stage, call
from tests.interop.transcripts import split, transcript

pytestmark = pytest.mark.kernel

HELLO, WELCOME, JOINING, TERMS = (tidied(step.raw) for step in split(transcript("hs_virgin"))[0] if step.raw)
REFUSED = next(tidied(step.raw) for step in transcript("refused_resource_unknown") if step.has("errmsg"))


def secondary(make_stage: MakeStage, setting: Setting | None = None) -> Stage:
    stage = make_stage(setting or Setting())
    stage.begin(State())
    stage.role("secondary")
    return stage


def welcomed(line: Line) -> bytes:
    """Steps 1 and 2; returns the token."""
    line.say(HELLO)
    welcome = line.hear()
    token = entry(welcome, "token")
    assert token is not None
    assert welcome == with_entry(WELCOME, "token", token)
    return token


def joins(line: Line, token: bytes) -> None:
    line.say(with_entry(JOINING, "token", token))


def test_a_half_open_connection_is_replaced_by_a_new_one_and_its_token_is_worth_nothing(make_stage: MakeStage) -> None:
    stage = secondary(make_stage)
    with Lines({number: call(stage.port) for number in range(1, 5)}) as lines:
        old = welcomed(lines[1])
        new = welcomed(lines[2])
        assert old != new
        assert lines[1].is_closed()
        joins(lines[3], old)
        assert entry(lines[3].hear(), "errmsg") == BAD_TOKEN.encode() + b"\0"
        assert lines[3].is_closed()
        joins(lines[4], new)
        assert lines[2].hear() == TERMS


def test_a_running_link_is_ended_by_a_new_step_1_of_its_primary_but_not_by_a_stranger(
    make_stage: MakeStage,
) -> None:
    stage = secondary(make_stage)
    (request, reply) = (step.raw for step in split(transcript("read_ok"))[1])
    with Lines({1: call(stage.port), 2: call(stage.port)}) as lines:
        joins(lines[2], welcomed(lines[1]))
        assert lines[1].hear() == TERMS
        with Lines({1: call(stage.port, source="127.0.0.2")}) as strangers:
            assert strangers[1].is_closed()
        lines[1].say(request)
        assert lines[2].hear() == tidied(reply)
        with Lines({1: call(stage.port)}) as others:
            welcomed(others[1])
            assert lines[1].is_closed()
            assert lines[2].is_closed()
    assert stage.status().role == "secondary"


def test_only_the_remote_of_a_resource_is_served_for_it(make_stage: MakeStage) -> None:
    stage = make_stage(Setting(remote="127.0.0.2"))
    with stage.config.open("a") as config:
        config.write(
            f"resource other {{ local {stage.root}/other on {socket.gethostname()} {{ remote tcp4://127.0.0.3 }} }}\n"
        )
    stage.begin(State())
    stage.role("secondary")
    no_access = bytes(REFUSED[:1]) + refusal(NO_ACCESS)
    with Lines() as lines:
        lines[1] = call(stage.port, source="127.0.0.3")
        lines[1].say(HELLO)
        assert lines[1].hear() == no_access
        assert lines[1].is_closed()
        lines[2] = call(stage.port, source="127.0.0.2")
        token = welcomed(lines[2])
        lines[3] = call(stage.port, source="127.0.0.3")  # the right token, from the wrong address
        joins(lines[3], token)
        assert lines[3].hear() == no_access
        assert lines[3].is_closed()
        lines[4] = call(stage.port, source="127.0.0.1")
        assert lines[4].is_closed()  # nobody's remote: without a word
        lines[5] = call(stage.port, source="127.0.0.2")
        joins(lines[5], token)
        assert lines[2].hear() == TERMS
    assert stage.found().identity[0] != 0


def refusal(errmsg: str) -> bytes:
    """A refusal, but for the version in its head, spelt out from the captured one: an `errmsg` string alone."""
    head, name = REFUSED[5:11], REFUSED[11:19]
    text = errmsg.encode() + b"\0"
    nv = head[:2] + len(text).to_bytes(4, "little") + name + text + bytes(-len(text) % 8)
    return len(nv).to_bytes(4, "little") + nv
