"""The monitor at work, with a terminal and a hastd of a few lines."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import trio
import trio.testing
from rich.text import Text

from hastfs.cli.monitor.app import Monitor
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.monitor.source import Source
from hastfs.cli.table import Look
from hastfs.details import Details
from hastfs.errors import HastError, SystemFailure
from hastfs.protocol.control import ResourceStatus


class Canvas:
    """A terminal of 80x24 that remembers its screen."""

    ascii_only = True
    size = (80, 24)

    def __init__(self) -> None:
        self.type, self._typed = trio.open_memory_channel[bytes](10)
        self.screen = ""
        self.drawn = 0

    def taken(self) -> AbstractContextManager[None]:
        return nullcontext()

    def draw(self, lines: Sequence[Text]) -> None:
        self.screen = "\n".join(line.plain for line in lines)
        self.drawn += 1

    async def typed(self) -> bytes:
        return await self._typed.receive()


class Hastd(Source):
    """Has two resources, and dies when it is told to."""

    def __init__(self) -> None:
        self.failure: HastError | None = None
        self.maps: list[str] = []
        self.tell, self._news = trio.open_memory_channel[Happening | None](10)
        self.listeners = 0

    def _try(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def looks(self) -> list[Look]:
        self._try()
        return [Look(ResourceStatus(name), Details(role="primary")) for name in ("one", "two")]

    async def dirty_map(self, name: str, cells: int) -> tuple[int, ...]:
        self._try()
        self.maps.append(name)
        return (0,) * cells

    async def listen(self) -> AsyncGenerator[Happening, None]:
        self._try()
        self.listeners += 1
        async for news in self._news:
            if news is None:
                return
            yield news


class Stage:
    """A monitor that runs in the background."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.canvas, self.hastd = Canvas(), Hastd()
        self.exit_code: int | None = None
        self._monitor = Monitor(self.canvas, Scene("alpha"), self.hastd)
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        self.exit_code = await self._monitor.run()

    async def until(self, probe: Callable[[], bool]) -> None:
        """Time runs only while nobody has anything to do."""
        with trio.fail_after(60):
            while not probe():  # noqa: ASYNC110 - on a clock that jumps
                await trio.sleep(0.1)

    async def press(self, keys: bytes) -> None:
        await self.canvas.type.send(keys)
        await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.fixture
async def stage(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Stage:
    made = Stage(nursery)
    await made.until(lambda: "> one" in made.canvas.screen)
    return made


async def test_a_key_ends_it_with_success(stage: Stage) -> None:
    await stage.press(b"q")
    assert stage.exit_code == 0


async def test_a_terminal_that_hangs_up_ends_it(stage: Stage) -> None:
    await stage.press(b"")
    assert stage.exit_code == 128 + signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_end_it(stage: Stage, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    await stage.until(lambda: stage.exit_code is not None)
    assert stage.exit_code == 128 + number


async def test_it_draws_anew_when_the_terminal_has_another_size(stage: Stage) -> None:
    drawn = stage.canvas.drawn
    stage.canvas.size = (60, 20)
    os.kill(os.getpid(), signal.SIGWINCH)
    await stage.until(lambda: stage.canvas.drawn > drawn)
    assert stage.canvas.screen.count("\n") == 19


async def test_another_choice_is_mapped_at_once(stage: Stage) -> None:
    at = trio.current_time()
    await stage.press(b"\t")
    await stage.until(lambda: "> two" in stage.canvas.screen and stage.hastd.maps[-1] == "two")
    assert trio.current_time() - at < 0.5


async def test_many_events_are_few_drawings(stage: Stage) -> None:
    drawn = stage.canvas.drawn
    for number in range(100):
        await stage.hastd.tell.send(Happening(0.0, "one", f"event {number}"))
    await stage.until(lambda: "event 99" in stage.canvas.screen)
    assert stage.canvas.drawn - drawn < 10


async def test_it_waits_for_a_hastd_that_ended(stage: Stage) -> None:
    stage.hastd.failure = SystemFailure("Nobody listens.")
    await stage.until(lambda: "hastd does not answer: Nobody listens." in stage.canvas.screen)
    assert "> one" in stage.canvas.screen
    assert stage.exit_code is None
    stage.hastd.failure = None
    await stage.until(lambda: "does not answer" not in stage.canvas.screen)


async def test_events_are_heard_again_after_hastd_was_away(stage: Stage) -> None:
    await stage.hastd.tell.send(Happening(0.0, "one", "connect"))
    await stage.until(lambda: "connect" in stage.canvas.screen)
    stage.hastd.failure = SystemFailure("Nobody listens.")
    await stage.hastd.tell.send(None)
    await stage.until(lambda: "does not answer" in stage.canvas.screen)
    stage.hastd.failure = None
    await stage.until(lambda: stage.hastd.listeners == 2)
    await stage.hastd.tell.send(Happening(0.0, "one", "syncdone"))
    await stage.until(lambda: "syncdone" in stage.canvas.screen)


async def test_without_a_hastd_it_does_not_even_begin(autojump_clock: trio.testing.MockClock) -> None:
    canvas, hastd = Canvas(), Hastd()
    hastd.failure = SystemFailure("Nobody listens.")
    with pytest.raises(SystemFailure):
        await Monitor(canvas, Scene("alpha"), hastd).run()
    assert canvas.drawn == 0
