"""HastFS: real daemons, one for each node, with configurations of their own, on this machine."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.systems import Start, System
from hastfs.cli.client import Client
from hastfs.errors import HastError
from hastfs.model import Role
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus

PROJECT = Path(__file__).resolve().parents[2]
RESOURCE = "bench"
SYNC_BEGINS, SYNC_ENDS = "Synchronization started", "Nodes are in sync"
"""What the primary's log says."""


class Node:
    """One hastd. Its components are `root`/RESOURCE, unless told otherwise; start it with `running`."""

    def __init__(self, root: Path, label: str, resources: Sequence[str] = (RESOURCE,)) -> None:
        self.root = root / label
        self.root.mkdir(parents=True)
        self.label = label
        self.resources = tuple(resources)
        self.port = machine.free_port()
        self.config = self.root / "hast.conf"
        self.control = self.root / "hastctl"
        self.pid = 0

    def component(self, resource: str = RESOURCE) -> Path:
        return self.root / resource

    def provider(self, resource: str = RESOURCE) -> str:
        """Below /dev/hast there must not be another one, of a neighbour's run either."""
        return f"{self.root.parent.name}-{self.label}-{resource}"

    def image(self, resource: str = RESOURCE) -> Path:
        return self.root / "run" / self.provider(resource)

    def device(self, resource: str = RESOURCE) -> Path:
        """Only there with `device`."""
        return Path("/dev/hast") / self.provider(resource)

    def configure(self, remote: str, replication: str = "fullsync", *, device: bool = False, timeout: int = 20) -> None:
        """`remote`: an address or `none`. Everything that is not said is HAST's default."""
        blocks = "".join(
            f"resource {name} {{ name {self.provider(name)} local {self.component(name)} device {_switch(device)}"
            f" on {socket.gethostname()} {{ remote {remote} }} }}\n"
            for name in self.resources
        )
        self.config.write_text(
            f"control {self.control}\npidfile {self.root}/hastd.pid\nlisten tcp4://127.0.0.1:{self.port}\n"
            f"mountdir {self.root}/run\nreplication {replication}\ntimeout {timeout}\n{blocks}"
        )

    def said(self, words: str) -> int:
        """How often the log has these words. A hook would tell as well, but after a process has been started."""
        return (self.root / "log").read_text().count(words)

    def wait_said(self, words: str, before: int, within: float = 300) -> float:
        """Until they were said once more than `before`; returns the time (time.monotonic)."""
        machine.wait_until(lambda: self.said(words) > before, f"hastd says {words!r}", within, interval=0.001)
        return time.monotonic()

    def hastctl(self, command: str, *arguments: str) -> str:
        """The real program, with all that starting it takes."""
        argv = (sys.executable, "-m", "hastfs.cli.hastctl", command, "-c", str(self.config), *arguments)
        return machine.run(*argv, cwd=PROJECT)

    @contextlib.contextmanager
    def running(self) -> Iterator[Node]:
        """Components are there and have metadata (`hastctl create`)."""
        argv = (sys.executable, "-m", "hastfs.cli.hastd", "-F", "-c", self.config)
        with contextlib.ExitStack() as stack:
            stack.callback(self._clear)
            self.pid = stack.enter_context(machine.process(*argv, log=self.root / "log", cwd=PROJECT))
            try:
                machine.wait_until(self._answers, f"hastd of node {self.label} answers")
            except machine.BenchmarkError as error:
                raise machine.BenchmarkError(f"{error}: {(self.root / 'log').read_text()[-500:]}") from error
            yield self

    def _answers(self) -> bool:
        try:
            self.status(self.resources[0])
        except HastError:
            return False
        return True

    def _clear(self) -> None:
        """What a killed hastd leaves."""
        for name in self.resources:
            link = self.device(name)
            if link.is_symlink():
                machine.run("losetup", "-d", link.readlink(), check=False)
                link.unlink(missing_ok=True)
            if machine.is_mounted(self.image(name)):
                machine.unmount(self.image(name))

    def kill(self) -> None:
        """SIGKILL to hastd and its workers, as a power failure would."""
        machine.kill_group(self.pid, signal.SIGKILL)

    def status(self, resource: str = RESOURCE) -> ResourceStatus:
        """Raises HastError."""
        with Client(str(self.control), 20) as client:
            return client.ask(Request(ControlCommand.STATUS, resources=(resource,))).resources[0]

    def role(self, role: Role, *resources: str) -> None:
        """Over the control socket, without starting hastctl; returns when the answer is there."""
        with Client(str(self.control), 60) as client:
            reply = client.ask(Request(ControlCommand.SETROLE, role, resources=resources or (RESOURCE,)))
        for resource in reply.resources:
            if resource.error:
                raise machine.BenchmarkError(f"role {role.name} of {resource.resource}: error {resource.error}")

    def become_primary(self) -> None:
        """And usable: of all its resources."""
        self.role(Role.PRIMARY, *self.resources)
        for name in self.resources:
            machine.wait_until(partial(self.is_usable, name), f"the image of {name} is there")

    def is_usable(self, resource: str = RESOURCE) -> bool:
        image = self.image(resource)
        return machine.is_mounted(image) and image.stat().st_size > 0

    def worker(self, resource: str = RESOURCE) -> int:
        """Its pid; 0 if there is none."""
        return self.status(resource).workerpid or 0

    def map_updates(self) -> int:
        return self.status().stats.get("stat_activemap_update", 0)

    def wait_synced(self, resource: str = RESOURCE, within: float = 120) -> None:
        """Connected, and nothing left to copy but what was just written."""
        machine.wait_until(lambda: self.status(resource).status == "complete", f"{resource} is complete", within)


