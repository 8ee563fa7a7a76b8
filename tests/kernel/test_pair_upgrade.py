"""hastd is replaced by the program that is installed now, while applications use the disk: same process, no error."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hastfs import __version__
from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files, Fio
from tests.kernel.node import MIB, PROJECT, RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

LONGEST_PAUSE = 15.0
"""Seconds; on a quiet machine it is a tenth of one."""


class Prober:
    """Writes a block and flushes it, on and on: how long does that take at the longest?"""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._worst = 0.0
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def worst(self) -> float:
        """Seconds, since this was last asked."""
        worst, self._worst = self._worst, 0.0
        return worst

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the prober hangs on the disk"
        assert self._failure is None, f"the prober met an error: {self._failure}"

    def _work(self) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not self._stop.is_set():
                    began = time.monotonic()
                    os.pwrite(fd, b"probe" * 100, 0)
                    os.fsync(fd)
                    self._worst = max(self._worst, time.monotonic() - began)
            finally:
                os.close(fd)
        except OSError as error:
            self._failure = error


def upgrade(node: Node) -> str:
    """`hastctl upgrade`, which has to work; the version that it reports."""
    process = node.process
    assert process is not None
    said = node.hastctl("upgrade").stdout
    match = re.fullmatch(r"hastd was version (\S+), and is version (\S+) now\.\n", said)
    assert match is not None, said
    assert process.poll() is None
    assert node.pidfile.read_text() == f"{process.pid}\n"
    return match[2]


def write(node: Node, data: bytes) -> None:
    """To the beginning of the disk, flushed."""
    with node.image.open("r+b", buffering=0) as image:
        os.pwrite(image.fileno(), data, 0)
        os.fsync(image.fileno())


def test_both_nodes_are_upgraded_under_load_and_applications_see_a_pause(
    make_pair: MakePair, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = make_pair(Options("fullsync", device=True))
    pair.start()
    pair.connect()
    files = Files(pair.a.device, pair.root / "mnt")
    files.make()
    files.mount()
    loop = os.readlink(pair.a.device)
    pauses: dict[str, list[float]] = {"a": [], "b": []}
    try:
        prober = Prober(files.mountpoint / "probe")
        with Fio(files.mountpoint / "load", pair, seconds=120, size=16 * MIB) as fio, prober.running():
            workers = {pair.a.fields()["workerpid"]}
            for node in (pair.a, pair.b, pair.a, pair.a, pair.b, pair.a, pair.a):
                prober.worst()
                upgrade(node)
                pair.a.until_status("complete")
                pauses[node.label].append(prober.worst())
                workers.add(pair.a.fields()["workerpid"])
                assert fio.running()
            fio.end()
        assert len(workers) == 6
        assert os.readlink(pair.a.device) == loop
    finally:
        files.umount()
    with capsys.disabled():
        print(f" [worst pause: primary {max(pauses['a']):.2f} s, secondary {max(pauses['b']):.2f} s]", end="")
    assert max(pauses["a"] + pauses["b"]) < LONGEST_PAUSE
    files.check_structure()
    assert pair.a.count("role") == 1, "nobody heard of a change of role"
    pair.a.until(lambda: pair.a.dirty() == 0, "what the other node missed is copied", timeout=60)
    pair.rest()
    pair.assert_equal()
    assert machine.mounts_below(pair.root) == []
    for node in pair.nodes:
        node.stop()


class Installation:
    """A copy of the program, which is changed under a hastd that runs from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(PROJECT / "hastfs", root / "hastfs", ignore=shutil.ignore_patterns("__pycache__"))

    def replace(self, path: str, before: str, after: str) -> None:
        file = self.root / "hastfs" / path
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))

    @contextmanager
    def with_replaced(self, path: str, before: str, after: str) -> Iterator[None]:
        text = (self.root / "hastfs" / path).read_text()
        self.replace(path, before, after)
        yield
        (self.root / "hastfs" / path).write_text(text)


@pytest.fixture
def installed(make_pair: MakePair) -> tuple[Node, Installation]:
    """A primary that runs from an installation of its own, with data on its disk."""
    node = make_pair(Options(timeout=1)).a
    node.installation = node.root / "installed"
    installation = Installation(node.installation)
    node.create()
    node.start()
    node.become_primary()
    write(node, b"data" * 1024)
    return node, installation


