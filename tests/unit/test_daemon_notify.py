"""What systemd is told, over a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hastfs.daemon.notify import LOOK_INTERVAL, Notifier, take


class Systemd:
    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """The lines of each message since the last look."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "file" else f"@hastfs-test-{os.getpid()}")
    yield made
    made.close()


def test_it_hears_of_start_reload_and_end(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    notifier.ready()
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    ready = ["READY=1", f"MAINPID={os.getpid()}"]
    heard = systemd.heard()
    assert [heard[0], heard[2], heard[3]] == [ready, ready, ["STOPPING=1"]]
    assert heard[1][0] == "RELOADING=1"
    assert heard[1][1].removeprefix("MONOTONIC_USEC=").isdecimal()


async def test_it_hears_in_time_that_the_loop_turns(systemd: Systemd, autojump_clock: MockClock) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Notifier(environment).run, lambda: "all is well")
        await trio.sleep(1)
        assert systemd.heard() == [["WATCHDOG=1", "STATUS=all is well"]], "the status only once"
        for _ in range(10):
            await trio.sleep(3)
            assert systemd.heard() == [["WATCHDOG=1"], ["WATCHDOG=1"]], "twice in each interval"
        nursery.cancel_scope.cancel()


async def test_it_hears_of_a_status_that_changes(systemd: Systemd, autojump_clock: MockClock) -> None:
    status = "one"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Notifier({"NOTIFY_SOCKET": systemd.address}).run, lambda: status)
        await trio.sleep(2.5 * LOOK_INTERVAL)
        assert systemd.heard() == [["STATUS=one"]]
        status = "two"
        await trio.sleep(1.5 * LOOK_INTERVAL)
        assert systemd.heard() == [["STATUS=two"]]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("changes", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}])
async def test_a_watchdog_of_another_process_or_none_is_not_fed(
    systemd: Systemd, autojump_clock: MockClock, changes: dict[str, str]
) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "3000000"} | changes
    with trio.move_on_after(30):
        await Notifier(environment).run(lambda: "well")
    assert systemd.heard() == [["STATUS=well"]]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
async def test_without_systemd_nothing_happens(environment: dict[str, str], autojump_clock: MockClock) -> None:
    notifier = Notifier(environment)
    notifier.ready()
    with trio.move_on_after(30):
        await notifier.run(lambda: "well")
    notifier.stopping()


async def test_one_that_does_not_read_in_time_hears_later_what_counts(
    systemd: Systemd, autojump_clock: MockClock
) -> None:
    """systemd would wait for a READY that is lost, and kill hastd in the end."""
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            notifier.reloading()
        notifier.ready()
        systemd.heard()
        nursery.start_soon(notifier.run, lambda: "well")
        await trio.sleep(1)
        assert [words[0] for words in systemd.heard()] == ["READY=1", "STATUS=well"]
        await trio.sleep(3 * LOOK_INTERVAL)
        assert systemd.heard() == [], "once is enough"
        for _ in range(2000):
            notifier.ready()
        status = "ill"
        nursery.start_soon(notifier.run, lambda: status)
        await trio.sleep(1)
        systemd.heard()
        await trio.sleep(LOOK_INTERVAL)
        assert ["STATUS=ill"] in systemd.heard()
        nursery.cancel_scope.cancel()


def test_what_is_for_hastd_only_is_taken_out_of_the_environment() -> None:
    theirs = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "2"}
    environment = {"PATH": "/bin", **theirs}
    assert take(environment) == theirs
    assert environment == {"PATH": "/bin"}
    assert take(environment) == {}


async def test_one_that_does_not_read_holds_nothing_up(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    for _ in range(2000):
        notifier.ready()
