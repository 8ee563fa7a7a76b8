"""The table of `hastctl status`: what it says about each state, with and without room, colours and box characters."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hastfs.cli import table
from hastfs.cli.table import Look
from hastfs.details import Details, Sync
from hastfs.protocol.control import ResourceStatus

NOW = 1_800_000_000.0
GIB = 1 << 30

WELL = Details("primary", "connected", "up-to-date", "up-to-date", GIB, NOW, NOW, NOW)
SYNCING = Details(
    role="primary",
    connection="connected",
    disk="up-to-date",
    peer_disk="inconsistent",
    last_in_sync=NOW - 200,
    behind=3 * GIB // 2,
    sync=Sync("to-peer", 3 * GIB, 3 * GIB // 2, 64 << 20, NOW),
)
SPLIT = Details(
    role="secondary",
    connection="split-brain",
    disk="up-to-date",
    problem="Split brain: both nodes have data that the other one lacks.",
    remedy="hastctl create -f mail",
)


def shown(*details: Details, width: int = 80, ascii_only: bool = False) -> list[str]:
    looks = [Look(ResourceStatus(f"disk{number}"), one) for number, one in enumerate(details)]
    return table.render(looks, width=width, now=NOW, ascii_only=ascii_only).plain.splitlines()


def test_a_resource_that_is_well_takes_one_line() -> None:
    header, line = shown(WELL)
    assert header.split() == ["Name", "Role", "Connection", "Disk", "Peer", "disk", "Behind", "In", "sync"]
    assert line.split() == ["disk0", "primary", "connected", "up-to-date", "up-to-date", "0", "B", "now"]


def test_a_resync_has_a_bar_a_rate_and_the_time_it_still_takes() -> None:
    lines = shown(SYNCING)
    assert lines[1].split()[4:] == ["inconsistent", "1.5", "GiB", "3", "min", "ago"]
    assert lines[2].strip().startswith("Resync to peer ━")
    assert lines[2].endswith("50.0 %  64 MiB/s  1.5 GiB left  24 s to go")
    assert lines[2].count("━") == lines[2].count("╌") >= 5


def test_without_a_rate_nobody_knows_how_long_a_resync_takes() -> None:
    stuck = Details(role="secondary", sync=Sync("from-peer", GIB, GIB, 0.0, NOW))
    line = shown(stuck)[2]
    assert line.strip().startswith("Resync from peer ╌")
    assert line.endswith("0.0 %  0 B/s  1.0 GiB left")


def test_what_is_wrong_has_a_sentence_and_a_command_to_copy() -> None:
    lines = shown(SPLIT)
    assert lines[2] == "  ! Split brain: both nodes have data that the other one lacks."
    assert lines[3] == "    run: hastctl create -f mail"


def test_an_error_of_one_resource_is_told_in_its_place() -> None:
    looks = [
        Look(ResourceStatus("gone", error=1, errmsg="No such resource."), Details()),
        Look(ResourceStatus("x"), WELL),
    ]
    lines = table.render(looks, width=80, now=NOW).plain.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["gone", "error"], ["!", "No"], ["x", "primary"]]


@pytest.mark.parametrize(
    ("error", "said"), [(1, "hastd has no resource of this name."), (9, "hastd answers with error 9.")]
)
def test_an_error_without_words_gets_some(error: int, said: str) -> None:
    lines = table.render([Look(ResourceStatus("x", error=error), Details())], width=80, now=NOW).plain.splitlines()
    assert lines[2] == f"  ! {said}"


def test_an_idle_resource_has_dashes() -> None:
    assert shown(Details())[1].split() == ["disk0", "init", "-", "-", "-", "-", "-"]


def test_a_secondary_is_not_said_to_be_behind_by_nothing() -> None:
    assert shown(Details(role="secondary", connection="connected", disk="up-to-date"))[1].split()[-2:] == ["-", "-"]


def test_without_room_for_columns_it_becomes_text() -> None:
    lines = shown(SYNCING, SPLIT, width=44)
    assert lines[:4] == [
        "disk0",
        "  role primary, connection connected,",
        "  disk up-to-date, peer disk inconsistent,",
        "  behind 1.5 GiB, in sync 3 min ago",
    ]
    assert lines[4:6] == ["  Resync to peer  50.0 %  64 MiB/s", "  1.5 GiB left  24 s to go"]
    assert lines[6] == "disk1"


def test_ascii_is_enough_where_there_is_nothing_else() -> None:
    assert all(line.isascii() for line in shown(SYNCING, SPLIT, WELL, ascii_only=True))


@given(
    st.sampled_from((WELL, SYNCING, SPLIT, Details())),
    st.integers(30, 200),
    st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True),
)
def test_only_names_and_commands_are_wider_than_the_terminal(details: Details, width: int, name: str) -> None:
    lines = table.render([Look(ResourceStatus(name), details)], width=width, now=NOW).plain.splitlines()
    assert [line for line in lines if cell_len(line) > width and line != name and "run: " not in line] == []


@given(
    st.builds(
        Sync, st.sampled_from(("to-peer", "from-peer", "x")), *[st.integers(0, 2**64 - 1)] * 2, st.floats(0, 2**60)
    ),
    st.integers(20, 200),
)
def test_no_resync_is_too_strange_to_be_shown(sync: Sync, width: int) -> None:
    lines = list(table.progress(sync, width=width))
    assert lines
    assert "-" not in lines[0].plain.replace("to-peer", "")


def test_what_a_peer_said_does_not_steer_the_terminal() -> None:
    lines = shown(Details(problem="Refused: \x1b[2Jgo\x07away", remedy="hastctl \x1b]0;x\x07"))
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("no_color", [True, False])
def test_colours_add_nothing_to_the_words(no_color: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", no_color=no_color, width=80)
    console.print(table.render([Look(ResourceStatus("x"), SPLIT)], width=80, now=NOW))
    assert ("\x1b[32m" in out.getvalue()) is not no_color
    for word in ("secondary", "split-brain", "up-to-date", "unknown", "!", "run:"):
        assert word in out.getvalue()


def test_a_daemon_without_details_has_told_what_counts() -> None:
    old = table.look(ResourceStatus("x", role="primary", status="complete", dirty=2 << 20), None)
    assert (old.details.role, old.details.connection, old.details.behind) == ("primary", "connected", 2 << 20)
