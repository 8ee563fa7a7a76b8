"""The units in examples/systemd: systemd finds nothing wrong with them, and what they call does its work in this order.

No systemd starts them here: the test reads the commands out of the files, and has a socket of its own for what hastd
says to systemd.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.node import PROJECT, RESOURCE, Node, Options
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

UNITS = PROJECT / "examples" / "systemd"


def commands(unit: str, word: str) -> list[str]:
    """The values of `word=` in the unit, in order."""
    return re.findall(rf"^{word}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def install(root: Path, node: Node | None = None) -> Path:
    """Programs that stand for those in /usr/sbin; with a node, they work on that."""
    programs = root / "sbin"
    programs.mkdir()
    for name in ("hastd", "hastctl"):
        program = programs / name
        options = "" if node is None else f' "$@" -c {node.config}'
        if node is not None and name == "hastctl":
            options = f' "$1" -c {node.config} "${{@:2}}"'
        program.write_text(f"#!/bin/bash\ncd {PROJECT}\nexec {sys.executable} -m hastfs.cli.{name}{options}\n")
        program.chmod(0o755)
    return programs


def test_systemd_finds_nothing_wrong_with_the_units(scratch: Path) -> None:
    programs = install(scratch)
    for unit in UNITS.iterdir():
        (scratch / unit.name).write_text(unit.read_text().replace("/usr/sbin/hast", f"{programs}/hast"))
    units = [str(scratch / name.replace("@", "@disk")) for name in ("hastd.service", "hast@.service", "hast.target")]
    units.append(str(scratch / "hast-fs@disk.service"))
    for template in ("hast@", "hast-fs@"):
        (scratch / f"{template}disk.service").write_text((scratch / f"{template}.service").read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{scratch}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in done.stderr.splitlines() if "hast" in line]
    assert wrong == []
    assert done.returncode == 0, done.stderr


class Systemd:
    """Hears what hastd sends to NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self._read = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.lines += message.decode().split("\n")

    def await_line(self, wanted: str) -> None:
        """Waits for it, after the one that was waited for before."""
        wait_for(lambda: wanted in self.lines[self._read :], f"systemd hears {wanted}", timeout=30)
        self._read = self.lines.index(wanted, self._read) + 1

    def hears_within(self, seconds: float) -> bool:
        """Whether there is a message in so many seconds."""
        self._read = len(self.lines)
        time.sleep(seconds)
        return len(self.lines) > self._read

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def systemd(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(scratch / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(scratch / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    yield made
    made.close()


def test_the_units_commands_bring_a_file_system_up_and_down(
    systemd: Systemd, make_pair: MakePair, scratch: Path
) -> None:
    node = make_pair(Options(device=True, mediasize=64 << 20)).a
    node.config.write_text(re.sub(r"remote \S+", "remote none", node.config.read_text()))
    node.create()
    programs = install(scratch, node)
    mountpoint = scratch / "fs"
    node.hook.write_text(f"#!/bin/sh\nenv >>{scratch}/environments\n")

    def nobody_else_could_speak_to_systemd() -> None:
        """A container that a hook starts, for example, would wait until it is ready, or say so in hastd's place."""
        assert node.process is not None
        others = [pid for pid in node.processes() if pid != node.process.pid]
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in others]
        assert len(others) >= 2, "the worker and where it came from"
        assert "NOTIFY_SOCKET" not in "".join(environments)
        assert (scratch / "environments").exists()
        assert "NOTIFY_SOCKET" not in (scratch / "environments").read_text()

    def run(unit: str, word: str) -> None:
        for command in commands(unit, word):
            line = command.replace("/usr/sbin/", f"{programs}/").replace("/srv/hast/%i", str(mountpoint))
            line = line.replace("/dev/hast/%i", str(node.device)).replace("%i", RESOURCE)
            done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}\n{node.tail()}"

    assert commands("hastd.service", "ExecStart") == ["/usr/sbin/hastd -F"]
    node.launch()
    assert node.process is not None
    systemd.await_line("READY=1")
    systemd.await_line(f"MAINPID={node.process.pid}")
    assert node.hastctl("status").returncode == 0, "ready means that it serves"

    run("hast@.service", "ExecStart")
    assert "hast@%i.service" in commands("hast-fs@.service", "After")[0], "the role comes first, and goes last"
    machine.run("mkfs.ext4", "-q", node.device)
    try:
        run("hast-fs@.service", "ExecStartPre")
        run("hast-fs@.service", "ExecStart")
        (mountpoint / "file").write_text("kept")
        systemd.await_line("STATUS=Resources: 1 primary, 0 secondary, 0 init.")
        run("hastd.service", "ExecReload")
        systemd.await_line("RELOADING=1")
        systemd.await_line("READY=1")
        nobody_else_could_speak_to_systemd()
        node.hastctl("upgrade")
        systemd.await_line("READY=1")
        nobody_else_could_speak_to_systemd()
        run("hast-fs@.service", "ExecStop")
    finally:
        subprocess.run(["umount", "-q", str(mountpoint)], check=False)
    run("hast@.service", "ExecStop")
    assert node.status().role == "secondary"
    assert not node.device.exists()

    node.process.send_signal(signal.SIGSTOP)  # a supervisor that hangs
    wait_for(lambda: not systemd.hears_within(0.5), "the watchdog is not fed any more", timeout=10)
    node.process.send_signal(signal.SIGCONT)
    systemd.await_line("WATCHDOG=1")
    node.process.send_signal(signal.SIGTERM)
    systemd.await_line("STOPPING=1")
    wait_for(lambda: node.process is not None and node.process.poll() == 0, "hastd has ended")


@pytest.mark.parametrize("config", [None, "resource {"])
def test_hastd_is_not_started_again_and_again_without_a_hast_conf_that_can_be_used(
    scratch: Path, config: str | None
) -> None:
    path = scratch / "hast.conf"
    if config is not None:
        path.write_text(config)
    command = [sys.executable, "-m", "hastfs.cli.hastd", "-F", "-c", str(path)]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=30)
    (prevented,) = commands("hastd.service", "RestartPreventExitStatus")
    assert str(done.returncode) in prevented.split()
    assert str(path) in done.stderr
    assert "ConditionPathExists" not in (UNITS / "hastd.service").read_text(), (
        "systemctl start would do nothing, in silence"
    )