def assert_served(node: Node) -> None:
    with node.image.open("rb", buffering=0) as image:
        assert os.pread(image.fileno(), 4096, 0) == b"data" * 1024
    write(node, b"data" * 128)


def test_the_program_that_is_installed_now_is_what_serves_then(installed: tuple[Node, Installation]) -> None:
    node, installation = installed
    installation.replace("__init__.py", f'"{__version__}"', '"99.0"')
    installation.replace("resource/primary.py", 'else "degraded"', 'else "new"')
    assert upgrade(node) == "99.0"
    assert node.status().status == "new", "the worker is a new one as well"
    assert_served(node)
    assert "[INFO] hastd 99.0 took over from version 0.1.0." in node.log.read_text()
    node.role("init")
    node.become_primary()
    assert_served(node)
    node.stop()
    assert machine.mounts_below(node.root) == []


def test_a_program_that_cannot_take_over_leaves_the_one_that_runs_alone(installed: tuple[Node, Installation]) -> None:
    node, installation = installed
    worker = node.fields()["workerpid"]

    def refused(reason: str, code: int = 71) -> None:
        done = node.hastctl("upgrade", check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert re.search(reason, done.stderr), done.stderr
        assert node.fields()["workerpid"] == worker
        assert_served(node)

    with installation.with_replaced("cli/hastd.py", "def main", "deaf main"):
        refused("cannot take over: SyntaxError: invalid syntax")
    with installation.with_replaced("resource/primary.py", "import trio", "import trio_of_tomorrow"):
        refused("cannot take over: ModuleNotFoundError: No module named 'trio_of_tomorrow'")
    with installation.with_replaced("daemon/inheritance.py", "FORMAT = 1", "FORMAT = 2"):
        refused("does not know what that leaves")
    with installation.with_replaced("cli/options.py", "CAN_INHERIT, INHERIT)", ")"):
        refused("unrecognized option '--can-inherit'")
    text = node.config.read_text()
    node.config.write_text(text.replace("device off", "device on"))
    refused(rf"not yet in force \(resource {RESOURCE}\)")
    node.config.write_text(text)
    hidden = node.installation.rename(node.root / "hidden")
    refused("No such file or directory")
    hidden.rename(node.installation)
    upgrade(node)
    assert_served(node)
    node.stop()


def test_a_hastd_that_is_ended_in_the_middle_of_an_upgrade_leaves_nothing_that_the_next_one_minds(
    make_pair: MakePair,
) -> None:
    node = make_pair(Options(timeout=1, device=True)).a
    node.create()
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    data = os.urandom(4096)
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        node.start()
        node.become_primary()
        write(node, data)
        delay = moments.uniform(0.0, 1.5)
        print(f"seed {seed}: signal {end} after {delay:.3f} s")
        with asking(node, "upgrade"):
            time.sleep(delay)  # not for anything to happen by then: the moment is to be any
            assert node.process is not None
            os.kill(node.process.pid, end)
            code = node.process.wait(timeout=30)
        assert code == (0 if end == signal.SIGTERM else -end), node.tail()
        node.until(lambda: not node.processes(), "all processes of the node end by themselves", timeout=20)
        if end == signal.SIGTERM:
            assert machine.mounts_below(node.root) == []
    node.start()
    node.become_primary()
    with node.image.open("rb") as image:
        assert image.read(len(data)) == data
    node.stop()
    assert machine.mounts_below(node.root) == []
    assert machine.loops_below(node.root) == []
    assert not node.device.is_symlink()


@contextmanager
def asking(node: Node, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """hastctl in a process of its own, which ends in time."""
    command = [sys.executable, "-m", "hastfs.cli.hastctl", *arguments, "-c", str(node.config)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
            process.wait(timeout=60)
        finally:
            process.kill()


def test_an_upgrade_waits_for_a_change_of_role(pair: Pair) -> None:
    """b is primary, so a waits for it to step down; then a is upgraded as what it has become."""
    pair.a.role("secondary")
    pair.b.become_primary()
    pair.b.until_status("complete")
    with asking(pair.a, "role", "primary", RESOURCE) as role:
        pair.a.until_event("disconnect")
        with asking(pair.a, "upgrade") as upgraded:
            pair.b.role("secondary")
    assert (role.returncode, upgraded.returncode) == (0, 0)
    pair.a.until_status("complete")
    assert pair.a.status().role == "primary"
