"""The exit codes that scripts written for HAST go by: one table, with what else happens beside them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from hastfs.cli import hastctl, hastd
from hastfs.cli.commands import check, dump, reload, status, stop, upgrade
from hastfs.cli.commands import role as role_module
from hastfs.cli.listening import STATE_WITHIN
from hastfs.cli.options import COMMANDS
from hastfs.config import files
from hastfs.config.schema import DEFAULT_TIMEOUT
from hastfs.errors import HastError
from hastfs.goal import READY_WITHIN
from hastfs.protocol.control import ERROR_NO_RESOURCE, Reply, ResourceStatus
from tests.unit.test_cli_hastctl import Daemon

SIZE = 1 << 20


@dataclass
class Machine:
    """Three resources: the component of `fresh` is there and empty, that of `broken` is rubbish, `none` has none."""

    folder: Path
    port: socket.socket

    @property
    def conf(self) -> Path:
        return self.folder / "hast.conf"

    def set_up(self) -> None:
        node = files.node_names()[0]
        resources = "".join(
            f"resource {name} {{ on {node} {{ local {self.folder}/{name}.img remote none }} }}\n"
            for name in ("fresh", "broken", "none")
        )
        self.conf.write_text(
            f"control {self.folder}/control\npidfile {self.folder}/pid\nmountdir {self.folder}/mnt\n"
            f"listen tcp4://127.0.0.1:{self.port.getsockname()[1]}\n{resources}"
        )
        (self.folder / "fresh.img").write_bytes(bytes(SIZE))
        (self.folder / "broken.img").write_bytes(b"rubbish!" * (SIZE // 8))
        (self.folder / "bad.conf").write_text("resource fresh {")

    def hastctl(self, line: str) -> int:
        """With `-c` behind the command, unless the line names another file of the folder."""
        words = line.split()
        if words and "-c" not in words:
            words[1:1] = ["-c", str(self.conf)]
        return hastctl.main([str(self.folder / word) if word.endswith(".conf") else word for word in words])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with socket.create_server(("127.0.0.1", 0)) as port:  # taken, so that no hastd comes up here
        made = Machine(tmp_path, port)
        made.set_up()
        yield made


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", os.EX_USAGE),
        ("-h", os.EX_USAGE),
        ("reboot", os.EX_USAGE),
        ("create -h fresh", os.EX_USAGE),
        ("status -h", os.EX_USAGE),
        ("status -x", os.EX_USAGE),
        ("create", os.EX_USAGE),
        ("create -e abc fresh", os.EX_USAGE),
        ("create -k abc fresh", os.EX_USAGE),
        ("create -m abc fresh", os.EX_USAGE),
        ("role", os.EX_USAGE),
        ("role primary", os.EX_USAGE),
        ("role master fresh", os.EX_USAGE),
        ("create fresh", os.EX_OK),
        ("create nope", os.EX_DATAERR),
        ("create -e 5120 fresh", os.EX_DATAERR),
        ("create -e 3M fresh", os.EX_DATAERR),
        ("create -k -1 fresh", os.EX_DATAERR),
        ("create -m 100 fresh", os.EX_DATAERR),
        ("create -m 4096 fresh", os.EX_DATAERR),
        ("create -m 2M fresh", os.EX_DATAERR),
        ("create none", os.EX_NOINPUT),
        ("dump nope", os.EX_DATAERR),
        ("dump fresh", 255),
        ("dump broken", 255),
        ("status", os.EX_OSERR),
        ("list fresh", os.EX_OSERR),
        ("role primary fresh", os.EX_OSERR),
        ("status -c missing.conf", os.EX_OSFILE),
        ("create -c missing.conf fresh", os.EX_OSFILE),
        ("dump -c missing.conf", os.EX_OSFILE),
        ("role -c missing.conf init all", os.EX_OSFILE),
        ("list -c missing.conf", os.EX_OSFILE),
        ("status -c bad.conf", os.EX_CONFIG),
        ("create -c bad.conf fresh", os.EX_CONFIG),
        ("dump -c bad.conf", os.EX_CONFIG),
        ("role -c bad.conf init all", os.EX_CONFIG),
        ("list -c bad.conf", os.EX_CONFIG),
    ],
)
def test_hastctl_without_a_daemon(machine: Machine, capsys: pytest.CaptureFixture[str], line: str, code: int) -> None:
    assert machine.hastctl(line) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) == (code != os.EX_OK)


def test_create_and_dump_go_on_after_an_unknown_resource(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.hastctl("create nope fresh") == os.EX_DATAERR
    assert capsys.readouterr().err == "[ERROR] Unknown resource nope.\n"
    assert machine.hastctl("dump nope fresh") == os.EX_DATAERR
    out, err = capsys.readouterr()
    assert out.startswith("resource: fresh\n")
    assert err == "[ERROR] Unknown resource nope.\n"
    assert machine.hastctl("dump fresh") == os.EX_OK


@pytest.mark.parametrize(
    ("line", "out", "err"),
    [
        ("status nope", "Name\tStatus\t Role\t\tComponents\nnope\tERR1\n", ""),
        ("list nope", "nope:\n  error: 1\n", ""),
        ("role primary nope", "", "[WARNING] [nope] Received error 1 from hastd.\n"),
        (
            "log-level nope",
            "",
            "[ERROR] [nope] Unknown resource, and no level (debug, info, warning, error).\n",
        ),
    ],
)
def test_what_the_daemon_does_not_know_is_1(
    machine: Machine, capsys: pytest.CaptureFixture[str], line: str, out: str, err: str
) -> None:
    daemon = Daemon(str(machine.folder / "control"))
    daemon.answer = lambda request: Reply(resources=[ResourceStatus("nope", 1)])
    try:
        assert machine.hastctl(line) == 1
    finally:
        daemon.close()
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("line", ["status", "list", "role init all"])
def test_an_error_of_the_daemon_is_70(machine: Machine, capsys: pytest.CaptureFixture[str], line: str) -> None:
    daemon = Daemon(str(machine.folder / "control"))
    daemon.answer = lambda request: Reply(12)
    try:
        assert machine.hastctl(line) == os.EX_SOFTWARE
    finally:
        daemon.close()
    assert capsys.readouterr() == ("", "[ERROR] Error 12 received from hastd.\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("-h", os.EX_USAGE),
        ("-x", os.EX_USAGE),
        ("extra", os.EX_USAGE),
        ("-c", os.EX_USAGE),
        ("-c missing.conf", os.EX_OSFILE),
        ("-F -c missing.conf", os.EX_OSFILE),
        ("-F -c bad.conf", os.EX_CONFIG),
        ("-F -c hast.conf", os.EX_OSERR),  # the port is in use
    ],
)
def test_a_hastd_that_cannot_start_says_why(
    machine: Machine, capsys: pytest.CaptureFixture[str], line: str, code: int
) -> None:
    words = [str(machine.folder / word) if word.endswith(".conf") else word for word in line.split()]
    assert hastd.main(words) == code
    assert capsys.readouterr().err
    assert not (machine.folder / "control").exists()
    assert not (machine.folder / "pid").exists()


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"


def table(first: str) -> list[list[str]]:
    """The cells of the document's table whose first heading is `first`."""
    lines = iter(DOCUMENT.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            break
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(bool, lines)]


