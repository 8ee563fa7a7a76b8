"""The exec hooks, with real programs."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from hastfs.daemon import hooks as hooks_module
from hastfs.daemon.hooks import MAX_RUNNING, Hooks


@pytest.fixture
async def hooks(nursery: trio.Nursery) -> AsyncIterator[Hooks]:
    running = Hooks()
    nursery.start_soon(running.run)
    yield running


def program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


async def test_a_hook_gets_event_resource_and_arguments(hooks: Hooks, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    hooks.fire(program(tmp_path / "hook", f'echo "$#:$*" > {seen}'), "role", "disk", "init", "primary")
    await hooks.finished()
    assert seen.read_text() == "4:role disk init primary\n"


async def test_no_program_configured_means_nothing_to_run(hooks: Hooks) -> None:
    hooks.fire(None, "connect", "disk")
    await hooks.finished()


async def test_hooks_of_a_resource_run_in_order_and_one_at_a_time(hooks: Hooks, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    path = program(tmp_path / "hook", f"echo begin $1 >> {seen}; [ $1 = e0 ] && sleep 0.1; echo end $1 >> {seen}")
    for number in range(4):
        hooks.fire(path, f"e{number}", "disk")
    await hooks.finished()
    assert seen.read_text().split("\n")[:-1] == [
        f"{word} e{number}" for number in range(4) for word in ("begin", "end")
    ]


async def test_hooks_that_hang_do_not_hold_up_other_resources(hooks: Hooks, tmp_path: Path) -> None:
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    release = os.open(fifo, os.O_RDWR)
    hangs = program(tmp_path / "hangs", f"read line < {fifo}")
    for number in range(20):
        hooks.fire(hangs, "connect", f"stuck{number}")
    hooks.fire(program(tmp_path / "quick", f"echo $2 > {told}"), "connect", "disk")
    with trio.fail_after(60):
        assert await trio.to_thread.run_sync(told.read_text, abandon_on_cancel=True) == "disk\n"
    os.write(release, b"go\n" * 20)
    await hooks.finished()
    os.close(release)


async def test_a_hook_that_hangs_holds_up_the_next_event_for_a_moment_only(
    hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks_module, "PATIENCE", 0.01)
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    release = os.open(fifo, os.O_RDWR)
    path = program(tmp_path / "hook", f"[ $1 = connect ] && read line < {fifo}; echo $1 > {told}")
    hooks.fire(path, "connect", "disk")
    hooks.fire(path, "disconnect", "disk")
    with trio.fail_after(60):
        assert await trio.to_thread.run_sync(told.read_text, abandon_on_cancel=True) == "disconnect\n"
        os.write(release, b"go\n")
        assert await trio.to_thread.run_sync(told.read_text, abandon_on_cancel=True) == "connect\n"
    await hooks.finished()
    os.close(release)


async def test_even_hooks_that_hang_are_bounded_in_number(
    hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks_module, "PATIENCE", 0.01)
    fifo, begun, ended = tmp_path / "fifo", tmp_path / "begun", tmp_path / "ended"
    os.mkfifo(fifo)
    os.mkfifo(begun)
    release, progress = os.open(fifo, os.O_RDWR), os.open(begun, os.O_RDWR)
    path = program(tmp_path / "hook", f"echo x > {begun}; read line < {fifo}; echo x >> {ended}")
    for _ in range(MAX_RUNNING + 2):
        hooks.fire(path, "connect", "disk")
    with trio.fail_after(60):
        for _ in range(MAX_RUNNING):
            await trio.lowlevel.wait_readable(progress)
            os.read(progress, 2)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.move_on_after(0.05) as more:
            await trio.lowlevel.wait_readable(progress)
        assert more.cancelled_caught
        os.write(release, b"go\n" * (MAX_RUNNING + 2))
        await hooks.finished()
    assert len(ended.read_text().split()) == MAX_RUNNING + 2
    os.close(release)
    os.close(progress)


async def test_whoever_waits_for_all_hooks_is_not_forgotten_when_more_come(hooks: Hooks, tmp_path: Path) -> None:
    path = program(tmp_path / "hook", f"read line < {tmp_path}/$2")
    for resource in ("one", "two"):
        os.mkfifo(tmp_path / resource)
    async with trio.open_nursery() as nursery:
        hooks.fire(path, "connect", "one")
        nursery.start_soon(hooks.finished)
        await trio.testing.wait_all_tasks_blocked(0.01)
        hooks.fire(path, "connect", "two")
        for resource in ("one", "two"):
            await trio.to_thread.run_sync((tmp_path / resource).write_text, "go\n")


async def test_standard_input_of_a_hook_is_empty(hooks: Hooks, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    hooks.fire(program(tmp_path / "hook", f"cat > {seen}; echo ended >> {seen}"), "connect", "disk")
    await hooks.finished()
    assert seen.read_text() == "ended\n"


async def test_a_failing_hook_is_logged_as_an_error(
    hooks: Hooks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = program(tmp_path / "hook", "exit 3")
    hooks.fire(path, "connect", "disk")
    await hooks.finished()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "exitcode=3" in record.getMessage()
    assert f"cmd=[{path} connect disk]" in record.getMessage()


async def test_a_killed_hook_is_logged_with_its_signal(
    hooks: Hooks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hooks.fire(program(tmp_path / "hook", "kill -KILL $$"), "connect", "disk")
    await hooks.finished()
    assert any("signal=9" in record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("not-executable", "Permission denied"),
        ("folder", "Permission denied"),
        ("no-program", "Exec format error"),
        ("no-interpreter", "No such file or directory"),
    ],
)
async def test_what_cannot_be_run_is_logged_and_the_next_event_is_still_told(
    hooks: Hooks, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, reason: str
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "folder").mkdir()
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    for script, content in (("no-program", "rubbish"), ("no-interpreter", "#!/nonexistent/sh\n")):
        (tmp_path / script).write_text(content)
        (tmp_path / script).chmod(0o700)
    hooks.fire(str(tmp_path / name), "connect", "disk")
    hooks.fire(program(tmp_path / "hook", f"echo $1 > {seen}"), "disconnect", "disk")
    await hooks.finished()
    assert seen.read_text() == "disconnect\n"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == f"Hook cannot be run (cmd=[{tmp_path / name} connect disk]): {reason}."


async def test_a_hook_that_runs_for_a_minute_is_reported_every_minute(
    mock_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hooks = Hooks()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hooks.run)
        hooks.fire(program(tmp_path / "hook", f"read line < {fifo}"), "connect", "disk")
        release = await trio.to_thread.run_sync(lambda: os.open(fifo, os.O_WRONLY))
        for minutes in (1, 2):
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(60)
            await trio.testing.wait_all_tasks_blocked(0.01)
            reports = [r.getMessage() for r in caplog.records if "is running for" in r.getMessage()]
            assert len(reports) == minutes
            assert f"{60 * minutes} seconds" in reports[-1]
        os.close(release)
        await hooks.finished()
        nursery.cancel_scope.cancel()


async def test_events_beyond_the_bound_are_dropped_with_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()  # Not running: nothing is taken from the queue.
    for _ in range(hooks_module.MAX_WAITING + 2):
        hooks.fire("/bin/true", "connect", "disk")
    assert sum("Hook dropped" in record.getMessage() for record in caplog.records) == 2
