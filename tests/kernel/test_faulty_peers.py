"""Peers that vanish, freeze, crawl or flap, each under a load that verifies what it wrote.

Three machines: `near` is primary for all resources, `far` secondary for all but one, whose secondary is `frozen`. Each
resource has a wire of its own, and a fault of its own; all faults happen at the same time, in one story, of which the
tests look at one resource each. It takes half a minute, most of which a secondary takes a silent primary for alive.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kernel import machine, usage
from tests.kernel.component import first_difference
from tests.kernel.load import Fio
from tests.kernel.many import ManyNode
from tests.kernel.namespace import Namespace, Wire
from tests.kernel.node import MIB
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

TIMEOUT = 3
"""Seconds (hast.conf(5))."""

SLACK = 5.0
"""Seconds beyond the timeout that a stall may take on a busy machine."""

RECONNECTS_WITHIN = 40.0
"""Seconds; on a quiet machine it takes at most an attempt that is under way and the longest pause, 13 s."""

NARROW = "32mbit"
"""What goes through the wire of a slow peer: 4 MB a second."""

ATTEMPT = re.compile(r"\) (Connected|No connection|Unable to connect) to ")
"""In the primary's log: each attempt to connect says one of these."""

FROZEN = "frozen"

BUSY_RANGE = 4 * MIB


class Host(ManyNode):
    """A node in a network of its own."""

    listen = "tcp4://0.0.0.0"

    def __init__(self, root: Path, label: str, namespace: Namespace) -> None:
        super().__init__(root, label, TIMEOUT)
        self.namespace = namespace

    def hastd_command(self, *arguments: str) -> list[str]:
        return self.namespace.command(*super().hastd_command(*arguments))


@dataclass
class Outcome:
    """Of one resource. Times in seconds, the rest in bytes or counted by the primary."""

    stall: float = 0.0
    degraded_after: float = 0.0
    noticed_after: float = 0.0
    """By the secondary; 0 if nobody waited for that."""
    reconnected_after: float = 0.0
    flush: float = 0.0
    """Of what the load had written last."""
    attempts: int = 0
    """To connect, with and without success."""
    disconnects: int = 0
    descriptors: int = 0
    """That the primary's worker has more than before."""
    memory: int = 0
    """At most, of the primary's worker; without what it took before the load."""
    written: int = 0
    difference: str = "not compared"

    def __str__(self) -> str:
        return (
            f"stall {self.stall:.2f} s, flush {self.flush:.2f} s, degraded after {self.degraded_after:.1f} s, noticed "
            f"by the secondary after {self.noticed_after:.1f} s, back after {self.reconnected_after:.1f} s, "
            f"attempts {self.attempts}, links lost {self.disconnects}, memory +{self.memory / MIB:.1f} MiB, written "
            f"{self.written / MIB:.0f} MiB, {self.difference or 'equal'}"
        )


