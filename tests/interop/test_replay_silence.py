"""The captured waits, on a clock of their own: the original was built with 2 s between keepalives, and has 10."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hastfs.model import Checksum, Compression
from hastfs.protocol.handshake import Joining
from hastfs.resource import secondary
from hastfs.resource.link import KEEPALIVE as KEEPALIVE_INTERVAL
from hastfs.resource.link import Link, LinkLost
from hastfs.resource.secondary import SILENCE, Secondary
from tests.interop.original import read, tidied
from tests.interop.transcripts import KEEPALIVE, split, transcript
from tests.simulation.disk import SimulatedComponent, SimulatedDisk
from tests.simulation.network import connection
from tests.simulation.node import resource_config

TIMEOUT = 20
CAPTURED = next(step.raw for step in transcript("hs_virgin") if step.command == KEEPALIVE)


def link_of_version_2() -> tuple[Link, bytearray]:
    """A primary's link to a secondary that says nothing, and what it has sent so far."""
    (outgoing, _), (incoming, _) = connection(), connection()
    link = Link(outgoing, incoming, version=2, compression=Compression.NONE, checksum=Checksum.NONE, timeout=TIMEOUT)
    return link, outgoing.sent


async def lost(link: Link) -> str:
    """Runs it to its end; returns why it ended."""
    with pytest.raises(LinkLost) as end:
        await link.run(lambda: None)
    return str(end.value)


async def test_an_idle_primary_says_the_captured_keepalive_every_10_seconds(autojump_clock: MockClock) -> None:
    link, sent = link_of_version_2()
    assert KEEPALIVE_INTERVAL == 10
    with trio.move_on_after(100 * KEEPALIVE_INTERVAL + 1):
        await lost(link)
    assert bytes(sent) == 100 * CAPTURED


async def test_a_keepalive_is_due_10_seconds_after_the_last_word(autojump_clock: MockClock) -> None:
    link, sent = link_of_version_2()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lost, link)
        await trio.sleep(KEEPALIVE_INTERVAL - 1)
        link.flush(lambda error: None)
        link.submit()
        flush = bytes(sent)
        await trio.sleep(KEEPALIVE_INTERVAL - 1)
        assert bytes(sent) == flush
        await trio.sleep(2)
        assert bytes(sent) == flush + CAPTURED
        nursery.cancel_scope.cancel()


async def test_a_silent_secondary_is_given_up_after_timeout_and_who_waits_is_told(autojump_clock: MockClock) -> None:
    """Keepalives are not answered: without a request nobody can tell."""
    link, _ = link_of_version_2()
    errors: list[int] = []

    async def ask() -> None:
        await trio.sleep(5 * TIMEOUT)
        link.write(0, bytes(512), errors.append)
        link.submit()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        assert await lost(link) == f"no answer to WRITE for {TIMEOUT} seconds"
    assert trio.current_time() == pytest.approx(6 * TIMEOUT)
    assert errors == [errno.ENOTCONN]


OPENING, _ = split(transcript("idle_timeout"))
JOINING = next(Joining.decode(read(step.raw)) for step in OPENING if step.has("resuid"))
TERMS = next(tidied(step.raw) for step in OPENING if step.has("syncsrc"))


class Served:
    """A secondary's engine; the ends of its connections that the primary has."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.first, outgoing = connection()
        self.second, incoming = connection()
        disk = SimulatedDisk("test", 1 << 20)
        component = SimulatedComponent(disk, nursery)
        self._sent = outgoing.sent, incoming.sent
        self._engine = Secondary(
            resource_config(), component, disk.metadata, disk.map, outgoing=outgoing, incoming=incoming, version=2
        )

    @property
    def said(self) -> tuple[bytes, bytes]:
        """What the secondary has sent over its two connections."""
        first, second = self._sent
        return bytes(first), bytes(second)

    async def run(self, *, task_status: trio.TaskStatus[Secondary] = trio.TASK_STATUS_IGNORED) -> None:
        await secondary.serve(self._engine, JOINING, lambda event: None, task_status=task_status)


async def test_a_primary_that_says_nothing_after_the_handshake_is_given_up_after_20_seconds(
    autojump_clock: MockClock,
) -> None:
    """The capture `idle_timeout`: not a word is said to it meanwhile."""
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        started = trio.current_time()
        with trio.fail_after(10 * SILENCE):
            await served.run()
        assert trio.current_time() - started == pytest.approx(20, abs=0.1)
        assert served.said == (TERMS, b"")
        nursery.cancel_scope.cancel()


async def test_keepalives_alone_keep_a_primary_s_link_and_are_not_answered(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        ended = trio.Event()

        async def serve(*, task_status: trio.TaskStatus[Secondary]) -> None:
            await served.run(task_status=task_status)
            ended.set()

        await nursery.start(serve)
        for _ in range(20):
            await trio.sleep(SILENCE - 1)
            served.first.send([CAPTURED])
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        assert served.said == (TERMS, b"")
        nursery.cancel_scope.cancel()