def all_errors(of: type[HastError] = HastError) -> set[type[HastError]]:
    return {of}.union(*(all_errors(error) for error in of.__subclasses__()))


def test_the_documents_table_of_codes_is_that_of_the_errors() -> None:
    documented = {
        error.strip("` "): int(code) for code, _, errors, _ in table("code") for error in errors.split(",") if error
    }
    ours = {error.__name__: error.exit_code for error in all_errors() if error.__module__ == "hastfs.errors"}
    ours["MetadataError"] = dump.UNREADABLE
    assert documented == ours


def test_the_documents_table_has_every_code_by_its_name() -> None:
    named = {name: int(code) for code, name, *_ in table("code") if name}
    assert named == {name: getattr(os, name) for name in named}
    rest = {int(code) for code, name, *_ in table("code") if not name}
    assert rest == {0, ERROR_NO_RESOURCE, dump.UNREADABLE, 128 + signal.SIGINT, 128 + signal.SIGPIPE}
    assert {error.exit_code for error in all_errors()} <= rest | set(named.values())


def test_the_document_has_the_bounds_of_every_command() -> None:
    bounds = {command.strip("`"): bound for command, bound, _ in table("command")}
    assert COMMANDS.keys() == bounds.keys() - {"role --wait"}
    role = f"timeout + {role_module._MARGIN:g} s"
    assert bounds["role"] == role
    assert bounds["role --wait"].startswith(role)
    assert f"{READY_WITHIN:g} s" in bounds["role --wait"]
    for command in ("role --wait", "events", "wait"):
        assert f"{STATE_WITHIN:g} s" in bounds[command]
    assert {bounds["list"], bounds["status"]} == {f"{status.ANSWER_WITHIN:g} s"}
    assert bounds["reload"] == f"{reload._ROLE_CHANGES} x ({role})"
    assert bounds["upgrade"] == f"{upgrade._CHANGES_WITHIN:g} s + {upgrade._ROLE_CHANGES} x ({role})"
    assert bounds["stop"] == f"{role}, and {stop.ENDS_WITHIN:g} s for hooks"
    assert f"`--timeout` ({check.WITHIN:g} s)" in bounds["check"]
    assert f"({DEFAULT_TIMEOUT} s if" in DOCUMENT.read_text()
