"""A primary that comes again while its old link is still open, as after its restart or behind a dead wire."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from hastfs.model import ORIGINAL_VERSION
from hastfs.protocol.handshake import Hello, Joining, Terms
from tests.kernel.caller import BLOCK, call, played_primary
from tests.kernel.node import MIB, RESOURCE
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

NEWER = b"newer..." * 512


def test_a_new_link_is_served_while_the_old_one_is_still_open(pair: Pair) -> None:
    b = pair.b
    b.role("secondary")
    with played_primary(b) as old, played_primary(b) as new:
        old.open(virgin=True)
        old.write(1, 0)
        assert old.reply().error == 0
        for seq in range(2, 50):  # under way when the new link comes
            old.write(seq, seq * len(BLOCK))
        terms = new.open()
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
    with played_primary(b) as old, played_primary(b) as new:
        old.open(virgin=True)
        old.write(1, 0)
        assert old.reply().error == 0
        stopped = int(b.fields()["workerpid"])
        os.kill(stopped, signal.SIGSTOP)
        for seq in range(2, 50):  # they wait in the connection
            old.write(seq, 0)
        new.first.say(Hello(RESOURCE, ORIGINAL_VERSION).encode())
        go_on = threading.Timer(0.5, _go_on, [stopped])  # hastd is waiting for its end by then
        go_on.start()
        new.join(new.first.welcome())
        go_on.join()
        new.write(1, 0, NEWER)
        assert new.reply().error == 0
        assert not Path(f"/proc/{stopped}").exists()
        assert new.read(2, 0) == NEWER


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_connection_that_is_only_half_a_link_ends_the_old_link_and_is_ended_by_the_next(pair: Pair) -> None:
    b = pair.b
    b.role("secondary")
    with played_primary(b) as old, played_primary(b) as new, call(b) as half:
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
