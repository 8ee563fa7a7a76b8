"""Worker processes, for real: started, waited for, killed, and what they have open."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hastfs.daemon.jobs import PassedFd
from hastfs.daemon.process import ProcessStarter


@pytest.fixture(scope="module")
def starter() -> Iterator[ProcessStarter]:
    with contextlib.closing(ProcessStarter("hastfs.daemon.workerlink")) as made:
        yield made


def open_files(pid: int) -> set[str]:
    directory, found = f"/proc/{pid}/fd", set()
    for number in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):  # that of listing the directory
            found.add(os.readlink(f"{directory}/{number}"))
    return found


def write_here(passed: PassedFd) -> None:
    """In the other process."""
    os.write(passed.fd, b"here")


async def test_the_exit_code_of_a_process_is_told(starter: ProcessStarter) -> None:
    process = await starter.start(sys.exit, 75)
    assert await process.wait() == 75
    process.close()


async def test_the_signal_that_killed_a_process_is_told(starter: ProcessStarter) -> None:
    process = await starter.start(time.sleep, 100)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    process.kill()  # to no effect
    process.close()


async def test_waiting_for_one_process_holds_up_nothing(starter: ProcessStarter) -> None:
    slow = await starter.start(time.sleep, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow.wait)
        quick = await starter.start(sys.exit, 0)
        assert await quick.wait() == 0
        slow.kill()
    slow.close()
    quick.close()


async def test_a_worker_has_nothing_open_that_it_was_not_given(starter: ProcessStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await starter.start(time.sleep, 100)
        ours = os.readlink(f"/proc/self/fd/{listener.fileno()}")
        assert ours in open_files(os.getpid())
        assert ours not in open_files(process.pid)
        assert ours not in open_files(starter.helpers[0])
        process.kill()
        await process.wait()
        process.close()


async def test_a_descriptor_that_is_handed_over_is_the_same_open_file(starter: ProcessStarter) -> None:
    reader, writer = os.pipe()
    process = await starter.start(write_here, PassedFd(writer))
    os.close(writer)
    assert await trio.to_thread.run_sync(os.read, reader, 10) == b"here"
    assert await process.wait() == 0
    process.close()
    os.close(reader)


async def test_the_forker_does_not_mind_signals_meant_for_hastd(starter: ProcessStarter) -> None:
    server = starter.helpers[0]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(server, number)
    process = await starter.start(sys.exit, 3)
    assert await process.wait() == 3
    assert starter.helpers[0] == server
    process.close()


async def test_an_error_of_a_process_is_an_exit_code(starter: ProcessStarter) -> None:
    process = await starter.start(os.close, -1)
    assert await process.wait() == 1
    assert await process.wait() == 1  # as often as one likes
    process.close()


async def test_sockets_are_handed_over_as_sockets(starter: ProcessStarter) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = await starter.start(say_type, theirs)
        assert await trio.to_thread.run_sync(ours.recv, 10) == b"5"
    assert await process.wait() == 0
    process.close()


def say_type(there: socket.socket) -> None:
    """In the other process."""
    there.send(str(int(there.type)).encode())


async def test_a_forker_that_was_killed_is_replaced(starter: ProcessStarter) -> None:
    running = await starter.start(time.sleep, 100)
    before = starter.helpers[0]
    os.kill(before, signal.SIGKILL)
    await trio.to_thread.run_sync(os.waitid, os.P_PID, before, os.WEXITED | os.WNOWAIT)
    process = await starter.start(sys.exit, 4)
    assert await process.wait() == 4
    assert starter.helpers[0] != before
    process.close()
    running.kill()
    assert await running.wait() == -signal.SIGKILL
    running.close()


async def test_a_process_that_is_stopped_ends_with_its_starter() -> None:
    with contextlib.closing(ProcessStarter("hastfs.daemon.workerlink")) as starter:
        process = await starter.start(time.sleep, 100)
        os.kill(process.pid, signal.SIGSTOP)
    with trio.fail_after(10):
        await process.wait()
    process.close()


async def test_no_process_loads_our_main_program(starter: ProcessStarter) -> None:
    """It would do so from disk, anew each time, and may not be what we are any more."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await starter.start(say_main, theirs)
        assert await trio.to_thread.run_sync(ours.recv, 100) == b"None"
    await process.wait()
    process.close()


def say_main(there: socket.socket) -> None:
    """In the other process."""
    there.send(str(getattr(sys.modules["__main__"], "__file__", None)).encode())


async def test_the_starter_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with contextlib.closing(ProcessStarter("hastfs.daemon.workerlink")) as starter:
        process = await starter.start(sys.exit, 0)
        assert await process.wait() == 0
        process.close()
        assert os.listdir(tmp_path) == []
        server = starter.helpers[0]
    assert str(server) not in os.listdir("/proc")


async def test_one_that_is_warm_starts_processes_at_once() -> None:
    with contextlib.closing(ProcessStarter("hastfs.daemon.workerlink")) as starter:
        await starter.warm_up()
        assert len(starter.helpers) == len(starter.kept) == 1


async def test_processes_go_on_without_us_as_long_as_what_is_kept_is_open() -> None:
    starter = ProcessStarter("hastfs.daemon.workerlink")
    process = await starter.start(time.sleep, 100)
    kept = [os.dup(fd) for fd in starter.kept]
    with trio.move_on_after(0.2) as scope:
        await trio.to_thread.run_sync(starter.close, abandon_on_cancel=True)
    assert scope.cancelled_caught, "the forker has ended"
    assert str(process.pid) in os.listdir("/proc")
    for fd in kept:
        os.close(fd)
    with trio.fail_after(10):
        await process.wait()
    process.close()