@dataclass
class Line:
    """A resource, its nodes and the wire between them."""

    name: str
    near: Host
    far: Host
    wire: Wire
    root: Path
    users: list[subprocess.Popen[bytes]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def device(self) -> Path:
        return self.near.device_of(self.name)

    def writes(self) -> int:
        return self.near.ask(self.name).stats["stat_write"]

    def until_written(self) -> None:
        """The load goes on: more writes have reached the primary."""
        enough = self.writes() + 20
        wait_for(lambda: self.writes() > enough, f"{self.name}: the load goes on")

    def until_status(self, status: str, timeout: float) -> float:
        """Returns how long it took."""
        return self._timed(lambda: self.near.ask(self.name).status == status, f"{status} on the primary", timeout)

    def until_noticed(self, disconnects: int) -> float:
        """Returns how long it took the secondary to notice more than so many ends of the link."""
        return self._timed(lambda: self.far.said("disconnect", self.name) > disconnects, "noticed by the secondary", 40)

    def _timed(self, probe: Callable[[], bool], what: str, timeout: float) -> float:
        start = time.monotonic()
        wait_for(probe, f"{self.name}: {what}", timeout=timeout)
        return time.monotonic() - start

    def until_in_sync(self) -> None:
        def in_sync() -> bool:
            status = self.near.ask(self.name)
            return status.status == "complete" and status.dirty == 0

        wait_for(in_sync, f"{self.name}: in sync", timeout=RECONNECTS_WITHIN)

    def compare(self) -> None:
        self.outcome.difference = first_difference(self.near.area_of(self.name), self.far.area_of(self.name))


@dataclass(frozen=True)
class Fault:
    """What happens to a resource, and what ends it."""

    name: str
    replication: str
    happen: Callable[[Line], None]
    """With a load on the line. Everything is in order again when it returns."""
    load: int = 9
    """Seconds."""
    rate: str = "2m"


def broken(begin: Callable[[Line], None], end: Callable[[Line], None], *, noticed: bool) -> Callable[[Line], None]:
    """It lasts until the primary has gone on alone for a while; `noticed`: and until the secondary knows, too."""

    def happen(line: Line) -> None:
        before = line.far.said("disconnect", line.name)
        begin(line)
        line.outcome.degraded_after = line.until_status("degraded", TIMEOUT + SLACK)
        line.until_written()
        if noticed:
            line.outcome.noticed_after = line.outcome.degraded_after + line.until_noticed(before)
        end(line)
        line.outcome.reconnected_after = line.until_status("complete", RECONNECTS_WITHIN)

    return happen


def worker_stopped(line: Line) -> None:
    """The secondary's. Nobody lets it go on: it has to make room for the next link all the same."""
    stopped = line.far.worker(line.name)
    before = line.far.said("disconnect", line.name)
    os.kill(stopped, signal.SIGSTOP)
    line.outcome.degraded_after = line.until_status("degraded", TIMEOUT + SLACK)
    line.until_noticed(before)
    line.outcome.reconnected_after = line.until_status("complete", RECONNECTS_WITHIN)
    assert line.far.worker(line.name) != stopped


def machine_frozen(line: Line) -> None:
    """Supervisor and worker at once. When they go on, the old link has writes in it that are out of date."""
    frozen = line.far.processes()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    line.outcome.degraded_after = line.until_status("degraded", TIMEOUT + SLACK)
    line.until_written()
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    line.outcome.reconnected_after = line.until_status("complete", RECONNECTS_WITHIN)


def primary_stopped(line: Line) -> None:
    """The primary's worker: its applications wait for it, and the secondary lets go of it."""
    before = line.far.said("disconnect", line.name)
    pid = line.near.worker(line.name)
    os.kill(pid, signal.SIGSTOP)
    line.outcome.noticed_after = line.until_noticed(before)
    os.kill(pid, signal.SIGCONT)
    line.outcome.reconnected_after = line.until_status("complete", RECONNECTS_WITHIN)


def flapping(off: Callable[[Line], None], on: Callable[[Line], None]) -> Callable[[Line], None]:
    """Off and on, 0.3 seconds each, for 10 seconds."""

    def happen(line: Line) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for turn in (off, on):
                turn(line)
                time.sleep(0.3)
        line.outcome.reconnected_after = line.until_status("complete", RECONNECTS_WITHIN)

    return happen


def slow(line: Line) -> None:
    """It is from the beginning, and stays so."""


def mend(line: Line) -> None:
    line.wire.mend()


def pull(line: Line) -> None:
    line.wire.pull()


def plug(line: Line) -> None:
    line.wire.plug()


def reset(line: Line) -> None:
    line.wire.reset(line.wire.there)


def lose_requests(line: Line) -> None:
    line.wire.lose(line.wire.there)


def lose_replies(line: Line) -> None:
    line.wire.lose(line.wire.here)


def lose_all(line: Line) -> None:
    line.wire.lose(line.wire.here, line.wire.there)


SILENT = 25
"""Seconds of load where the secondary is waited for until it takes the primary for dead."""

FAULTS = [
    Fault("requests-lost", "fullsync", broken(lose_requests, mend, noticed=True), SILENT),
    Fault("replies-lost", "fullsync", broken(lose_replies, mend, noticed=False)),
    Fault("all-lost", "memsync", broken(lose_all, mend, noticed=False)),
    Fault("cable-pulled", "async", broken(pull, plug, noticed=False)),
    Fault("resets", "fullsync", broken(reset, mend, noticed=False)),
    Fault("worker-stopped", "fullsync", worker_stopped, 14),
    Fault(FROZEN, "memsync", machine_frozen),
    Fault("primary-stopped", "fullsync", primary_stopped, SILENT),
    Fault("flapping-cable", "fullsync", flapping(pull, plug), 12),
    Fault("flapping-resets", "memsync", flapping(reset, mend), 12),
    Fault("slow-fullsync", "fullsync", slow, 8, "100m"),
    Fault("slow-memsync", "memsync", slow, 8, "100m"),
    Fault("slow-async", "async", slow, 8, "100m"),
]
BROKEN = [fault.name for fault in FAULTS if not fault.name.startswith(("slow", "flapping", "primary"))]
SLOW = [fault.name for fault in FAULTS if fault.name.startswith("slow")]
FLAPPING = [fault.name for fault in FAULTS if fault.name.startswith("flapping")]


class Story:
    """All the lines, and what became of them."""

    def __init__(self, root: Path, steps: contextlib.ExitStack) -> None:
        self.root = root
        self._steps = steps
        self.near, self.far, self.frozen = (self._host(label) for label in ("near", "far", FROZEN))
        self.hosts = (self.near, self.far, self.frozen)
        self.lines = {fault.name: self._line(number, fault.name) for number, fault in enumerate(FAULTS)}
        self._told: dict[str, Future[None]] = {}
        self.leaked: dict[str, int] = {}
        """Descriptors that each supervisor has more than before."""

    def _host(self, label: str) -> Host:
        namespace = Namespace(f"{self.root.name}-{label}")
        self._steps.callback(namespace.remove)
        host = Host(self.root, label, namespace)
        self._steps.callback(host.clean_up)
        return host

    def _line(self, number: int, name: str) -> Line:
        far = self.frozen if name == FROZEN else self.far
        line = Line(name, self.near, far, Wire(number, self.near.namespace, far.namespace), self.root)
        if name in SLOW:
            line.wire.narrow(NARROW)
        return line

    def start(self) -> None:
        resources: dict[Host, dict[str, str]] = {host: {} for host in self.hosts}
        for fault in FAULTS:
            line = self.lines[fault.name]
            for host, remote in ((line.near, line.wire.there_ip), (line.far, line.wire.here_ip)):
                on = f"on {socket.gethostname()} {{ remote tcp4://{remote} }}"
                resources[host][fault.name] = f"replication {fault.replication} {on}"
        for host in self.hosts:
            host.configure(resources[host])
            host.make_components(*resources[host])
            host.launch()
        for host in self.hosts:
            host.wait_ready()
        for host in (self.far, self.frozen):
            host.hastctl("role", "secondary", "all")
        self.near.hastctl("role", "primary", "all")
        for line in self.lines.values():
            line.until_status("complete", 30)

    def tell(self) -> None:
        before = {host: usage.descriptors(host.supervisor()) for host in self.hosts}
        with ThreadPoolExecutor(len(FAULTS)) as pool:
            self._told = {fault.name: pool.submit(_suffer, self.lines[fault.name], fault) for fault in FAULTS}
        for host in self.hosts:
            self.leaked[host.label] = usage.descriptors(host.supervisor()) - before[host]
        for line in self.lines.values():
            attempts = [text for text in self.near.lines_of(line.name) if ATTEMPT.search(text)]
            line.outcome.attempts = len(attempts)
            line.outcome.disconnects = self.near.said("disconnect", line.name)
        for host in self.hosts:
            host.hastctl("role", "init", "all", check=False)  # a line that went wrong may still be in use
        for line in self.lines.values():
            line.compare()
            print(f"{line.name}: {line.outcome}")

    def outcome(self, name: str) -> Outcome:
        """Raises what went wrong on that line; prints what happened, for a test that fails."""
        line = self.lines[name]
        print(line.outcome, *(f"{host.label}: {text}" for host in self.hosts for text in host.lines_of(name)), sep="\n")
        self._told[name].result()
        return line.outcome

    def clean_up(self) -> None:
        """What no node does for itself when it was killed."""
        machine.kill_sessions([session for host in self.hosts for session in host.sessions])
        for line in self.lines.values():
            for user in line.users:
                user.communicate(timeout=20)
            line.device.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other tests have links there, or nobody ever had
            Path("/dev/hast").rmdir()


def _suffer(line: Line, fault: Fault) -> None:
    worker = line.near.worker(line.name)
    memory, descriptors = usage.resident(worker), usage.descriptors(worker)
    usage.forget_most(worker)
    with Fio(line.device, line, seconds=fault.load, size=BUSY_RANGE, rate=fault.rate) as load:
        line.until_written()
        fault.happen(line)
        load.finish()
    line.outcome.flush = _flush(line.device)
    line.until_in_sync()
    line.outcome.stall, line.outcome.written = load.longest_stall, load.written
    line.outcome.memory = usage.most_resident(worker) - memory
    line.outcome.descriptors = usage.descriptors(worker) - descriptors


def _flush(device: Path) -> float:
    """Returns how long it took."""
    start = time.monotonic()
    fd = os.open(device, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    with contextlib.ExitStack() as steps:  # every step is done, also when one fails
        steps.callback(shutil.rmtree, root)
        steps.callback(machine.release, root)
        told = Story(root, steps)
        steps.callback(told.clean_up)
        told.start()
        told.tell()
        yield told


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_peer_costs_the_timeout_and_no_error(story: Story, name: str) -> None:
    assert story.outcome(name).stall < TIMEOUT + SLACK


def test_a_reset_costs_less_than_the_timeout(story: Story) -> None:
    assert story.outcome("resets").stall < TIMEOUT


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_in_the_end_both_nodes_have_the_same(story: Story, name: str) -> None:
    assert story.outcome(name).difference == ""


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_peer_is_waited_for_in_bounded_memory(story: Story, name: str) -> None:
    outcome = story.outcome(name)
    assert outcome.disconnects == 0
    assert outcome.memory < 64 * MIB


@pytest.mark.parametrize("name", FLAPPING)
def test_a_flapping_link_costs_no_memory_and_is_not_dialled_without_pause(story: Story, name: str) -> None:
    outcome = story.outcome(name)
    assert outcome.memory < 32 * MIB
    assert outcome.descriptors <= 0
    assert 1 < outcome.attempts < 25


def test_a_primary_that_is_silent_is_given_up_by_its_secondary(story: Story) -> None:
    assert story.outcome("primary-stopped").noticed_after < 25


def test_nobody_keeps_a_descriptor_or_crashes(story: Story) -> None:
    assert all(extra <= 0 for extra in story.leaked.values()), story.leaked
    for host in story.hosts:
        assert "Traceback" not in host.log.read_text(errors="replace"), host.tail(400)
