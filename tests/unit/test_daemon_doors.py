"""The doors of a daemon whose configuration changes: what is opened, kept, closed, and given back after a failure."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hastfs.address import parse
from hastfs.config.schema import Config
from hastfs.daemon.doors import Doors
from hastfs.errors import SystemFailure


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in found]


PORT, OTHER = free_ports(2)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        path="/etc/hast.conf",
        control=str(tmp_path / "control"),
        pidfile=str(tmp_path / "pid"),
        listen=(parse(f"tcp4://127.0.0.1:{PORT}"),),
        mountdir="/nowhere",
        resources={},
    )


@pytest.fixture
def doors(config: Config) -> Iterator[Doors]:
    with contextlib.closing(Doors(config)) as made:
        made.settle()
        yield made


def bound(doors: Doors) -> set[tuple[str, int]]:
    return {sock.getsockname()[:2] for sock in doors.listeners}


def move(doors: Doors, config: Config) -> None:
    """As a reload does it; sockets that nobody has any more are closed by those who served them."""
    before = {*doors.listeners, doors.control}
    doors.take(doors.open_for(config))
    for sock in before - {*doors.listeners, doors.control}:
        sock.close()


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def test_the_same_configuration_keeps_every_door(doors: Doors, config: Config) -> None:
    sockets, inodes = (
        [*doors.listeners, doors.control],
        [os.stat(path).st_ino for path in (config.control, config.pidfile)],
    )
    move(doors, config)
    assert [*doors.listeners, doors.control] == sockets
    assert [os.stat(path).st_ino for path in (config.control, config.pidfile)] == inodes


def test_new_addresses_are_opened_and_vanished_ones_closed_and_the_others_kept(doors: Doors, config: Config) -> None:
    (kept,) = doors.listeners
    both = replace(config, listen=(*config.listen, parse(f"127.0.0.1:{OTHER}")))
    move(doors, both)
    assert bound(doors) == {("127.0.0.1", PORT), ("127.0.0.1", OTHER)}
    assert kept in doors.listeners
    move(doors, replace(both, listen=both.listen[1:]))
    assert bound(doors) == {("127.0.0.1", OTHER)}
    assert (is_open(PORT), is_open(OTHER)) == (False, True)


def test_an_address_that_is_only_spelled_differently_is_kept(doors: Doors, config: Config) -> None:
    (kept,) = doors.listeners
    move(doors, replace(config, listen=(parse(f"tcp://localhost:{PORT}"),)))
    assert kept in doors.listeners


@pytest.mark.parametrize(("old", "new"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_a_port_goes_from_all_addresses_to_one_and_back(config: Config, old: str, new: str) -> None:
    """The old socket is still open then."""
    with contextlib.closing(Doors(replace(config, listen=(parse(f"{old}:{OTHER}"),)))) as doors:
        move(doors, replace(config, listen=(parse(f"{new}:{OTHER}"),)))
        assert bound(doors) == {(new, OTHER)}
        assert is_open(OTHER)
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", OTHER))


def test_control_socket_and_pidfile_move(config: Config, tmp_path: Path) -> None:
    moved = replace(config, control=str(tmp_path / "control2"), pidfile=str(tmp_path / "pid2"))
    with contextlib.closing(Doors(config)) as doors:
        move(doors, moved)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["control2", "pid2"]
        assert (tmp_path / "pid2").read_text() == f"{os.getpid()}\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(moved.control)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_leads_to_the_same_place_is_not_another_one(doors: Doors, config: Config, tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to(tmp_path)
    control = doors.control
    move(doors, replace(config, control=str(tmp_path / "var/control"), pidfile=str(tmp_path / "var/pid")))
    assert doors.control is control
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("broken", ["listen", "control", "pidfile"])
def test_if_one_door_cannot_be_opened_no_door_changes(
    doors: Doors, config: Config, tmp_path: Path, broken: str
) -> None:
    new = replace(
        config,
        listen=(parse(f"127.0.0.1:{OTHER}"),),
        control=str(tmp_path / "control2"),
        pidfile=str(tmp_path / "pid2"),
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        match broken:
            case "listen":
                new = replace(new, listen=(*new.listen, parse(f"127.0.0.1:{taken.getsockname()[1]}")))
            case "control":
                new = replace(new, control=str(tmp_path / "missing" / "control"))
            case "pidfile":
                new = replace(new, pidfile=str(tmp_path / "missing" / "pid"))
        with pytest.raises(SystemFailure):
            doors.open_for(new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control", "pid"]
    assert (is_open(PORT), is_open(OTHER)) == (True, False)


def test_doors_that_were_opened_in_vain_are_closed_again(doors: Doors, config: Config, tmp_path: Path) -> None:
    new = replace(config, listen=(*config.listen, parse(f"127.0.0.1:{OTHER}")), control=str(tmp_path / "control2"))
    doors.refuse(doors.open_for(new))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control", "pid"]
    assert (is_open(PORT), is_open(OTHER)) == (True, False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(config.control)


def test_the_doors_stay_open_under_another_program(config: Config, doors: Doors) -> None:
    client = socket.create_connection(("127.0.0.1", PORT))
    left = doors.bequeath(config)
    assert (left.pidfile, left.control, left.listen) == (config.pidfile, config.control, (config.listen[0].text,))
    for number in (left.pidfile_fd, left.control_fd, *left.listener_fds):
        os.dup2(number, number + 500, inheritable=False)
    moved = replace(
        left,
        pidfile_fd=left.pidfile_fd + 500,
        control_fd=left.control_fd + 500,
        listener_fds=tuple(number + 500 for number in left.listener_fds),
    )
    after = Doors(config, moved)
    assert after.bequeath(config) == moved
    for sock in (*doors.listeners, doors.control):
        sock.close()
    (listener,) = after.listeners
    with client, listener.accept()[0]:
        assert is_open(PORT)
    with pytest.raises(SystemFailure, match="already running"):
        Doors(config)
    added = replace(config, listen=(*config.listen, parse(f"tcp4://127.0.0.1:{OTHER}")))
    move(after, added)
    assert listener in after.listeners, "it is known for what it is"
    assert bound(after) == {("127.0.0.1", PORT), ("127.0.0.1", OTHER)}
    after.close()
    assert not is_open(PORT)
    assert not os.path.exists(config.pidfile)
    assert not os.path.exists(config.control)
