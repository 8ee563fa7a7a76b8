"""Worker processes, for real: started, waited for, killed, and what they have open."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver

import pytest
import trio

from hastfs.daemon.jobs import PassedFd
from hastfs.daemon.process import ProcessStarter


@pytest.fixture(scope="module")
def starter() -> Iterator[ProcessStarter]:
    yield ProcessStarter("hastfs.daemon.workerlink")


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
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        assert ours not in open_files(server)
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


async def test_the_forkserver_does_not_mind_signals_meant_for_hastd(starter: ProcessStarter) -> None:
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(server, number)
    process = await starter.start(sys.exit, 3)
    assert await process.wait() == 3
    assert forkserver._forkserver._forkserver_pid == server  # type: ignore[attr-defined]
    process.close()


def test_looking_for_the_package_is_no_business_of_our_other_children(starter: ProcessStarter) -> None:
    assert "PYTHONPATH" not in os.environ or "hastfs" not in os.environ["PYTHONPATH"]
