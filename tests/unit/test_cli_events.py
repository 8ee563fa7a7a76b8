"""hastctl events, wait and role --wait, with a daemon of a few lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hastfs.cli import listening
from hastfs.config import files
from hastfs.details import Details
from hastfs.errors import NotYet, SystemFailure
from hastfs.frontend import probe, usable
from hastfs.model import Role
from hastfs.news import Fact, Kind, News, facts
from hastfs.protocol.control import ControlCommand, Reply, Request, ResourceStatus
from tests.unit.test_cli_hastctl import PROJECT, Daemon, Run, conf, daemon, run

__all__ = ["conf", "daemon", "run"]  # fixtures

PRIMARY = Details("primary", "connected", "up-to-date", "up-to-date", started=1.0)
STATE_END = News(2.0, Kind.EXISTS)
STOP = News(9.0, Kind.END, None, {"reason": "stop"})
UPGRADE = News(9.0, Kind.END, None, {"reason": "upgrade"})


def exists(details: Details, name: str = "test") -> News:
    return News(1.0, Kind.EXISTS, name, facts(details))


def change(name: str = "test", **about: Fact) -> News:
    return News(3.0, Kind.CHANGE, name, about)


def said(*news: News) -> bytes:
    return b"".join(b"".join(bytes(part) for part in Reply(news=one).encode()) for one in news)


def serve(daemon: Daemon, *connections: Sequence[News]) -> None:
    """What is told over one connection after the other; other requests are done."""
    left = iter(connections)

    def answer(request: Request) -> Reply | bytes:
        if request.command is ControlCommand.EVENTS:
            return said(*next(left))
        return Reply(resources=[ResourceStatus(name, role="init") for name in request.resources])

    daemon.answer = answer


class Quiet(Daemon):
    """Keeps the connection open after what it has to say."""

    def _reply(self, client: object, request: Request) -> None:
        self.requests.append(request)
        client.sendall(self.answer(request))  # type: ignore[attr-defined]


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Quiet]:
    made = Quiet(str(tmp_path / "control"))
    yield made
    made.close()


def test_events_are_lines_until_the_daemon_ends(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(PRIMARY), STATE_END, change(behind=5), STOP])
    code, out, err = run("events")
    lines = [line.split(" ", 1)[1] for line in out.splitlines()]
    assert lines[0].startswith("exists resource name:test role:primary connection:connected disk:up-to-date ")
    assert lines[1:] == ["exists -", "change resource name:test behind:5"]
    assert (code, err) == (0, "")
    assert daemon.requests[-1].resources == ("all",)


def test_events_are_json_if_wanted(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(PRIMARY), STATE_END, STOP])
    lines = [json.loads(line) for line in run("events", "--json", "test")[1].splitlines()]
    assert [(line["version"], line["event"], line["resource"]) for line in lines] == [
        (1, "exists", "test"),
        (1, "exists", None),
    ]
    assert daemon.requests[-1].resources == ("test",)


def test_now_is_the_state_and_no_more(run: Run, quiet: Quiet) -> None:
    quiet.answer = lambda request: said(exists(PRIMARY), STATE_END, change(behind=5))
    code, out, _ = run("events", "--now")
    assert (code, len(out.splitlines())) == (0, 2)


def test_an_upgrade_is_something_missed_and_the_state_again(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(PRIMARY), STATE_END, UPGRADE], [exists(Details()), STATE_END, STOP])
    code, out, _ = run("events")
    assert [line.split()[1:4] for line in out.splitlines()] == [
        ["exists", "resource", "name:test"],
        ["exists", "-"],
        ["missed", "-"],
        ["exists", "resource", "name:test"],
        ["exists", "-"],
    ]
    assert code == 0


def test_a_daemon_that_vanishes_is_71(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    serve(daemon, [exists(PRIMARY), STATE_END])
    assert run("events")[::2] == (71, f"[ERROR] hastd behind {tmp_path}/control is gone.\n")


@pytest.mark.parametrize("command", [["events"], ["wait", "--for", "primary"]])
def test_a_name_that_is_not_configured_is_65(run: Run, daemon: Daemon, command: list[str]) -> None:
    serve(daemon, [exists(PRIMARY), STATE_END, STOP])
    code, _, err = run(*command, "test", "nope")
    assert (code, err) == (65, "[ERROR] Unknown resource nope.\n")


def test_a_daemon_to_whom_too_many_listen_is_75(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(75, "64 programs listen to hastd already.")
    assert run("events")[::2] == (75, "[ERROR] 64 programs listen to hastd already.\n")


def test_an_older_daemon_does_not_know_events(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(4)
    assert run("events")[::2] == (70, "[ERROR] Error 4 received from hastd.\n")


def test_a_daemon_that_tells_nothing_is_not_waited_for(
    run: Run, quiet: Quiet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(listening, "STATE_WITHIN", 0.05)
    quiet.answer = lambda request: said(exists(PRIMARY))
    code, _, err = run("wait", "--for", "primary", "test")
    assert (code, err) == (71, f"[ERROR] No answer from hastd via {tmp_path}/control within 0.05 s.\n")


def events_process(conf: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hastfs.cli.hastctl", "events", "-c", conf]
    return subprocess.Popen(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("ends", "code"), [("reader", 141), ("interrupt", 130)])
def test_events_end_with_their_reader_though_nothing_happens(quiet: Quiet, conf: str, ends: str, code: int) -> None:
    quiet.answer = lambda request: said(exists(PRIMARY), STATE_END)
    with events_process(conf) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            process.stdout.readline()
        if ends == "reader":
            process.stdout.close()
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == code
        assert process.stderr.read() == ""


def test_wait_returns_when_it_is_so_of_all(run: Run, daemon: Daemon) -> None:
    two = [exists(Details(), "test"), exists(Details(), "more"), STATE_END]
    serve(daemon, [*two, change("more", role="primary"), change("test", role="primary")])
    assert run("wait", "--for", "primary", "test", "more") == (0, "", "")
    serve(daemon, [*two, change("more", role="primary"), STOP])
    assert run("wait", "--for", "primary", "all") == (71, "", "[ERROR] hastd has stopped.\n")


def test_what_was_so_before_something_was_missed_does_not_count(run: Run, daemon: Daemon) -> None:
    two = [exists(PRIMARY, "test"), exists(Details(), "more"), STATE_END]
    again = [exists(Details(), "test"), exists(PRIMARY, "more"), STATE_END]
    serve(daemon, [*two, News(3.0, Kind.MISSED), *again, STOP])
    assert run("wait", "--for", "primary", "all")[0] == 71


def test_wait_goes_on_across_an_upgrade(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(Details()), STATE_END, UPGRADE], [exists(PRIMARY), STATE_END])
    assert run("wait", "--timeout", "60", "--for", "usable", "test")[0] == 0


@pytest.mark.parametrize("timeout", ["0", "0.05"])
def test_wait_that_is_in_vain_is_75(run: Run, quiet: Quiet, timeout: str) -> None:
    quiet.answer = lambda request: said(exists(Details()), STATE_END)
    code, out, err = run("wait", "--timeout", timeout, "--for", "connected", "test")
    assert (code, out, err) == (75, "", f"[ERROR] Not connected within {timeout} s: test.\n")


@pytest.mark.parametrize("state", [[], [exists(Details("secondary", "connected"), "test")]])
def test_what_is_so_already_needs_no_time(run: Run, quiet: Quiet, state: list[News]) -> None:
    quiet.answer = lambda request: said(*state, STATE_END)
    assert run("wait", "--timeout", "0", "--for", "connected", "all") == (0, "", "")


def test_a_new_secondary_waits_for_its_primary(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(Details("secondary", "connecting")), STATE_END, change(connection="connected")])
    assert run("role", "--wait", "secondary", "test") == (0, "", "")


def test_waiting_in_vain_for_a_new_role_names_the_resource_once(run: Run, quiet: Quiet) -> None:
    """The time is the one that was asked for, not what is left of it when its turn comes."""
    role = b"".join(bytes(part) for part in Reply(resources=[ResourceStatus("test", role="secondary")]).encode())
    state = said(exists(Details("secondary", "connecting")), STATE_END)
    quiet.answer = lambda request: role if request.command is ControlCommand.SETROLE else state
    code, out, err = run("role", "--wait", "--timeout", "0.05", "secondary", "test")
    assert (code, out, err) == (75, "", "[ERROR] [test] Not connected within 0.05 s.\n")


def test_init_waits_for_nothing(run: Run, daemon: Daemon) -> None:
    serve(daemon)
    assert run("role", "--wait", "init", "test")[0] == 0
    assert [request.command for request in daemon.requests] == [ControlCommand.SETROLE]


def test_a_role_that_was_refused_is_not_waited_for(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[ResourceStatus("test", 75, "In use.", role="primary")])
    assert run("role", "--wait", "secondary", "test")[0] == 75
    assert len(daemon.requests) == 1


@pytest.mark.parametrize(
    ("found", "code"), [(None, 0), (SystemFailure("It cannot be read."), 71), (NotYet("It does not answer."), 75)]
)
def test_a_new_primary_is_read_from(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, found: Exception | None, code: int
) -> None:
    looked: list[tuple[str, str]] = []

    def check(resource: object, mountdir: str, within: float) -> None:
        looked.append((resource.name, mountdir))  # type: ignore[attr-defined]
        assert 0 < within <= 60
        if found is not None:
            raise found

    monkeypatch.setattr(usable, "check", check)
    serve(daemon, [exists(Details("primary")), STATE_END, change(usable=True)])
    done, _, err = run("role", "--wait", "primary", "test")
    assert (done, err) == (code, "" if found is None else f"[ERROR] [test] {found}\n")
    assert [name for name, _ in looked] == ["test"]


def test_the_role_is_changed_before_it_is_waited_for(run: Run, daemon: Daemon) -> None:
    serve(daemon, [exists(Details("secondary", "connected")), STATE_END])
    run("role", "-f", "--wait", "--timeout", "1", "secondary", "test")
    first, second = daemon.requests
    assert (first.command, first.role, first.force) == (ControlCommand.SETROLE, Role.SECONDARY, True)
    assert (second.command, second.resources) == (ControlCommand.EVENTS, ("test",))


def test_a_file_that_is_no_image_is_not_usable(tmp_path: Path, conf: str) -> None:

    config = files.load(conf)
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt" / "test").write_bytes(bytes(4096))
    with pytest.raises(SystemFailure, match=r"^There is no image at "):
        usable.check(config.resource("test"), config.mountdir, 1)


def test_a_disk_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(usable, "_read", lambda path: answers.wait())
    try:
        with pytest.raises(NotYet):
            usable._read_within("/x", 0.0)
    finally:
        answers.set()


def test_a_disk_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=os.strerror(2)):
        usable._read_within(str(tmp_path / "none"), 0.0)
