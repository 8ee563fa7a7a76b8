"""Asking the fence program: what its exit codes mean, when it is called again, and for how long."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hastfs.address import parse
from hastfs.config.schema import FENCE_WITHIN, ResourceConfig
from hastfs.daemon.fencing import FIRST_PAUSE, LONGEST_PAUSE, Fencer, judge
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.logs import ResourceLog
from hastfs.model import Role
from tests.daemon_fakes import CONFIG, FakeHooks


class Program(FakeHooks):
    """A fence program that takes `takes` seconds and ends as `codes` say, the last one for ever."""

    def __init__(self, *codes: int | None) -> None:
        super().__init__()
        self.codes = list(codes)
        self.takes = 0.0
        self.calls: list[tuple[float, tuple[str, ...]]] = []

    async def ask(
        self, path: str, words: Sequence[str], environment: Mapping[str, str], *, within: float
    ) -> int | None:
        assert path == "/fence"
        assert environment["HAST_RESOURCE"] == environment["DRBD_RESOURCE"] == words[1]
        assert environment["HAST_PEER"] == environment["DRBD_PEER"] == words[2]
        assert environment["HAST_REASON"] == words[3]
        self.calls.append((trio.current_time(), tuple(words)))
        with trio.move_on_after(within):
            await trio.sleep(self.takes)
            return self.codes[0] if len(self.codes) == 1 else self.codes.pop(0)
        return None


class Stage:
    def __init__(self, program: Program) -> None:
        self.config: ResourceConfig = replace(CONFIG, fence="/fence", remote=parse("192.0.2.2"))
        self.program = program
        self.told: list[bool] = []
        log = ResourceLog(logging.getLogger("test"), "disk", lambda: Role.PRIMARY)
        self.fencer = Fencer(lambda: self.config, program, log)
        self.fencer.starting = False
        self.fencer.tell = lambda go_on, reason: self.told.append(go_on)


@asynccontextmanager
async def fencer(*codes: int | None) -> AsyncIterator[Stage]:
    stage = Stage(Program(*codes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.fencer.run)
        yield stage
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("code", "lost", "start"), [(3, True, True), (4, True, True), (5, True, False), (7, True, True)]
)
def test_what_lets_a_primary_go_on(code: int, lost: bool, start: bool) -> None:
    assert judge(code, starting=False).go_on is lost
    assert judge(code, starting=True).go_on is start


@pytest.mark.parametrize("code", [None, *(code for code in range(256) if code not in (3, 4, 5, 7))])
@pytest.mark.parametrize("starting", [True, False])
def test_everything_else_does_not(code: int | None, starting: bool) -> None:
    verdict = judge(code, starting=starting)
    assert not verdict.go_on
    assert verdict.final is (code == 6)


async def test_it_is_called_when_the_worker_asks_and_the_worker_hears_of_it(autojump_clock: MockClock) -> None:
    async with fencer(4) as stage:
        await trio.sleep(100)
        assert stage.program.calls == []
        stage.fencer.want(True)
        await trio.sleep(1000)
        assert [words for _, words in stage.program.calls] == [("fence", "disk", "192.0.2.2", "lost")]
        assert stage.told == [True]
        assert stage.fencer.granted
        assert stage.fencer.problem == ""


async def test_one_that_fails_is_called_again_at_longer_and_longer_intervals(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with fencer(1) as stage:
        stage.fencer.want(True)
        await trio.sleep(600)
        times = [time for time, _ in stage.program.calls]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert pauses[0] == pytest.approx(FIRST_PAUSE)
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(LONGEST_PAUSE)
        assert True not in stage.told
        assert not stage.fencer.granted
        assert "exit code 1" in stage.fencer.problem
        assert "hastctl role -f primary disk" in caplog.text
        stage.program.codes = [7]
        await trio.sleep(LONGEST_PAUSE + 1)
        assert stage.told[-1]
        assert stage.fencer.problem == ""


async def test_one_that_hangs_has_failed(autojump_clock: MockClock) -> None:
    async with fencer(4) as stage:
        stage.program.takes = 10 * FENCE_WITHIN
        stage.fencer.want(True)
        await trio.sleep(FENCE_WITHIN + 0.5)
        assert stage.told == [False]
        assert "did not do its work" in stage.fencer.problem


async def test_a_node_that_is_primary_is_the_end_of_asking_until_there_is_a_link(autojump_clock: MockClock) -> None:
    async with fencer(6, 5) as stage:
        stage.fencer.want(True)
        await trio.sleep(10000)
        assert len(stage.program.calls) == 1
        stage.fencer.want(True)  # another worker
        await trio.sleep(10000)
        assert len(stage.program.calls) == 1
        assert stage.told == [False]
        assert "is primary" in stage.fencer.problem
        assert stage.fencer.remedy == "hastctl role -f secondary disk"
        stage.fencer.want(False)
        assert stage.fencer.problem == ""
        stage.fencer.want(True)
        await trio.sleep(1)
        assert stage.told == [False, True]


async def test_an_answer_is_not_taken_for_that_to_a_later_question(autojump_clock: MockClock) -> None:
    async with fencer(5, 6) as stage:
        stage.program.takes = 10
        stage.fencer.want(True)
        await trio.sleep(1)
        stage.fencer.want(False)
        stage.fencer.linked()
        stage.fencer.want(True)
        await trio.sleep(15)
        assert stage.told == []
        assert not stage.fencer.granted
        await trio.sleep(10)
        assert stage.told == [False]


async def test_an_administrator_decides_whatever_the_program_does(autojump_clock: MockClock) -> None:
    async with fencer(4) as stage:
        stage.program.takes = 30
        stage.fencer.want(True)
        await trio.sleep(1)
        stage.fencer.allow()
        assert stage.told == [True]
        await trio.sleep(1000)
        assert stage.told[1:] == []
        assert stage.fencer.granted


async def test_what_was_granted_ends_with_the_next_link(autojump_clock: MockClock) -> None:
    async with fencer(4) as stage:
        stage.fencer.want(True)
        await trio.sleep(1)
        assert stage.fencer.granted
        stage.fencer.linked()
        assert not stage.fencer.granted


async def test_nobody_is_fenced_once_there_is_a_link_whoever_had_asked(autojump_clock: MockClock) -> None:
    """A worker that had asked and died cannot say any more that it is over, nor does its successor know of it."""
    async with fencer(1, 7) as stage:
        stage.fencer.want(True)
        await trio.sleep(0.5)
        stage.fencer.linked()
        await trio.sleep(1000)
        assert len(stage.program.calls) == 1
        assert not stage.fencer.granted
        assert stage.fencer.trouble == ("", "")


async def test_a_worker_that_asks_for_what_is_granted_already_hears_so_at_once(autojump_clock: MockClock) -> None:
    async with fencer(7, 1) as stage:
        stage.fencer.want(True)
        await trio.sleep(1)
        stage.fencer.want(True)  # its successor, started before the answer
        await trio.sleep(1000)
        assert len(stage.program.calls) == 1
        assert stage.told == [True, True]
        assert stage.fencer.granted


async def test_at_the_start_it_is_asked_once_and_says_why_not(autojump_clock: MockClock) -> None:
    async with fencer(5) as stage:
        reasons: list[str] = []
        stage.fencer.starting = True
        stage.fencer.tell = lambda go_on, reason: reasons.append(reason)
        stage.fencer.want(True)
        await trio.sleep(1000)
        assert [words[3] for _, words in stage.program.calls] == ["start"]
        assert len(reasons) == 1
        assert "may have been primary last" in reasons[0]


# -- with real programs ----------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    def make(body: str) -> str:
        path = tmp_path / "fence"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return make


async def test_a_program_gets_words_and_environment_and_is_waited_for(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    hooks = Hooks()
    path = program(f'echo "$@ $HAST_PEER" > {tmp_path}/said; exit 7')
    assert await hooks.ask(path, ("fence", "disk", "peer", "lost"), {"HAST_PEER": "peer"}, within=60) == 7
    assert (tmp_path / "said").read_text() == "fence disk peer lost peer\n"
    assert hooks.busy == []


async def test_a_program_that_takes_too_long_is_killed_with_its_children(
    program: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    path = program(f"exec > {alive}; sleep 1000 & wait")
    assert await Hooks().ask(path, ("fence", "disk"), {}, within=0.2) is None
    assert "killed" in caplog.text
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(reader)
    assert os.read(reader, 1) == b"", "nobody has the other end any more"
    os.close(reader)


@pytest.mark.parametrize("body", ["kill -9 $$", None])
async def test_a_program_that_is_killed_or_missing_says_nothing(
    program: Callable[[str], str], body: str | None
) -> None:
    path = "/nowhere/fence" if body is None else program(body)
    assert await Hooks().ask(path, ("fence", "disk"), {}, within=60) is None


async def test_while_a_program_is_asked_hooks_are_not_finished(program: Callable[[str], str]) -> None:
    hooks = Hooks()
    path = program("sleep 1000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: hooks.ask(path, ("fence", "disk"), {}, within=60))
        await trio.testing.wait_all_tasks_blocked()
        assert hooks.busy == ["disk"]
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        await hooks.finished()
