"""A primary that comes again while its old link is still open, as after its restart or behind a dead wire."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from hastfs.model import ORIGINAL_VERSION, Checksum, Command, Compression
from hastfs.protocol.handshake import Hello, Joining, Terms, Welcome
from hastfs.protocol.payload import pack
from hastfs.protocol.replication import Reply, decode_reply, encode_request
from tests.kernel.node import MIB, RESOURCE
from tests.kernel.pair import Pair
from tests.kernel.test_pair_bad_peers import Caller, call

pytestmark = pytest.mark.kernel

BLOCK = bytes(range(256)) * 16
NEWER = b"newer..." * 512


class Link:
    """Both connections of a primary of version 2, played by the test."""

    def __init__(self, first: Caller, second: Caller) -> None:
        self.first = first
        self.second = second

    def open(self, *, virgin: bool) -> Terms:
        return self._join(self.first.token(), virgin=virgin)

    def join(self) -> Terms:
        """With the token that answers a Hello that was sent before."""
        welcome = Welcome.decode(self.first.hear())
        assert isinstance(welcome, Welcome), welcome
        return self._join(welcome.token, virgin=False)

    def _join(self, token: bytes, *, virgin: bool) -> Terms:
        self.second.say(Joining(RESOURCE, token, virgin, 7, 0, 0, None).encode())
        terms = Terms.decode(self.first.hear(), MIB)
        assert isinstance(terms, Terms), terms
        return terms

    def write(self, seq: int, offset: int, data: bytes = BLOCK) -> None:
        """Without waiting for the answer."""
        packed = pack(data, Compression.NONE, Checksum.NONE)
        self.first.say(encode_request(Command.WRITE, seq, offset, len(data), packed=packed))

    def read(self, seq: int, offset: int) -> bytes:
        self.first.say(encode_request(Command.READ, seq, offset, len(BLOCK)))
        payload = self.reply().payload
        assert payload is not None
        return bytes(len(BLOCK)) if payload.data is None else bytes(payload.data)

    def reply(self) -> Reply:
        return decode_reply(self.second.hear(), MIB)


def test_a_new_link_is_served_while_the_old_one_is_still_open(pair: Pair) -> None:
    b = pair.b
    b.role("secondary")
    with contextlib.ExitStack() as callers:
        old, new = (Link(*(callers.enter_context(call(b)) for _ in range(2))) for _ in range(2))
        old.open(virgin=True)
        old.write(1, 0)
        assert old.reply().error == 0
        for seq in range(2, 50):  # under way when the new link comes
            old.write(seq, seq * len(BLOCK))
        terms = new.open(virgin=False)
        assert not terms.virgin
        assert new.read(1, 0) == BLOCK
        new.write(2, 4 * MIB)
        assert new.reply().error == 0
        assert new.read(3, 4 * MIB) == BLOCK
        with contextlib.suppress(ConnectionError):
            while True:  # what the old worker had answered before it ended
                old.reply()
        assert old.first.is_closed()
        assert b.status().role == "secondary"
        b.until(lambda: len(b.events()) >= 4, "the hook was called four times")
        assert [line.split()[0] for line in b.events()] == ["role", "connect", "disconnect", "connect"]


def test_what_a_stopped_worker_had_not_read_never_comes_after_what_the_next_link_writes(pair: Pair) -> None:
    b = pair.b
    b.role("secondary")
    with contextlib.ExitStack() as callers:
        old, new = (Link(*(callers.enter_context(call(b)) for _ in range(2))) for _ in range(2))
        old.open(virgin=True)
        old.write(1, 0)
        assert old.reply().error == 0
        stopped = int(b.fields()["workerpid"])
        os.kill(stopped, signal.SIGSTOP)
        for seq in range(2, 200):  # they wait in the connection
            old.write(seq, 0)
        new.first.say(Hello(RESOURCE, ORIGINAL_VERSION).encode())
        threading.Timer(0.5, os.kill, (stopped, signal.SIGCONT)).start()  # hastd is waiting for its end by then
        new.join()
        new.write(1, 0, NEWER)
        assert new.reply().error == 0
        assert not Path(f"/proc/{stopped}").exists()
        assert new.read(2, 0) == NEWER


def test_a_connection_that_is_only_half_a_link_ends_the_old_link_and_is_ended_by_the_next(pair: Pair) -> None:
    b = pair.b
    b.role("secondary")
    with contextlib.ExitStack() as callers:
        old, new = (Link(*(callers.enter_context(call(b)) for _ in range(2))) for _ in range(2))
        half = callers.enter_context(call(b))
        old.open(virgin=True)
        half.token()
        assert old.first.is_closed()
        assert old.second.is_closed()
        new.open(virgin=True)
        assert half.is_closed()
        new.write(1, 0)
        assert new.reply().error == 0


def test_the_real_primary_takes_the_place_of_one_that_hangs(pair: Pair) -> None:
    pair.connect()
    with pair.a.image.open("r+b", buffering=0) as image:
        image.write(BLOCK)
    resuid = int(pair.a.metadata()["resuid"])
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    pair.b.until_event("disconnect")
    with call(pair.b) as first, call(pair.b) as second:
        second.say(Joining(RESOURCE, first.token(), False, resuid, 0, 0, None).encode())
        assert isinstance(Terms.decode(first.hear(), MIB), Terms)
        pair.heal()
        pair.a.until_status("complete", timeout=15)
        assert first.is_closed()
    pair.rest()
    pair.assert_equal()
