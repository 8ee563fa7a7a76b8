"""The supervisor's view of a worker: the worker here is the other end of a link, and a process that ends on demand."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import trio
import trio.testing

from hastfs.daemon import workerlink
from hastfs.daemon.inheritance import InheritedWorker
from hastfs.daemon.workerlink import (
    AskStatus,
    AtRisk,
    Configure,
    Configured,
    Failed,
    Fenced,
    HandedOver,
    HandOver,
    Happened,
    LinkEnd,
    Order,
    Ready,
    Report,
    StatusAnswer,
    Stop,
)
from hastfs.daemon.workers import Ended, Worker, WorkerFailed, first
from hastfs.errors import BusyError, SystemFailure
from hastfs.resource.events import Event
from hastfs.resource.remotecache import Risk
from hastfs.resource.status import Status
from tests.daemon_fakes import CONFIG

STATUS = Status("complete", 4096, 2097152, 64, {"stat_write": 3})


class FakeProcess:
    def __init__(self) -> None:
        self.pid = 4711
        self.pidfd: int | None = None
        self.code: int | None = 0
        self.ended = trio.Event()
        self.killed = self.closed = False
        self.waits_for_disk = False
        """Not even SIGKILL ends it."""

    async def wait(self) -> int | None:
        await self.ended.wait()
        return self.code

    def end(self, code: int | None = 0) -> None:
        if not self.ended.is_set():
            self.code = code
            self.ended.set()

    def kill(self) -> None:
        self.killed = True
        if not self.waits_for_disk:
            self.end(-9)

    def close(self) -> None:
        assert self.ended.is_set() or self.waits_for_disk
        self.closed = True


class Pair:
    """A `Worker`, and what its process does."""

    def __init__(self) -> None:
        self.process = FakeProcess()
        self.events: list[Event] = []
        ours, theirs = workerlink.socketpair()
        self.link = LinkEnd(theirs)
        self.worker = Worker(self.process, LinkEnd(ours), self.events.append)

    async def expect(self, order: Order) -> None:
        with trio.fail_after(60):
            assert await self.link.receive() == order

    def say(self, *reports: Report) -> None:
        for report in reports:
            self.link.send(report)

    def exit(self, code: int | None = 0) -> None:
        self.link.close()
        self.process.end(code)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.worker.run)
        yield made
        nursery.cancel_scope.cancel()
    made.link.close()
    assert made.process.closed


async def test_a_worker_is_ready_when_it_says_so(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.wait_ready)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        pair.say(Ready())


async def test_what_happens_is_passed_on_in_order(pair: Pair) -> None:
    pair.say(Happened("connect"), Happened("syncstart"), Ready())
    await pair.worker.wait_ready()
    assert pair.events == [Event.CONNECT, Event.SYNCSTART]


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ([], []),
        (["connect"], ["disconnect"]),
        (["connect", "syncstart"], ["syncintr", "disconnect"]),
        (["connect", "syncstart", "syncdone"], ["disconnect"]),
        (["connect", "syncstart", "syncintr", "disconnect"], []),
        (["split-brain"], []),
    ],
)
async def test_a_killed_worker_s_link_and_resync_end_for_the_hooks_too(
    pair: Pair, told: list[str], left: list[str]
) -> None:
    pair.say(*(Happened(event) for event in told))
    pair.process.end(-9)
    pair.link.close()
    await pair.worker.ended.wait()
    assert [event.value for event in pair.events] == told + left


async def test_a_worker_that_fails_before_it_is_ready_says_why(pair: Pair) -> None:
    pair.say(Failed("Component is locked.", 75, True))
    pair.exit(75)
    with pytest.raises(WorkerFailed, match=r"^Component is locked\.$") as caught:
        await pair.worker.wait_ready()
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, Ended("Worker process exited gracefully.", 0, False)),
        (-9, Ended("Worker process killed (signal=9).", -9, True)),
        (1, Ended("Worker process exited ungracefully (exitcode=1).", 1, True)),
    ],
)
async def test_how_the_process_ended_is_the_outcome(pair: Pair, code: int, outcome: Ended) -> None:
    pair.exit(code)
    await pair.worker.ended.wait()
    assert pair.worker.outcome == outcome


async def test_status_is_asked_and_answered(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        answers: list[Status] = []

        async def ask() -> None:
            answers.append(await pair.worker.status())

        nursery.start_soon(ask)
        await pair.expect(AskStatus(1))
        pair.say(StatusAnswer(1, STATUS.as_dict()))
    assert answers == [STATUS]


async def test_a_worker_that_hangs_costs_a_status_two_seconds(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    started = trio.current_time()
    with pytest.raises(SystemFailure, match="does not answer"):
        await pair.worker.status()
    assert trio.current_time() - started == pytest.approx(2)


async def test_a_worker_that_did_not_read_for_a_while_hears_in_the_end_that_the_other_node_is_fenced(
    pair: Pair, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    while not caplog.records:
        with pytest.raises(SystemFailure):
            await pair.worker.status()
    pair.worker.fenced(go_on=True)
    with trio.fail_after(60):
        while (order := await pair.link.receive()) != Fenced(True, ""):
            assert isinstance(order, AskStatus)


async def test_a_late_answer_is_not_taken_for_that_of_the_next_question(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(SystemFailure):
        await pair.worker.status()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.status)
        await pair.expect(AskStatus(1))
        await pair.expect(AskStatus(2))
        pair.say(StatusAnswer(1, STATUS.as_dict()))
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        pair.say(StatusAnswer(2, STATUS.as_dict()))


async def test_a_worker_that_dies_while_asked_is_not_waited_for(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    pair.exit(-11)
    started = trio.current_time()
    with pytest.raises(SystemFailure):
        await pair.worker.status()
    assert trio.current_time() == started


async def test_a_changed_configuration_is_in_force_when_the_worker_says_so(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.configure, CONFIG)
        await pair.expect(Configure(1, CONFIG.as_plain()))
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        pair.say(Configured(1))


async def test_a_worker_that_does_not_take_a_configuration_is_not_waited_for_long(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    started = trio.current_time()
    with pytest.raises(SystemFailure, match="does not answer"):
        await pair.worker.configure(CONFIG)
    assert trio.current_time() - started == pytest.approx(5)
    pair.worker.kill()
    await pair.worker.ended.wait()
    assert pair.worker.outcome.temporary


async def test_a_worker_that_answers_twice_has_answered_once(pair: Pair) -> None:
    answers: list[Status] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await pair.worker.status())

        nursery.start_soon(ask)
        await pair.expect(AskStatus(1))
        pair.say(
            StatusAnswer(1, STATUS.as_dict()), StatusAnswer(1, STATUS.as_dict()), StatusAnswer(1, STATUS.as_dict())
        )
    assert answers == [STATUS]
    await trio.testing.wait_all_tasks_blocked()
    assert not pair.worker.ended.is_set()


async def test_the_wrong_kind_of_answer_is_none(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(SystemFailure, match="does not answer"):
                await pair.worker.status()

        nursery.start_soon(ask)
        await pair.expect(AskStatus(1))
        pair.say(Configured(1))


async def test_stop_ends_a_worker_in_order(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.stop, 5.0)
        await pair.expect(Stop())
        pair.exit()
    assert pair.worker.outcome.in_order
    assert pair.process.code == 0


async def test_a_worker_that_cannot_even_be_killed_is_not_waited_for(
    pair: Pair, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    pair.process.waits_for_disk = True
    began = trio.current_time()
    assert (await pair.worker.stop(5.0)).exit_code == -9
    assert trio.current_time() - began < 20
    assert "cannot be killed: its disk does not answer" in caplog.text


async def test_a_worker_that_does_not_stop_is_killed(
    pair: Pair, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    assert (await pair.worker.stop(5.0)).exit_code == -9
    assert "does not stop within 5 s" in caplog.text


async def test_a_worker_hands_over_when_it_says_so_and_ends(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.hand_over, 5.0)
        await pair.expect(HandOver())
        pair.say(HandedOver())
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        pair.exit()
    assert pair.worker.outcome.in_order
    assert pair.worker.outcome.handed_over


async def test_what_a_worker_says_of_the_other_nodes_cache_is_kept_for_its_successor(pair: Pair) -> None:
    assert pair.worker.risk is None
    pair.say(AtRisk(7, False), AtRisk(7, True))
    pair.exit(-9)
    await pair.worker.ended.wait()
    assert pair.worker.risk == Risk(7, lost=True)


async def test_a_worker_that_dies_after_it_handed_over_left_no_request_unanswered(pair: Pair) -> None:
    pair.say(HandedOver())
    pair.exit(-9)
    await pair.worker.ended.wait()
    assert pair.worker.outcome == Ended("Worker process killed (signal=9).", -9, True, handed_over=True)


async def test_a_worker_that_does_not_hand_over_is_killed(pair: Pair, autojump_clock: trio.testing.MockClock) -> None:
    ended = await pair.worker.hand_over(5.0)
    assert (ended.exit_code, ended.handed_over) == (-9, False)


async def test_a_worker_whose_end_nobody_can_know_ended_as_it_was_told(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.stop, 5.0)
        await pair.expect(Stop())
        pair.exit(None)
    assert pair.worker.outcome.in_order


async def test_a_worker_whose_end_nobody_can_know_and_who_was_not_told_to_end_died(pair: Pair) -> None:
    pair.exit(None)
    await pair.worker.ended.wait()
    assert pair.worker.outcome == Ended("Worker process ended, without a word.", 70, True)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


async def test_a_worker_goes_on_under_another_program(sleeper: subprocess.Popen[bytes]) -> None:
    """Its process is a real one here: it is known by its pidfd."""
    events: list[Event] = []
    ours, theirs = workerlink.socketpair()
    left = InheritedWorker(
        sleeper.pid, os.pidfd_open(sleeper.pid), ours.detach(), ready=True, connected=True, syncing=True, asked=6
    )
    worker = Worker.inherit(left, events.append)
    assert worker.bequeath() == left
    with theirs:
        link = LinkEnd(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await worker.wait_ready()
            nursery.start_soon(worker.status)
            assert await link.receive() == AskStatus(7)
            link.send(StatusAnswer(7, STATUS.as_dict()))
            link.send(Happened("syncdone"))
            nursery.start_soon(worker.hand_over, 60.0)
            assert await link.receive() == HandOver()
            link.send(HandedOver())
            sleeper.kill()
        link.close()
    assert worker.outcome == Ended("Worker process exited gracefully.", 0, False, handed_over=True)
    assert events == [Event.SYNCDONE, Event.DISCONNECT]
    assert worker.bequeath() is None


async def test_a_worker_that_is_not_ready_is_not_ready_under_another_program_either(pair: Pair) -> None:
    assert pair.worker.bequeath() is None, "without a pidfd there is nothing to go on with"
    pair.process.pidfd = 77
    before = pair.worker.bequeath()
    assert before is not None
    assert (before.pid, before.pidfd, before.ready, before.connected, before.asked) == (4711, 77, False, False, 0)
    pair.say(Ready(), Happened("connect"))
    await pair.worker.wait_ready()
    await trio.testing.wait_all_tasks_blocked()
    assert pair.worker.bequeath() == replace(before, ready=True, connected=True)


async def test_a_worker_that_closes_its_link_and_goes_on_is_killed(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    pair.link.close()
    await pair.worker.ended.wait()
    assert pair.process.killed


@pytest.mark.parametrize(
    "say",
    [
        lambda link: link.send(Stop()),
        lambda link: link.send(Happened("nonsense")),
        lambda link: link.send(Failed("a\0b", 71, True)),
        lambda link: link.send(StatusAnswer(1, {"dirty": "much"})),
        lambda link: link.send(StatusAnswer(1, STATUS.as_dict() | {"dirty": -1})),
        lambda link: link.send(StatusAnswer(1, STATUS.as_dict() | {"details": {"started": 10**400}})),
    ],
)
async def test_a_worker_that_talks_nonsense_is_killed(
    pair: Pair, say: Callable[[LinkEnd], None], autojump_clock: trio.testing.MockClock
) -> None:
    say(pair.link)
    await pair.worker.ended.wait()
    assert pair.process.killed


async def test_cancelling_kills_the_process(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pair.link.close()
    assert pair.process.killed
    assert pair.worker.ended.is_set()


async def test_the_first_of_several_waits_counts_and_its_error_comes_as_it_is() -> None:
    async def fail() -> None:
        raise BusyError("taken")

    await first(trio.sleep_forever, trio.lowlevel.checkpoint)
    with pytest.raises(BusyError, match="taken"):
        await first(trio.sleep_forever, fail)
