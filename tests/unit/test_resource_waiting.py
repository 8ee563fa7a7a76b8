"""Tasks among callbacks, threads and channels: answers, wake-ups, errors out of groups, the pool, the outbox."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hastfs.errors import BusyError
from hastfs.resource.iopool import IOPool
from hastfs.resource.outbox import Outbox
from hastfs.resource.waiting import Wakeup, answer, data_of, finished, plain_errors
from hastfs.volume import Buffer
from tests.simulation.network import SimulatedChannel, connection


async def test_an_answer_may_come_before_the_asking_call_returns() -> None:
    assert await finished(lambda done: done(5)) == 5


async def test_data_is_copied_before_the_callback_ends() -> None:
    def start(done: Callable[[int, Buffer], None]) -> None:
        data = bytearray(b"abc")
        done(0, data)
        data[:] = b"xyz"

    assert await data_of(start) == (0, b"abc")


async def test_waiting_for_what_cannot_be_taken_back_ignores_cancellation(autojump_clock: MockClock) -> None:
    asked: list[Callable[[int], None]] = []
    async with trio.open_nursery() as nursery:
        found: list[int] = []

        async def ask() -> None:
            with trio.move_on_after(1):
                found.append(await finished(asked.append))

        nursery.start_soon(ask)
        await trio.sleep(5)
        assert found == []
        asked[0](7)
    assert found == [7]


async def test_waiting_for_what_can_be_taken_back_is_cancellable(autojump_clock: MockClock) -> None:
    withdrawn: list[bool] = []
    with trio.move_on_after(1) as scope:
        await answer(lambda _: None, withdraw=lambda: withdrawn.append(True))
    assert scope.cancelled_caught
    assert withdrawn == [True]


async def test_a_wakeup_before_the_sleep_is_not_lost_and_counts_once(autojump_clock: MockClock) -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    await wakeup.wait()
    with trio.move_on_after(1) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught
    wakeup.set()
    await wakeup.wait()


async def test_the_first_error_for_users_comes_out_of_nested_groups() -> None:
    def group() -> BaseException:
        return ExceptionGroup("", [OSError(5, "disk"), ExceptionGroup("", [BusyError("busy"), ValueError()])])

    with pytest.raises(BusyError, match="busy"), plain_errors():
        raise group()
    with pytest.raises(OSError, match="disk"), plain_errors():
        raise ExceptionGroup("", [OSError(5, "disk")])
    with pytest.raises(ExceptionGroup), plain_errors():
        raise ExceptionGroup("", [ValueError()])


async def test_the_pool_answers_on_the_trio_thread_with_the_result_or_the_error() -> None:
    pool = IOPool(2, "test")
    found: list[object] = []

    def fail() -> int:
        raise OSError(errno.ENOSPC, "full")

    async def result(job: Callable[[], object]) -> object:
        return await answer(lambda answered: pool.submit(job, answered))

    assert await result(lambda: 1 + 1) == 2
    error = await result(fail)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert await result(lambda: found.append(threading.current_thread().name)) is None
    assert found[0] != threading.current_thread().name
    pool.close()


async def test_closing_the_pool_waits_for_its_jobs() -> None:
    pool = IOPool(2, "test")
    done: list[int] = []
    for number in range(100):
        pool.submit(lambda number=number: done.append(number), lambda _: None)  # type: ignore[misc]
    pool.close()
    assert sorted(done) == list(range(100))


class NarrowChannel(SimulatedChannel):
    """Takes `room` bytes, and no more until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 0
        self._more = trio.Event()

    def send(self, pieces: Sequence[Buffer]) -> int:
        if not self.room:
            raise BlockingIOError
        data = b"".join(bytes(piece) for piece in pieces)[: self.room]
        self.room -= len(data)
        return super().send([data])

    def widen(self, room: int) -> None:
        self.room += room
        self._more.set()
        self._more = trio.Event()

    async def writable(self) -> None:
        await self._more.wait()


def narrow() -> tuple[NarrowChannel, SimulatedChannel]:
    ours, theirs = NarrowChannel(), SimulatedChannel()
    ours.peer, theirs.peer = theirs, ours
    return ours, theirs


async def test_the_outbox_sends_in_order_whatever_the_socket_takes_at_a_time() -> None:
    ours, _ = narrow()
    outbox = Outbox(ours)
    frames = [bytes([number]) * (number % 7 + 1) for number in range(100)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        for frame in frames:
            outbox.put([frame[:1], frame[1:]])
            outbox.kick()
        while outbox.backlog:
            ours.widen(3)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bytes(ours.sent) == b"".join(frames)


async def test_who_waits_for_the_outbox_to_drain_is_woken() -> None:
    ours, _ = narrow()
    outbox = Outbox(ours)
    drained = trio.Event()

    async def wait() -> None:
        await outbox.below(10)
        drained.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        outbox.put([b"x" * 25])
        outbox.kick()
        nursery.start_soon(wait)
        ours.widen(14)
        await wait_all_tasks_blocked()
        assert not drained.is_set()
        ours.widen(1)
        await wait_all_tasks_blocked()
        assert drained.is_set()
        nursery.cancel_scope.cancel()


async def test_a_broken_connection_is_the_outboxs_error_and_not_the_kickers() -> None:
    ours, theirs = connection()
    outbox = Outbox(ours)
    theirs.close()
    outbox.put([b"x"])
    outbox.kick()
    with pytest.raises(BrokenPipeError):
        await outbox.run()
