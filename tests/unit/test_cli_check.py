"""What hastctl check makes of what it sees."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hastfs import address
from hastfs.cli.check import compare, findings, local, peer
from hastfs.cli.check.compare import Here
from hastfs.cli.check.findings import Finding, Level
from hastfs.config.schema import Config, ResourceConfig
from hastfs.details import Details
from hastfs.model import Checksum, Compression, Consistency, Generations, Replication, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol import handshake
from hastfs.protocol.control import ResourceStatus
from hastfs.protocol.handshake import Refusal
from hastfs.protocol.probe import Answer, Component
from tests.daemon_fakes import CONFIG

METADATA = Metadata(
    resource="disk",
    datasize=1 << 30,
    extentsize=2 << 20,
    keepdirty=64,
    localoff=8192,
    resuid=7,
    localcnt=1,
    remotecnt=1,
    prevrole=Role.INIT,
    serial=1,
    generations=Generations(),
    consistency=Consistency.CONSISTENT,
)
ANSWER = Answer(
    program="1.0",
    protocol=3,
    time=1000.0,
    role=Role.SECONDARY,
    replication=Replication.MEMSYNC,
    checksum=Checksum.NONE,
    compression=Compression.HOLE,
    timeout=5,
    component=Component.USABLE,
    datasize=1 << 30,
    extentsize=2 << 20,
    resuid=7,
)
HERE = Here(CONFIG, METADATA, Role.PRIMARY, "1.0")


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.level.value, each.check) for each in found if each.level is not Level.OK]


def test_two_nodes_that_fit_have_no_findings() -> None:
    assert bad(compare.compare(HERE, ANSWER, 0.2)) == []


@pytest.mark.parametrize(
    ("here", "answer", "ahead", "expected"),
    [
        (HERE, replace(ANSWER, program="2.0"), 0, ("warning", "version")),
        (HERE, ANSWER, 1.5, ("warning", "clock")),
        (HERE, ANSWER, -1.5, ("warning", "clock")),
        (HERE, replace(ANSWER, role=Role.PRIMARY), 0, ("problem", "role")),
        (HERE, replace(ANSWER, datasize=1 << 20), 0, ("problem", "size")),
        (HERE, replace(ANSWER, extentsize=1 << 20), 0, ("problem", "size")),
        (HERE, replace(ANSWER, resuid=8), 0, ("problem", "pair")),
        (HERE, replace(ANSWER, component=Component.MISSING), 0, ("problem", "peer-component")),
        (HERE, replace(ANSWER, component=Component.UNUSABLE), 0, ("problem", "peer-component")),
        (HERE, replace(ANSWER, component=Component.SILENT), 0, ("problem", "peer-component")),
        (HERE, replace(ANSWER, compression=Compression.LZF), 0, ("warning", "settings")),
        (HERE, replace(ANSWER, timeout=6), 0, ("warning", "settings")),
    ],
)
def test_each_difference_is_one_finding(here: Here, answer: Answer, ahead: float, expected: tuple[str, str]) -> None:
    assert bad(compare.compare(here, answer, ahead)) == [expected]


@pytest.mark.parametrize(("size", "hint"), [(1 << 20, True), (1 << 40, False)])
def test_a_smaller_file_has_to_go_before_a_new_one_is_made(size: int, hint: bool) -> None:
    (found,) = [one for one in compare.compare(HERE, replace(ANSWER, datasize=size), 0) if one.check == "size"]
    assert ("remove it first" in found.text) is hint


def test_a_component_that_was_never_part_of_a_pair_fits_every_one() -> None:
    assert bad(compare.compare(HERE, replace(ANSWER, resuid=0), 0)) == []


@pytest.mark.parametrize(
    ("errmsg", "expected", "words"),
    [
        (handshake.NOT_CONFIGURED, ("problem", "peer"), "does not have this resource"),
        (handshake.NO_ACCESS, ("problem", "peer"), "192.0.2.1, this node's address"),
        (handshake.BAD_TOKEN, ("warning", "version"), "does not answer checks: .* Its role is secondary"),
        (handshake.acts_as(Role.INIT), ("warning", "version"), "does not answer checks: .* Its role is init"),
        (handshake.acts_as(Role.PRIMARY), ("warning", "version"), "does not answer checks: .* Its role is primary"),
        ("\x1b[2J", ("problem", "peer"), r"refuses: \\x1b\[2J"),
    ],
)
def test_an_older_or_original_node_is_no_error(errmsg: str, expected: tuple[str, str], words: str) -> None:
    found = compare.refused(Refusal(errmsg), "192.0.2.1")
    assert bad(found) == [expected]
    assert re.search(words, found[-1].text)


def test_the_worst_finding_counts() -> None:
    assert findings.worst([]) is Level.OK
    assert findings.worst([findings.warning("a", "b"), findings.ok("a", "b")]) is Level.WARNING
    assert findings.worst([findings.problem("a", "b"), findings.warning("a", "b")]) is Level.PROBLEM


def config(folder: Path) -> Config:
    return Config("hast.conf", f"{folder}/control", f"{folder}/pid", (), f"{folder}/run", {"disk": CONFIG})


def test_what_is_wrong_with_this_node_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "disk").mkdir()
    (tmp_path / "folder").mkdir()
    resource = replace(CONFIG, local=str(tmp_path / "folder"), exec=str(tmp_path / "hook"), timeout=2)
    found, metadata = local.resource(config(tmp_path), resource, None)
    assert metadata is None
    assert bad(found) == [("problem", "component"), ("problem", "image"), ("problem", "exec"), ("warning", "timeout")]


@pytest.mark.parametrize(
    ("control", "expected"),
    [("{}/none", ("warning", "hastd")), ("{}/dead", ("warning", "hastd")), ("{}/" + 200 * "x", ("problem", "hastd"))],
)
def test_a_hastd_that_cannot_be_asked_is_not_taken_for_one_that_does_not_run(
    tmp_path: Path, control: str, expected: tuple[str, str]
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/dead")
    found, statuses = local.running(replace(config(tmp_path), control=control.format(tmp_path)), 1)
    assert bad([found]) == [expected]
    assert not statuses


def test_a_mountdir_that_cannot_be_made_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert ("problem", "mountdir") in bad(list(local.node(config(tmp_path))))


def test_a_hastd_that_has_not_read_the_file_again_is_found(tmp_path: Path) -> None:
    status = ResourceStatus("disk", provname="disk", localpath="/other", remoteaddr="none", replication="memsync")
    found, _ = local.resource(config(tmp_path), CONFIG, status)
    assert ("warning", "configuration") in bad(found)


def remote(port: int, host: str = "127.0.0.1") -> ResourceConfig:
    return replace(CONFIG, remote=address.parse(f"tcp4://{host}:{port}"))


async def test_a_node_that_says_nothing_costs_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = await peer.ask(remote(silent.getsockname()[1]), 0.1)
    assert bad(asked.findings) == [("problem", "peer")]
    assert "within 0.1 s" in asked.findings[-1].text


@pytest.mark.parametrize(
    "said", [b"", b"\0", b"\2\xff\xff\xff\x7f", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\2\0\0\0\0"]
)
async def test_nonsense_for_an_answer_is_one_finding(said: bytes, nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(said)

    nursery.start_soon(trio.serve_listeners, answer, listeners)
    asked = await peer.ask(remote(listeners[0].socket.getsockname()[1]), 30)
    assert (bad(asked.findings), asked.answer) == ([("problem", "peer")], None)


async def test_a_name_that_is_none_and_a_source_that_is_not_ours_are_found() -> None:
    asked = await peer.ask(remote(1, "no-such-host.invalid"), 30)
    assert bad(asked.findings) == [("problem", "address")]
    other = replace(remote(1), source=address.parse("192.0.2.7", 0))
    assert bad((await peer.ask(other, 30)).findings) == [("problem", "source")]
    assert bad((await peer.ask(CONFIG, 30)).findings) == [("warning", "peer")]


def test_a_component_that_this_user_may_not_open_is_not_to_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found, _ = local.resource(config(tmp_path), replace(CONFIG, local=str(tmp_path / "disk")), None)
    assert [(one.text, one.remedy) for one in found if one.check == "component"] == [
        (f"{tmp_path}/disk cannot be read and written: are you root?", "")
    ]


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (Details("primary", "split-brain", problem="Split brain.", remedy="hastctl role"), [("problem", "state")]),
        (Details("primary", "connected", "detached", problem="Broken."), [("problem", "state")]),
        (Details("primary", answered=False, problem="Hangs."), [("problem", "state")]),
        (Details("primary", "connecting", held=True, problem="Held."), [("problem", "state")]),
        (Details("secondary", "connecting", problem="No primary is connected."), []),
    ],
)
def test_what_hastd_knows_to_be_wrong_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, details: Details, expected: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(local, "read_metadata", lambda resource: METADATA)
    (tmp_path / "disk").write_bytes(b"")
    status = ResourceStatus("disk", details=details)
    found, _ = local.resource(config(tmp_path), replace(CONFIG, local=str(tmp_path / "disk")), status)
    assert [one for one in bad(found) if one[1] == "state"] == expected
    assert all(one.remedy == details.remedy for one in found if one.check == "state")


async def test_an_address_is_not_said_to_be_itself() -> None:
    asked = await peer.ask(remote(1), 30)
    assert asked.findings[0] == findings.ok("address", "127.0.0.1 is an address.")
