"""Asking another program whether it can take over, and becoming it. The programs here are a few lines long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hastfs import __version__
from hastfs.config.files import node_names
from hastfs.daemon import program
from hastfs.daemon.program import Program
from hastfs.errors import SystemFailure
from tests.unit.test_daemon_inheritance import LEFT

ROOT = Path(__file__).parents[2]


def saying(code: str, directory: str = "/") -> Program:
    return Program((sys.executable, "-c", code), directory, "/etc/hast.conf")


async def test_a_program_that_can_take_over_says_its_version() -> None:
    code = "import os, sys; fd = int(sys.argv[1].removeprefix('--can-inherit=')); print(len(os.pread(fd, 99999, 0)))"
    assert await saying(code).check(LEFT) == str(len(LEFT.encode()))


async def test_a_program_is_asked_where_hastd_was_started(tmp_path: Path) -> None:
    (tmp_path / "local.py").write_text("print('9.9')")
    assert await Program((sys.executable, "local.py"), str(tmp_path), "/etc/hast.conf").check(LEFT) == "9.9"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("if", "SyntaxError: invalid syntax"),
        ("import hastfs_that_is_not_there", "ModuleNotFoundError: No module named 'hastfs_that_is_not_there'"),
        ("raise SystemExit('[ERROR] It does not know what that leaves.')", "It does not know what that leaves"),
        ("import sys; print('unrecognized option', 'usage', sep='\\n', file=sys.stderr); sys.exit(64)", "unrecognized"),
        ("raise SystemExit(3)", "it ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with -9"),
    ],
)
async def test_a_program_that_cannot_take_over_is_refused_with_its_reason(code: str, reason: str) -> None:
    with pytest.raises(SystemFailure, match=f"hastd goes on as it is: .* cannot take over: {reason}"):
        await saying(code).check(LEFT)


async def test_a_program_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_CHECKED_WITHIN", 0.5)
    with pytest.raises(SystemFailure, match=r"does not say within 0\.5 s"):
        await saying("import signal; signal.pause()").check(LEFT)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (Program(("/nowhere/python", "hastd"), "/", ""), "/nowhere/python: No such file"),
        (replace(saying("print(1)"), directory="/nowhere"), "/nowhere: No such file"),
    ],
)
async def test_a_program_that_is_gone_is_refused(gone: Program, named: str) -> None:
    with pytest.raises(SystemFailure, match=named):
        await gone.check(LEFT)


@pytest.mark.parametrize("gone", [Program(("/nowhere/python",), "/", ""), replace(saying(""), directory="/nowhere")])
def test_a_program_that_cannot_be_started_leaves_everything_as_it_was(
    gone: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    before = os.listdir("/proc/self/fd")
    doors = replace(LEFT.doors, pidfile_fd=reader, control_fd=reader, listener_fds=())
    left = replace(LEFT, doors=doors, client=writer, kept=(), resources=())
    try:
        with pytest.raises(SystemFailure, match="cannot take over: /nowhere"):
            gone.become(left)
        assert not os.get_inheritable(reader)
        assert not os.get_inheritable(writer)
        assert os.getcwd() == str(tmp_path)
        assert os.listdir("/proc/self/fd") == before
    finally:
        os.close(reader)
        os.close(writer)


BEFORE = """
import json, os, sys
from dataclasses import replace
from hastfs.daemon.program import Program
from tests.unit.test_daemon_inheritance import LEFT
reader, writer = os.pipe()
doors = replace(LEFT.doors, pidfile_fd=writer, control_fd=writer, listener_fds=())
left = replace(LEFT, doors=doors, client=writer, kept=(reader,), resources=())
os.write(1, json.dumps([os.getpid(), reader, writer]).encode() + b"\\n")
program = Program.of_this_process("hast.conf")
os.chdir("/")
program.become(left)
"""
AFTER = """
import json, os, sys
from hastfs.daemon import program
fd = int(sys.argv[-1].removeprefix("--inherit="))
left = program.read(fd)
program.own(left, fd)
os.write(left.client, b"x")
assert os.read(left.kept[0], 1) == b"x"
print(json.dumps([os.getpid(), left.kept[0], left.client, os.getcwd(), os.get_inheritable(left.client)]))
"""


def test_the_other_program_is_the_same_process_with_what_it_inherits(tmp_path: Path) -> None:
    script = tmp_path / "hastd"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nexec(({BEFORE!r}, {AFTER!r})[len(sys.argv) > 1])"
    )
    done = subprocess.run([sys.executable, "hastd"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads(line) for line in done.stdout.splitlines())
    assert after == [*before, str(tmp_path), False]


def test_a_hastd_says_for_itself_whether_it_can_take_over(tmp_path: Path) -> None:
    def ask(description: bytes) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "left"
        path.write_bytes(description)
        with path.open("rb") as file:
            return subprocess.run(
                [sys.executable, "-m", "hastfs.cli.hastd", "-F", f"--can-inherit={file.fileno()}"],
                pass_fds=[file.fileno()],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )

    left = replace(LEFT, config=f"resource x {{ local /x on {node_names()[0]} {{ remote none }} }}", resources=())
    assert ask(left.encode()).stderr.startswith("[ERROR] hast.conf has changes that are not yet in force (pidfile, ")
    doors = replace(left.doors, pidfile="/var/run/hastd.pid", control="/var/run/hastctl", listen=())
    left = replace(left, doors=doors)
    done = ask(left.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")
    unreadable = ask(left.encode().replace(b'"format": 1', b'"format": 2'))
    assert (unreadable.returncode, unreadable.stdout) == (65, "")
    assert "it does not know what that leaves (format 2, not 1)" in unreadable.stderr
    assert ask(replace(left, config="replication sync").encode()).returncode == 78
    gone = replace(LEFT.resources[0], name="x", provider="x", local="/x")
    assert "Unable to open /x" in ask(replace(left, resources=(gone,)).encode()).stderr
    assert ask(replace(left, resources=(replace(gone, worker=None),)).encode()).returncode == 0
    assert "damaged" in ask(left.encode().replace(b"0.1.0", b"0.2.0").replace(b'"client": 14', b'"client": ""')).stderr
