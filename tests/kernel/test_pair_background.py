"""hastd as init systems start it: in the background, with a pidfile, logging to syslog."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.node import PROJECT, RESOURCE

pytestmark = pytest.mark.kernel


def test_hastd_goes_to_the_background_when_it_is_ready(make_pair: MakePair) -> None:
    node = make_pair().a
    node.create()
    machine.run(*node.hastd_command(), cwd=PROJECT, timeout=30)
    pid = int(node.pidfile.read_text())
    node.sessions.append(os.getsid(pid))
    assert node.status().role == "init", "it answers as soon as the command has returned"
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"

    node.become_primary()
    worker = int(node.fields()["workerpid"])
    assert Path(f"/proc/{worker}/cmdline").read_bytes().startswith(f"hastd: {RESOURCE} (primary)".encode())

    os.kill(pid, signal.SIGTERM)
    node.until(lambda: not node.processes(), "hastd and its worker have ended", timeout=30)
    assert not node.pidfile.exists()
    assert machine.mounts_below(node.root) == []


def test_hastd_in_the_background_is_upgraded_with_the_options_it_was_given(make_pair: MakePair) -> None:
    node = make_pair().a
    node.create()
    pidfile = node.root / "other.pid"
    (node.root / "hastfs").symlink_to(PROJECT / "hastfs")  # what is started is found by where that happens
    machine.run(*node.hastd_command("-P", "other.pid"), cwd=node.root, timeout=30)
    pid = int(pidfile.read_text())
    node.sessions.append(os.getsid(pid))
    node.become_primary()
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(2):
        worker = node.fields()["workerpid"]
        node.hastctl("upgrade")
        assert node.fields()["workerpid"] != worker
        assert pidfile.read_text() == f"{pid}\n"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert "SigBlk:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text()
        node.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= descriptors, "no descriptor is left over")
        for standard in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{standard}") == "/dev/null"
    os.kill(pid, signal.SIGTERM)
    node.until(lambda: not node.processes(), "hastd and its worker have ended", timeout=30)
    assert not pidfile.exists()
    assert machine.mounts_below(node.root) == []


def test_hastd_that_is_asked_to_end_again_and_again_ends_in_order(make_pair: MakePair) -> None:
    node = make_pair().a
    node.create()
    node.start()
    node.become_primary()
    assert node.process is not None
    while node.process.poll() is None:  # an impatient user, up to the last moment
        node.process.send_signal(signal.SIGTERM)
        time.sleep(0.0005)  # a pace; nothing is waited for
    assert node.process.returncode == 0, node.tail()
    assert not node.processes()
    assert machine.mounts_below(node.root) == []
    assert node.log.read_text().count("Termination signal received") == 1
