"""Each refusal of hast(8) as our primary takes it: said once, and what follows from it."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import BusyError
from hastfs.model import Role
from hastfs.protocol.frame import FrameReader
from hastfs.protocol.handshake import Hello, Welcome, decode_opening
from hastfs.resource.connecting import receive_frame, send_frame
from hastfs.resource.connector import LONGEST_DELAY
from tests.simulation.network import SimulatedChannel
from tests.simulation.node import BLOCK, Node, agreed, connected, linked, pair, until
from tests.unit.test_refusals import WAIT, refusal

PRIMARY = "Remote node acts as primary for the resource and not as secondary."
INIT = "Remote node acts as init for the resource and not as secondary."
SPLIT_BRAIN = "Split-brain condition!"
TOKEN = bytes(range(16))


class Refuser(Node):
    """Another node that says no, as the original does: in step 2, in step 4, or over the second connection."""

    def __init__(self, message: bytes, where: str) -> None:
        self.message = message
        self.where = where
        self.reachable = True
        self.asked: list[float] = []
        """When a primary came, on the simulated clock."""
        self._first: SimulatedChannel

    async def accept(self, channel: SimulatedChannel) -> None:
        opening = decode_opening(await receive_frame(channel, FrameReader(4096, 0)))
        if isinstance(opening, Hello):
            self.asked.append(trio.current_time())
            self._first = channel
            if self.where == "step 2":
                channel.send([self.message])
                channel.close()
            else:
                await send_frame(channel, Welcome(2, TOKEN).encode())
        elif self.where == "step 4":
            self._first.send([self.message])
            self._first.close()
            channel.close()
        else:
            channel.send([self.message])
            channel.close()


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """How often the log has it, debugging left out."""
    return sum(text in record.getMessage() for record in caplog.records if record.levelname != "DEBUG")


NOT_SERVED = [
    pytest.param("Resource not configured.", refusal("Resource not configured."), "step 2", id="not configured"),
    pytest.param("No access to the resource.", refusal("No access to the resource."), "step 2", id="no access"),
    pytest.param(INIT, refusal(INIT), "step 2", id="acts as init"),
    pytest.param("Token doesn't match.", refusal("Token doesn't match."), "the second connection", id="token"),
    pytest.param(
        "Resource unique ID mismatch (primary=5, secondary=7).",
        refusal("Resource unique ID mismatch (primary=5, secondary=7).", rubbish=b"\x7f"),
        "step 4",
        id="another pair",
    ),
]


@pytest.mark.parametrize(("text", "message", "where"), NOT_SERVED)
async def test_a_primary_that_is_refused_works_alone_and_keeps_trying(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, text: str, message: bytes, where: str
) -> None:
    async with pair() as (a, b):
        refuser = Refuser(message, where)
        a.other = refuser
        start = trio.current_time()
        await a.become_primary()
        assert trio.current_time() - start < 1, "there is nothing to wait for"
        assert a.primary is not None
        assert a.primary.status().status == "degraded"
        assert await a.write(0, BLOCK) == 0
        await trio.sleep(60)
        assert len(refuser.asked) >= 60 / LONGEST_DELAY
        assert said(caplog, text) == 1
        assert a.events == []
        a.other = b
        b.become_secondary()
        await until(lambda: agreed(a, b), timeout=2 * LONGEST_DELAY)
        assert a.disk.data == b.disk.data


@pytest.mark.parametrize("where", ["step 2", "step 4"])
async def test_a_split_brain_is_told_once_and_what_to_do_about_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async with pair() as (a, _):
        refuser = Refuser(refusal(SPLIT_BRAIN, counters=(1 << 20, 4096, 3, 0)), where)
        a.other = refuser
        await a.become_primary()
        assert await a.write(0, BLOCK) == 0
        await trio.sleep(60)
        assert len(refuser.asked) >= 60 / LONGEST_DELAY
        assert a.events == ["split-brain"]
        assert said(caplog, SPLIT_BRAIN) == 1
        assert said(caplog, "hastctl create -e 4K -k 4 test") == 1
        assert a.primary is not None
        assert a.primary.status().status == "degraded"
        assert await a.read(0, len(BLOCK)) == BLOCK


async def test_another_reason_is_told_again_and_the_first_one_too_when_it_is_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (a, _):
        refuser = Refuser(refusal(SPLIT_BRAIN), "step 4")
        a.other = refuser
        await a.become_primary()
        for message, where in ((refusal(INIT), "step 2"), (refusal(SPLIT_BRAIN), "step 4")):
            await trio.sleep(30)
            refuser.message, refuser.where = message, where
        await trio.sleep(30)
        assert (said(caplog, SPLIT_BRAIN), said(caplog, INIT)) == (2, 1)


async def test_a_node_that_is_told_to_wait_asks_every_second_and_gives_up_after_the_timeout(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (a, _):
        refuser = Refuser(refusal(PRIMARY, WAIT), "step 2")
        a.other = refuser
        start = trio.current_time()
        with pytest.raises(BusyError) as caught:
            await a.become_primary()
        assert caught.value.exit_code == os.EX_TEMPFAIL
        assert "peer" in str(caught.value), "the other node is named"
        assert "-f" in str(caught.value)
        assert trio.current_time() - start == pytest.approx(a.config.timeout, abs=1)
        assert [when - start for when in refuser.asked] == pytest.approx(range(a.config.timeout + 1), abs=0.1)
        assert said(caplog, PRIMARY) == 1
        assert a.role is Role.INIT
        assert a.disk.metadata.localcnt == 0


async def test_a_node_that_is_told_to_wait_has_the_role_when_the_other_one_has_left_it(
    autojump_clock: MockClock,
) -> None:
    async with pair() as (a, b):
        await connected(b, a)
        assert await b.write(0, BLOCK) == 0
        await a.stop()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.become_primary)
            await trio.sleep(5)
            assert not a.primary
            await b.stop()
            b.become_secondary()
        assert trio.current_time() - start <= 7
        assert linked(a)
        assert await a.read(0, len(BLOCK)) == BLOCK


async def test_a_node_that_is_told_to_wait_does_not_if_it_is_forced(autojump_clock: MockClock) -> None:
    async with pair() as (a, _):
        a.other = Refuser(refusal(PRIMARY, WAIT), "step 2")
        start = trio.current_time()
        await a.become_primary(force=True)
        assert trio.current_time() - start < 1


async def test_a_node_that_is_primary_stays_so_when_the_other_one_is_made_primary_too(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (a, _):
        a.reachable = False
        await a.become_primary()
        refuser = Refuser(refusal(PRIMARY, WAIT), "step 2")
        a.other, a.reachable = refuser, True
        await trio.sleep(3 * a.config.timeout)
        assert len(refuser.asked) >= 3 * a.config.timeout / LONGEST_DELAY - 1
        assert said(caplog, PRIMARY) == 1
        assert await a.write(0, BLOCK) == 0


async def test_a_refusal_with_line_ends_does_not_forge_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (a, _):
        a.other = Refuser(refusal("no\n[ERROR] forged" + "y" * 3000), "step 2")
        await a.become_primary()
        assert said(caplog, "forged") == 1
        assert all(record.getMessage().isprintable() for record in caplog.records)
        assert all(len(record.getMessage()) < 500 for record in caplog.records)