class Pair:
    """Nodes a (primary) and b on this machine."""

    def __init__(
        self,
        root: Path,
        replication: str = "fullsync",
        resources: Sequence[str] = (RESOURCE,),
        *,
        device: bool = False,
    ) -> None:
        self.a = Node(root, "a", resources)
        self.b = Node(root, "b", resources)
        self.a.configure(f"tcp4://127.0.0.1:{self.b.port}", replication, device=device)
        self.b.configure(f"tcp4://127.0.0.1:{self.a.port}", replication, device=device)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return (self.a, self.b)

    def create(self, size: int, *, filled: bool) -> None:
        """Components of `size` bytes, with the same random bytes on both or sparse."""
        for node in self.nodes:
            for name in node.resources:
                make_component(node.component(name), size, filled=filled)
            node.hastctl("create", *node.resources)

    @contextlib.contextmanager
    def running(self) -> Iterator[Pair]:
        """a is primary, and both have met."""
        with self.b.running(), self.a.running():
            self.b.role(Role.SECONDARY, *self.b.resources)
            self.a.become_primary()
            for name in self.a.resources:
                self.a.wait_synced(name)
            yield self

    def pids(self) -> dict[str, int]:
        return {"primary": self.a.worker(), "secondary": self.b.worker()}


def make_component(path: Path, size: int, *, filled: bool) -> None:
    if filled:
        machine.fill(path, size)
    else:
        with path.open("wb") as file:
            file.truncate(size)


@contextlib.contextmanager
def alone(root: Path, size: int) -> Iterator[System]:
    """`remote none`."""
    node = Node(root, "a")
    node.configure("none")
    make_component(node.component(), size, filled=True)
    node.hastctl("create", RESOURCE)
    with node.running():
        node.become_primary()
        yield System("none", node.image(), {"primary": node.worker()})


def pair(replication: str) -> Start:
    @contextlib.contextmanager
    def start(root: Path, size: int) -> Iterator[System]:
        made = Pair(root, replication)
        made.create(size, filled=True)
        with made.running():
            yield System(replication, made.a.image(), made.pids())

    return start


def _switch(on: bool) -> str:
    return "on" if on else "off"
