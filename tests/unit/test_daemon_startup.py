"""What happens before hastd serves: pidfile, sockets, logging, going into the background."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs import address
from hastfs.daemon import logs, sockets
from hastfs.daemon.logs import LogSettings, ResourceLog
from hastfs.daemon.pidfile import Pidfile
from hastfs.errors import SystemFailure
from hastfs.model import Role

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "pid")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own: not to be closed
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = handlers, level


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_the_pidfile_names_the_process(path: str) -> None:
    pidfile = Pidfile(path)
    pidfile.write()
    assert Path(path).read_text() == f"{os.getpid()}\n"
    pidfile.remove()
    assert not os.path.exists(path)


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(path: str) -> None:
    pidfile = Pidfile(path)
    pidfile.write()
    with pytest.raises(SystemFailure, match=f"Another hastd is already running, pid: {os.getpid()} ") as caught:
        Pidfile(path)
    assert caught.value.exit_code == 71
    assert Path(path).read_text() == f"{os.getpid()}\n"
    pidfile.remove()


def test_a_pidfile_that_a_dead_daemon_left_does_not_matter(path: str) -> None:
    Path(path).write_text("99999999\n")
    pidfile = Pidfile(path)
    pidfile.write()
    assert Path(path).read_text() == f"{os.getpid()}\n"
    pidfile.remove()


def test_a_pidfile_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="No such file or directory"):
        Pidfile(str(tmp_path / "missing" / "pid"))


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"tcp4://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemFailure, match=f"^Unable to listen on address {text}: Address already in use\\.$"):
            sockets.listen_tcp((address.parse("127.0.0.1:18698"), address.parse(text)))
    for listener in sockets.listen_tcp((address.parse("127.0.0.1:18698"),)).values():  # was given back
        listener.close()


def test_ipv6_listeners_leave_ipv4_alone() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.fail("this machine has no IPv6")
    with contextlib.ExitStack() as stack:
        (listener,) = sockets.listen_tcp((address.parse("tcp6://[::]:18697"),)).values()
        stack.enter_context(listener)
        (other,) = sockets.listen_tcp((address.parse("tcp4://0.0.0.0:18697"),)).values()
        stack.enter_context(other)
        assert (listener.family, other.family) == (socket.AF_INET6, socket.AF_INET)


def test_log_lines_carry_level_resource_and_role(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs.setup(LogSettings(True, 0), resource="disk", role="primary")
    logging.getLogger("x").info("Connected.")
    logging.getLogger("x").debug("Not shown.")
    ResourceLog(logging.getLogger("x"), "other", lambda: Role.SECONDARY).error("%s failed.", "It")
    assert capsys.readouterr().err == "[INFO] [disk] (primary) Connected.\n[ERROR] [other] (secondary) It failed.\n"


def test_debugging_shows_more(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup(LogSettings(True, 1))
    logging.getLogger("x").debug("Shown.")
    logging.getLogger("x").critical("Too.")
    assert capsys.readouterr().err == "[DEBUG][1] Shown.\n[CRIT] Too.\n"


def test_the_background_logs_to_syslog(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        assert logs.setup(LogSettings(False, 0))
        logging.getLogger("x").error("Bad.")
        line = syslog.recv(1000)
    assert line == f"<27>hastd[{os.getpid()}]: [ERROR] Bad.\0".encode()


def test_no_syslog_is_noticed_and_survived(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "missing"))
    assert not logs.setup(LogSettings(False, 0))
    logging.getLogger("x").error("Into the void.")


def test_the_foreground_process_returns_when_the_daemon_serves(tmp_path: Path) -> None:
    fifo, seen = tmp_path / "fifo", tmp_path / "seen"
    os.mkfifo(fifo)
    result = python(
        "import os\nfrom hastfs.daemon.daemonize import detach\n"
        f"detached = detach()\nopen({str(seen)!r}, 'w').write(f'{{os.getcwd()}} {{os.getsid(0) != os.getpid()}}')\n"
        f"detached.serving()\nopen({str(fifo)!r}).read()"
    )  # returns although the daemon still runs: it has none of the pipes
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert seen.read_text() == "/ True"
    fifo.write_text("end")


def test_the_foreground_process_says_when_the_daemon_does_not_come_up() -> None:
    result = python("from hastfs.daemon.daemonize import detach\ndetach()\nraise SystemExit(3)")
    assert result.returncode == 71
    assert "did not start" in result.stderr
