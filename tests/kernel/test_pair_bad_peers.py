"""What strangers and broken nodes say to hastd's port, and what they get for an answer."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

from hastfs.model import ORIGINAL_VERSION
from hastfs.protocol.frame import encode
from hastfs.protocol.handshake import (
    BAD_TOKEN,
    NO_ACCESS,
    NOT_CONFIGURED,
    SPLIT_BRAIN,
    TOKEN_SIZE,
    Hello,
    Joining,
    Refusal,
)
from hastfs.protocol.nv import Nv
from hastfs.volume import Buffer
from tests.kernel.caller import RESUID, call
from tests.kernel.conftest import MakePair
from tests.kernel.node import RESOURCE
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def joining(token: bytes, *, resuid: int = RESUID, localcnt: int = 0, remotecnt: int = 0) -> list[Buffer]:
    """Step 3 as an original primary would say it."""
    return Joining(RESOURCE, token, False, resuid, localcnt, remotecnt, None).encode()


def used_secondary(pair: Pair) -> int:
    """Makes b a secondary that was primary once and wrote alone; returns its resuid."""
    pair.connect()
    pair.a.role("init")
    pair.b.role("init")
    pair.cut()
    pair.b.become_primary()
    with pair.b.image.open("r+b", buffering=0) as image:
        image.write(b"alone" * 1024)
        os.fsync(image.fileno())
    pair.b.role("secondary")
    return int(pair.b.metadata()["resuid"])


def test_an_unknown_resource_is_refused(pair: Pair) -> None:
    with call(pair.b) as caller:
        assert caller.refusal(Hello("nobody", ORIGINAL_VERSION).encode()).errmsg == NOT_CONFIGURED


def test_a_stranger_s_address_is_closed_without_a_word(pair: Pair) -> None:
    pair.b.role("secondary")
    with call(pair.b, source="127.0.0.2") as caller:
        with contextlib.suppress(ConnectionError):
            caller.say(Hello(RESOURCE, ORIGINAL_VERSION).encode())
        assert caller.is_closed()


def test_the_remote_of_one_resource_has_no_access_to_another(make_pair: MakePair) -> None:
    pair = make_pair()
    with pair.b.config.open("a") as config:
        config.write(
            f"resource other {{ local {pair.root}/other on {socket.gethostname()} {{ remote tcp4://127.0.0.2 }} }}\n"
        )
    pair.start()
    pair.b.role("secondary")
    with call(pair.b, source="127.0.0.2") as caller:
        assert caller.refusal(Hello(RESOURCE, ORIGINAL_VERSION).encode()).errmsg == NO_ACCESS


def test_a_node_without_a_role_refuses_a_primary(pair: Pair) -> None:
    with call(pair.b) as caller:
        refusal = caller.refusal(Hello(RESOURCE, ORIGINAL_VERSION).encode())
    assert refusal.errmsg == "Remote node acts as init for the resource and not as secondary."
    assert not refusal.wait


def test_a_primary_refuses_another_primary_and_asks_it_to_wait(pair: Pair) -> None:
    pair.a.become_primary()
    with call(pair.a) as caller:
        refusal = caller.refusal(Hello(RESOURCE, ORIGINAL_VERSION).encode())
    assert refusal.errmsg == "Remote node acts as primary for the resource and not as secondary."
    assert refusal.wait


def test_a_wrong_token_is_refused_on_the_second_connection(pair: Pair) -> None:
    pair.b.role("secondary")
    with call(pair.b) as first, call(pair.b) as second:
        token = first.token()
        assert token != bytes(TOKEN_SIZE)
        assert second.refusal(joining(bytes(TOKEN_SIZE))).errmsg == BAD_TOKEN


def test_a_primary_of_another_pair_is_refused(pair: Pair) -> None:
    resuid = used_secondary(pair)
    with call(pair.b) as first, call(pair.b) as second:
        second.say(joining(first.token(), resuid=resuid + 1))
        assert Refusal.decode(first.hear()).errmsg == (
            f"Resource unique ID mismatch (primary={resuid + 1}, secondary={resuid})."
        )


def test_an_original_primary_that_wrote_alone_too_is_refused(pair: Pair) -> None:
    resuid = used_secondary(pair)
    before = pair.b.data_area().digest()
    with call(pair.b) as first, call(pair.b) as second:
        second.say(joining(first.token(), resuid=resuid, localcnt=9, remotecnt=0))
        assert Refusal.decode(first.hear()).errmsg == SPLIT_BRAIN
    pair.b.until_event("split-brain")
    assert pair.b.data_area().digest() == before


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 100, id="another protocol"),
        pytest.param(b"\x03" + Hello(RESOURCE, ORIGINAL_VERSION).encode()[0][1:], id="a head of a later version"),
        pytest.param(b"\x02\xff\xff\xff\xff", id="a list of four gigabytes"),
        pytest.param(b"\x02\x18\x00\x00\x00" + b"\xff" * 24, id="a list that cannot be read"),
        pytest.param(encode(Nv().encode())[0], id="an empty message"),
    ],
)
def test_what_cannot_be_understood_ends_the_connection_and_nothing_else(pair: Pair, garbage: bytes) -> None:
    pair.b.role("secondary")
    with call(pair.b) as caller:
        with contextlib.suppress(ConnectionError):  # it may hang up before it has heard it all
            caller.say(garbage)
        assert caller.is_closed()
    pair.connect()


def test_garbage_in_an_open_link_ends_the_link_and_changes_nothing(pair: Pair) -> None:
    pair.b.role("secondary")
    before = pair.b.data_area().digest()
    with call(pair.b) as first, call(pair.b) as second:
        second.say(Joining(RESOURCE, first.token(), True, 7, 0, 0, None).encode())
        first.hear()
        first.say(os.urandom(4096))
        assert first.is_closed()
        assert second.is_closed()
    assert pair.b.data_area().digest() == before
    assert pair.b.status().role == "secondary"


def test_silent_callers_hold_up_nobody(pair: Pair) -> None:
    hello = Hello(RESOURCE, ORIGINAL_VERSION).encode()[0]
    with contextlib.ExitStack() as callers:
        for node in pair.nodes:
            for said in (b"", bytes(hello[:7]), bytes(hello[:-1])):
                for _ in range(5):
                    callers.enter_context(call(node)).say(said)
        silent = socket.socket(socket.AF_UNIX)
        callers.enter_context(silent)
        silent.connect(str(pair.a.control))

        started = time.monotonic()
        assert pair.a.status().role == "init"
        assert time.monotonic() - started < 5, "hastctl status had to wait for callers that say nothing"
        pair.connect()
        with pair.a.image.open("r+b", buffering=0) as image:
            image.write(b"served" * 512)
            os.fsync(image.fileno())
    pair.rest()
    pair.assert_equal()
