"""`hastctl status`: the table for people, the original's text for everything else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.cli import hastctl
from hastfs.config import files
from hastfs.details import Details, Sync
from hastfs.protocol.control import Reply, Request, ResourceStatus
from tests.unit.test_cli_hastctl import PROJECT, Daemon, Run

CLASSIC = "Name\tStatus\t Role\t\tComponents\ntest\tcomplete primary        /x\ttcp4://192.0.2.1\n"


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "hast.conf"
    path.write_text(
        f"control {tmp_path}/control\n"
        f"resource test {{ on {files.node_names()[0]} {{ local {tmp_path}/test.img remote none }} }}\n"
    )
    return str(path)


@pytest.fixture
def run(conf: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def running(*arguments: str) -> tuple[int, str, str]:
        code = hastctl.main(["status", "-c", conf, *arguments])
        return code, *capsys.readouterr()

    return running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(str(tmp_path / "control"))
    yield made
    made.close()


@pytest.fixture
def pair(daemon: Daemon) -> Daemon:
    now = time.time()
    sync = Sync("to-peer", 100 << 20, 25 << 20, 1 << 20, now)
    details = Details("primary", "connected", "up-to-date", "inconsistent", sync=sync, last_in_sync=now - 200)

    def answer(request: Request) -> Reply:
        status = ResourceStatus(
            "test", role="primary", status="complete", localpath="/x", remoteaddr="tcp4://192.0.2.1"
        )
        status.details = details if request.details else None
        return Reply(resources=[status])

    daemon.answer = answer
    return daemon


def on_terminal(conf: str, *arguments: str, **environment: str) -> str:
    """What comes out on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "hastfs.cli.hastctl", "status", "-c", conf, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=PROJECT,
        env={**clean, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 65536):
            said += data
    except OSError:  # EIO: nobody has it open any more
        pass
    finally:
        os.close(ours)
        code = process.wait(timeout=20)
    assert code == 0, said
    return said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_the_table(conf: str, pair: Daemon) -> None:
    said = on_terminal(conf)
    assert "\x1b[1;32mprimary\x1b[0m" in said
    assert "75.0 %  1.0 MiB/s  25 MiB left  25 s to go" in said
    assert "3 min ago" in said


@pytest.mark.parametrize(
    ("arguments", "environment"), [((), {"NO_COLOR": "1"}), (("--no-color",), {}), ((), {"TERM": "dumb"})]
)
def test_colours_can_be_turned_off(
    conf: str,
    pair: Daemon,
    arguments: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    said = on_terminal(conf, *arguments, **environment)
    assert "\x1b[3" not in said
    assert "1;32m" not in said
    assert "75.0 %  1.0 MiB/s  25 MiB left  25 s to go" in said
    assert "TERM" not in environment or "\x1b" not in said


def test_a_terminal_gets_the_classic_text_if_it_is_wanted(conf: str, pair: Daemon) -> None:
    assert on_terminal(conf, "--classic") == CLASSIC
    assert not pair.requests[-1].details


def test_everything_else_gets_the_classic_text(run: Run, pair: Daemon) -> None:
    assert run() == (0, CLASSIC, "")
    assert not pair.requests[-1].details


def test_the_table_goes_anywhere_if_it_is_wanted(run: Run, pair: Daemon) -> None:
    code, out, err = run("--table")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out.splitlines()[1].split()[:4] == ["test", "primary", "connected", "up-to-date"]


def test_an_error_is_in_the_table_and_the_exit_code(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[ResourceStatus("nope", error=1, errmsg="No such resource.")])
    code, out, err = run("--table", "nope")
    assert (code, err) == (1, "")
    assert out.splitlines()[2] == "  ! No such resource."


def test_the_forms_exclude_each_other(run: Run) -> None:
    code, out, err = run("--table", "--classic")
    assert (code, out) == (64, "")
    assert err.startswith("hastctl: --table and --classic exclude each other\nusage: ")


def test_scripts_do_not_wait_for_what_draws_tables(conf: str, pair: Daemon, tmp_path: Path) -> None:
    program = "import sys; from hastfs.cli import hastctl; hastctl.main(sys.argv[1:]); print('rich' in sys.modules)"
    argv = [sys.executable, "-c", program, "status", "-c", conf]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == f"{CLASSIC}False\n"
