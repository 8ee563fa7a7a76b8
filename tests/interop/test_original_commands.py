"""The captured command lines, replayed with our programs: those that need no daemon."""

from __future__ import annotations

import socket

import pytest

from tests.interop.commandline import (
    COMMANDS,
    DIFFERENCES,
    WITH_DAEMON,
    WITHOUT_DAEMON,
    Command,
    Outcome,
    Replay,
    expected,
)

Outcomes = dict[str, Outcome]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """All of them in their order: each finds what the ones before left."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replay = Replay(tmp_path_factory.mktemp("original"), port)
    return {command.what: replay.run(command) for command in WITHOUT_DAEMON}


@pytest.mark.parametrize("command", WITHOUT_DAEMON, ids=lambda command: command.what)
def test_a_command_ends_as_the_original_s(command: Command, outcomes: Outcomes) -> None:
    assert outcomes[command.what] == expected(command)


def test_every_captured_command_is_replayed() -> None:
    assert len(COMMANDS) == 77
    assert sorted(command.what for command in (*WITHOUT_DAEMON, *WITH_DAEMON)) == sorted(
        command.what for command in COMMANDS
    )


def test_what_is_listed_as_different_is_different() -> None:
    originals = {command.what: command.original for command in COMMANDS}
    assert [what for what, (ours, _) in DIFFERENCES.items() if ours == originals[what]] == []


def test_an_exit_code_differs_only_where_the_original_takes_what_it_should_refuse_or_fails_by_itself() -> None:
    originals = {command.what: command.original for command in COMMANDS}
    differing = {what for what, (ours, _) in DIFFERENCES.items() if ours.code != originals[what].code}
    assert differing == {
        "create -e 5120",
        "create -e 3M",
        "create -e 2g",
        "create -e 1T",
        "create -k -1",
        "create -m 100",
        "create -m 4096",
        "role to primary after a 2nd hastd stole (unlinked) the control socket",
        "create on a running primary (no lock check!)",
    }
