"""Workers die, on either node and at any moment: applications on the primary's disk see a pause, and no error."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from hastfs.daemon.roles import MAX_DEATHS, SERVED_WELL
from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files, Fio
from tests.kernel.node import RESOURCE, Node, Options
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

DEATHS = 20
"""Of the primary's workers."""

CRASHES = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)

ENDURABLE = 10.0
"""Seconds; `timeout` of the pair. The longest pause is told, and on a quiet machine some 0.1 s."""

EARLY = 0.15
"""Seconds; a worker that dies so soon after the one before had hardly begun."""


class Prober:
    """An application that writes through to the disk all the time, in a thread, and knows how long it had to wait."""

    def __init__(self, file: Path) -> None:
        self.written = 0
        self.longest = 0.0
        """Seconds."""
        self._file = file
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the prober hangs on the disk"
        if error is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_DSYNC)
            try:
                while not self._stop.wait(0.001):
                    started = time.monotonic()
                    os.pwrite(fd, os.urandom(4096), 0)
                    self.longest = max(self.longest, time.monotonic() - started)
                    self.written += 1
            finally:
                os.close(fd)
        except OSError as error:
            self._error = error

    def goes_on(self) -> None:
        """Returns when a write that began after the call is done."""
        before = self.written
        wait_for(
            lambda: self.written > before + 1 or self._error, "the disk answers", timeout=ENDURABLE, interval=0.005
        )


class KernelLog:
    """What the kernel says from now on."""

    def __init__(self) -> None:
        self._fd: int | None = None
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:  # a container may not read it
            pass

    def about(self, device: str) -> list[str]:
        """Once: the lines that name `device` ("loop0"), as far as they are readable."""
        if self._fd is None:
            return []
        try:
            return [line for line in self._lines(self._fd) if f"{device}:" in line or f"{device}," in line]
        finally:
            os.close(self._fd)

    @staticmethod
    def _lines(fd: int) -> Iterator[str]:
        while True:
            try:
                yield os.read(fd, 8192).decode(errors="replace").partition(";")[2].splitlines()[0]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:  # lines were lost
                    raise


def workers(node: Node, role: str) -> list[int]:
    """The pids of the node's workers that have that role."""
    title, found = f"hastd: {RESOURCE} ({role})".encode(), []
    for pid in node.processes():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title):
                found.append(pid)
        except OSError:  # it has ended
            pass
    return found


def crash(node: Node, role: str, number: int) -> int:
    """Sends the signal to every worker of that role; how many there were."""
    there = workers(node, role)
    for pid in there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return len(there)


def test_no_application_notices_that_workers_are_killed(make_pair: MakePair) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    pair = make_pair(Options(replication="fullsync", device=True, timeout=int(ENDURABLE)), own_names=False)
    pair.start()
    pair.connect()
    files = Files(pair.a.device, pair.root / "disk")
    files.make()
    kernel = KernelLog()
    files.mount()
    tally = {"primary": 0, "secondary": 0, "both": 0}
    started = time.monotonic()
    with (
        Prober(files.mountpoint / "probe") as prober,
        Fio(files.mountpoint / "load", pair, seconds=60) as fio,
    ):
        pair.a.until(lambda: prober.written > 20, "the prober is busy")
        early = 0  # in a row: MAX_DEATHS of them are a reason to give up the role, which is another test's matter
        while tally["primary"] < DEATHS:
            kind = chance.choice(("primary", "primary", "both", "secondary"))
            if kind != "primary":
                crash(pair.b, "secondary", chance.choice(CRASHES))
            if kind != "secondary" and crash(pair.a, "primary", chance.choice(CRASHES)):
                tally["primary"] += 1
            tally[kind] += kind != "primary"
            early += 1
            if early < MAX_DEATHS - 2 and chance.random() < 0.5:
                time.sleep(chance.uniform(0, EARLY))  # the moment is what is tested
            else:
                prober.goes_on()
                time.sleep(SERVED_WELL + chance.uniform(0, EARLY))
                early = 0
        prober.goes_on()
        busy = time.monotonic() - started
        assert fio.running(), "the load ended before the last worker died"
        fio.end()
    print(f"seed {seed}: deaths {tally} in {busy:.1f} s, {prober.written} writes, longest pause {prober.longest:.3f} s")
    assert prober.longest < ENDURABLE
    device = os.path.basename(os.readlink(pair.a.device))
    files.umount()
    files.check_structure()
    assert [line for line in kernel.about(device) if "error" in line.lower()] == []
    assert pair.a.status().role == "primary"
    pair.a.until_status("complete")
    pair.a.until(lambda: pair.a.dirty() <= pair.a.options.keepdirty * pair.a.options.extentsize, "the resync is over")
    pair.rest()
    pair.assert_equal()
    assert machine.loops_below(pair.root) == []


def test_a_worker_that_hangs_is_told_of_and_its_end_is_a_pause(make_pair: MakePair) -> None:
    node = make_pair(Options(device=True)).a
    node.create()
    node.start()
    node.become_primary()
    (worker,) = workers(node, "primary")
    os.kill(worker, signal.SIGSTOP)
    with Prober(node.device) as prober:
        told = node.hastctl("status", RESOURCE, check=False)
        assert told.returncode != 0
        assert f"Worker process {worker} does not answer" in told.stdout + told.stderr
        assert prober.written == 0
        os.kill(worker, signal.SIGKILL)
        prober.goes_on()
    assert node.hastctl("status", RESOURCE).returncode == 0


def test_a_worker_of_one_of_two_primaries_is_replaced_as_well(make_pair: MakePair) -> None:
    pair = make_pair(Options(device=True, timeout=int(ENDURABLE)))
    pair.start()
    pair.connect()
    pair.cut()
    pair.b.become_primary()
    pair.heal()
    with Prober(pair.a.device) as prober:
        prober.goes_on()
        assert crash(pair.a, "primary", signal.SIGKILL) == 1
        prober.goes_on()
    assert prober.longest < ENDURABLE / 2, "the other node was asked to leave its role"
