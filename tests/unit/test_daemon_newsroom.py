"""The newsroom: who listens is told the state, what changes and what happens; slow listeners cost nobody anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hastfs.daemon import newsroom
from hastfs.daemon.newsroom import LOOK_EVERY, MAX_LISTENERS, MAX_WAITING, Listener, Newsroom
from hastfs.details import Details, Sync
from hastfs.errors import BusyError
from hastfs.news import Kind, News
from hastfs.resource.events import Event


class Resource:
    def __init__(self) -> None:
        self.now = Details("primary", "connecting")
        self.looks = 0
        self.takes = 0.0
        """Seconds."""

    async def details(self, cells: int = 0) -> Details:
        self.looks += 1
        now = self.now
        await trio.sleep(self.takes)
        return now


class Room(Newsroom):
    def __init__(self) -> None:
        self.all = {"one": Resource(), "two": Resource()}
        super().__init__(lambda: self.all)

    def progress(self, left: int) -> None:
        one = self.all["one"]
        one.now = replace(one.now, sync=Sync("to-peer", 1000, left, 1.0, 0.0))


@pytest.fixture
async def room(nursery: trio.Nursery, autojump_clock: MockClock) -> AsyncIterator[Room]:
    made = Room()
    nursery.start_soon(made.run)
    yield made


async def taken(room: Room, listener: Listener) -> list[News]:
    """The next news there are."""
    with trio.fail_after(10):
        await listener.wait()
    return list(room.take(listener))


def short(news: list[News]) -> list[tuple[str, str | None]]:
    return [(one.kind.value, one.resource) for one in news]


async def test_the_state_comes_first_and_has_an_end(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        state = await taken(room, listener)
    assert short(state) == [("exists", "one"), ("exists", "two"), ("exists", None)]
    assert state[0].facts["connection"] == "connecting"


async def test_only_what_changed_is_told_and_only_once(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        room.all["one"].now = Details("primary", "connected")
        room.happened("one")
        (change,) = await taken(room, listener)
        assert (change.kind, change.resource, change.facts) == (Kind.CHANGE, "one", {"connection": "connected"})
        with trio.move_on_after(10 * LOOK_EVERY):
            await listener.wait()
        assert room.take(listener) == []


async def test_a_change_that_a_resource_tells_of_is_not_waited_for(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        begun = trio.current_time()
        room.all["two"].now = Details("secondary")
        room.happened("two")
        await taken(room, listener)
        assert trio.current_time() == begun


async def test_what_nobody_tells_of_is_seen_within_a_second(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        room.all["one"].now = Details("primary", "connecting", behind=4096)
        begun = trio.current_time()
        (change,) = await taken(room, listener)
        assert change.facts == {"behind": 4096}
        assert trio.current_time() - begun <= LOOK_EVERY


async def test_what_happens_is_told_before_what_it_changes(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        room.all["one"].now = Details("primary", "split-brain")
        room.happened("one", Event.SPLIT_BRAIN)
        (call,) = await taken(room, listener)
        assert (call.kind, call.facts) == (Kind.CALL, {"happening": "split-brain"})
        (change,) = await taken(room, listener)
        assert change.facts == {"connection": "split-brain"}


async def test_who_asks_for_one_resource_hears_of_no_other(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(["two"]) as listener:
        assert short(await taken(room, listener)) == [("exists", "two"), ("exists", None)]
        room.all["one"].now = Details()
        room.happened("one", Event.CONNECT)
        await trio.sleep(3 * LOOK_EVERY)
        assert room.take(listener) == []
        assert room.all["one"].looks == 0


async def test_progress_is_told_once_a_second_at_most(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        room.progress(1000)
        await taken(room, listener)
        told: list[News] = []
        for left in range(999, 899, -1):  # ten seconds
            room.progress(left)
            room.happened("one")
            await trio.sleep(0.1)
            told += room.take(listener)
        assert 8 <= len(told) <= 11
        room.all["one"].now = replace(room.all["one"].now, sync=None)
        room.happened("one")
        (last,) = await taken(room, listener)
        assert last.facts["sync"] is None


async def test_nobody_is_looked_at_while_nobody_listens(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
    before = room.all["one"].looks
    room.happened("one", Event.CONNECT)
    room.configured()
    await trio.sleep(10 * LOOK_EVERY)
    assert room.all["one"].looks == before


async def test_looks_are_a_second_apart_however_many_listen(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()), room.listening(()):
        before = room.all["one"].looks
        await trio.sleep(10 * LOOK_EVERY)
        assert room.all["one"].looks - before <= 11


async def test_a_listener_that_takes_nothing_is_told_that_it_missed_something(
    room: Room, autojump_clock: MockClock
) -> None:
    async with room.listening(()) as slow, room.listening(()) as quick:
        await taken(room, slow)
        await taken(room, quick)
        told = 0
        for _ in range(3 * MAX_WAITING):
            room.happened("one", Event.CONNECT)
            told += len(room.take(quick))
        assert told == 3 * MAX_WAITING
        room.all["one"].now = Details("primary", "connected")
        room.happened("one")
        await trio.sleep(0.1)
        again = await taken(room, slow)
        assert short(again) == [("missed", None), ("exists", "one"), ("exists", "two"), ("exists", None)]
        assert again[1].facts["connection"] == "connected"
        room.happened("one", Event.SYNCDONE)
        assert short(await taken(room, slow)) == [("call", "one")]


async def test_the_state_is_never_older_than_the_question(room: Room, autojump_clock: MockClock) -> None:
    one = room.all["one"]
    async with room.listening(()) as first:
        await taken(room, first)
        one.takes = 0.5
        room.happened("one")  # a look that takes its time, and saw what is not so any more
        await trio.sleep(0.1)
        one.takes, one.now = 0.0, Details("secondary")
        async with room.listening(()) as second:
            assert (await taken(room, second))[0].facts["role"] == "secondary"
            await trio.sleep(LOOK_EVERY / 2)
            assert room.take(second) == []


async def test_a_resource_that_hangs_does_not_hold_up_news_of_others(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        room.all["one"].takes = 2.0
        room.happened("one")
        room.all["two"].now = Details()
        room.happened("two")
        begun = trio.current_time()
        assert short(await taken(room, listener)) == [("change", "two")]
        assert trio.current_time() == begun


async def test_resources_come_and_go_with_the_configuration(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
        del room.all["two"]
        room.all["three"] = Resource()
        room.configured()
        await trio.testing.wait_all_tasks_blocked()
        assert short(await taken(room, listener)) == [("destroy", "two"), ("create", "three")]


async def test_the_end_is_the_last_that_is_told_and_is_not_waited_for_long(
    room: Room, autojump_clock: MockClock
) -> None:
    begun = trio.current_time()
    async with room.listening(()) as listener:
        await taken(room, listener)
        await room.end("stop")
        (end,) = await taken(room, listener)
        assert (end.kind, end.facts) == (Kind.END, {"reason": "stop"})
    assert trio.current_time() - begun == newsroom.ENDS_WITHIN


async def test_there_is_a_bound_on_listeners(room: Room, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_LISTENERS):
            await nursery.start(_listen, room)
        with pytest.raises(BusyError):
            async with room.listening(()):
                pass
        nursery.cancel_scope.cancel()
    async with room.listening(()) as listener:
        await taken(room, listener)


async def _listen(room: Room, *, task_status: trio.TaskStatus[None]) -> None:
    async with room.listening(()):
        task_status.started()
        await trio.sleep_forever()


async def test_a_resource_that_hangs_is_not_asked_again_and_again(room: Room, autojump_clock: MockClock) -> None:
    one = room.all["one"]
    async with room.listening(()) as listener:
        await taken(room, listener)
        one.takes = 2.0
        before = one.looks
        for _ in range(40):  # ten seconds
            room.happened("one")
            await trio.sleep(0.25)
        assert one.looks - before <= 6


async def test_nobody_hears_of_the_end_of_what_he_was_never_told_of(room: Room, autojump_clock: MockClock) -> None:
    async with room.listening(()) as listener:
        await taken(room, listener)
    del room.all["two"]
    room.configured()
    await trio.sleep(LOOK_EVERY)
    async with room.listening(()) as listener:
        assert short(await taken(room, listener)) == [("exists", "one"), ("exists", None)]
        await trio.sleep(3 * LOOK_EVERY)
        assert room.take(listener) == []
