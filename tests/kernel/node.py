"""A node of a pair on this machine: its config, its component, its hastd, and everything that hastd made."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hastfs.cli import hastctl
from tests.kernel import machine
from tests.kernel.component import DataArea
from tests.kernel.waiting import wait_for

PROJECT = Path(__file__).resolve().parents[2]
ORIGINAL = Path(__file__).parent / "original"
MIB = 1024 * 1024
RESOURCE = "shared"


@dataclass(frozen=True, slots=True)
class Options:
    """What tests vary; sizes in bytes, `timeout` in seconds as in hast.conf(5)."""

    replication: str = "memsync"
    checksum: str = "none"
    compression: str = "hole"
    timeout: int = 10
    device: bool = False
    mediasize: int = 256 * MIB
    extentsize: int = 1 * MIB
    keepdirty: int = 8


@dataclass(frozen=True, slots=True)
class StatusLine:
    """A resource's line of `hastctl status`."""

    name: str
    status: str
    role: str


class Node:
    """`label` tells the nodes of a pair apart; `provider` is the name of the image and of /dev/hast/NAME."""

    resource = RESOURCE
    """The name in hast.conf."""

    def __init__(self, root: Path, label: str, provider: str, options: Options) -> None:
        self.label = label
        self.options = options
        self.root = root / label
        self.root.mkdir()
        self.provider = provider
        self.port = machine.free_port()
        self.config = self.root / "hast.conf"
        self.component = self.root / "component"
        self._own_component = True
        self.control = self.root / "hastctl"
        self.pidfile = self.root / "hastd.pid"
        self.mountdir = self.root / "run"
        self.image = self.mountdir / provider
        self.device = Path("/dev/hast") / provider
        self.log = self.root / "hastd.log"
        self.hook_log = self.root / "hooks"
        self.hook = self.root / "hook.sh"
        self.installation = PROJECT
        """Where the program is that hastd is started from."""
        self.is_original = False
        """Whether its hastd speaks no more than version 2 of the protocol, from its next start on."""
        self.process: subprocess.Popen[bytes] | None = None
        self.sessions: list[int] = []

    # -- set-up

    def keep_on(self, component: Path) -> None:
        """Its component is this file or device, which is there, instead of a file of its own. Before `create`."""
        self.config.write_text(self.config.read_text().replace(f"local {self.component}\n", f"local {component}\n"))
        self.component = component
        self._own_component = False

    def write_config(self, remote_port: int) -> None:
        """A config like two machines would have it, for the node that answers to this machine's name."""
        self.hook.write_text(f'#!/bin/sh\necho "$*" >> {self.hook_log}\n')
        self.hook.chmod(0o755)
        self.config.write_text(
            f"""# node {self.label}
control {self.control}
pidfile {self.pidfile}
listen tcp4://127.0.0.1:{self.port}
mountdir {self.mountdir}
replication {self.options.replication}
checksum {self.options.checksum}
compression {self.options.compression}
timeout {self.options.timeout}
exec {self.hook}

resource {self.resource} {{
    name {self.provider}
    local {self.component}
    device {"on" if self.options.device else "off"}
    on {socket.gethostname()} {{
        remote tcp4://127.0.0.1:{remote_port}
    }}
}}
"""
        )

    def create(self) -> None:
        """A sparse component file with fresh metadata."""
        if self._own_component:
            with self.component.open("wb") as file:
                file.truncate(self.options.mediasize)
        self.hastctl("create", "-e", str(self.options.extentsize), "-k", str(self.options.keepdirty), self.resource)

    # -- the daemon

    def hastd_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hastfs.cli.hastd", *arguments, "-c", str(self.config)]

    def start(self) -> None:
        """hastd in the foreground, in a session of its own; returns when it answers on its control socket."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """As `start`, without waiting."""
        # TMPDIR: whatever hastd leaves there is seen, and goes with the node.
        environment = {**os.environ, "TMPDIR": str(self.root)}
        if self.is_original:
            environment["PYTHONPATH"] = f"{ORIGINAL}:{PROJECT}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.hastd_command("-F", "-d"),
                cwd=self.installation,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.sessions.append(self.process.pid)

    def wait_ready(self) -> None:
        """hastd answers on its control socket."""
        self.until(self._answers, "hastd answers on its control socket", timeout=30)

    def _answers(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"hastd of node {self.label} ended with {code}:\n{self.tail()}"
        return self.control.exists() and self.hastctl("status", check=False).returncode == 0

    def stop(self) -> None:
        """SIGTERM, as an init system would; hastd has to end in order and take everything along."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        assert code == 0, f"hastd of node {self.label} ended with {code} after SIGTERM:\n{self.tail()}"
        self.until(lambda: not self.processes(), "no process of the node is left", timeout=10)
        self.process = None

    def kill(self) -> None:
        """SIGKILL to hastd and all its workers at once, as a power failure would; what they made stays behind."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        machine.kill_sessions(self.sessions)
        self.process.wait(timeout=10)
        self.process = None

    def processes(self) -> list[int]:
        return machine.processes_of(self.sessions)

    def clean_up(self) -> None:
        """Leaves nothing of the node but its files, whatever happened to it. Never raises for what is gone already."""
        machine.kill_sessions(self.sessions)
        if self.process is not None:
            self.process.wait(timeout=10)
            self.process = None
        machine.release(self.root)
        with contextlib.suppress(OSError):  # gone already, or other resources have links there
            # A link that points nowhere, or to a loop device that is free now, is the one we left.
            if self.device.is_symlink() and not self._link_is_live():
                self.device.unlink()
                self.device.parent.rmdir()

    def _link_is_live(self) -> bool:
        loop = Path(os.readlink(self.device)).name
        return Path(f"/sys/block/{loop}/loop/backing_file").exists()

    # -- what users see

    def hastctl(self, command: str, *arguments: str, check: bool = True) -> machine.Completed:
        """hastctl's own main, in this process: tests ask it hundreds of times, and starting Python takes a while."""
        argv = [command, "-c", str(self.config), *arguments]
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            code = hastctl.main(argv)
        done = machine.Completed(argv, code, said.getvalue(), complained.getvalue())
        if check and code != 0:
            raise AssertionError(
                f"hastctl {' '.join(argv)} on node {self.label} ended with {code}: "
                f"{done.stdout}{done.stderr}\n{self.tail()}"
            )
        return done

    def role(self, role: str) -> None:
        """`hastctl role`, which has to work; a primary's image has to be there when it returns."""
        self.hastctl("role", role, self.resource)

    def become_primary(self) -> None:
        """Role primary, and the disk usable."""
        self.role("primary")
        self.until(self.image_is_there, "the image is mounted", timeout=30)
        if self.options.device:
            self.until(self.device.is_block_device, f"{self.device} is a block device", timeout=30)

    def image_is_there(self) -> bool:
        return any(mount.point == str(self.image) for mount in machine.mounts())

    def status(self) -> StatusLine:
        for line in self.hastctl("status", self.resource).stdout.splitlines():
            words = line.split()
            if words and words[0] == self.resource:
                return StatusLine(words[0], words[1], words[2])
        raise AssertionError(f"hastctl status says nothing about {self.resource}")

    def fields(self) -> dict[str, str]:
        """The `key: value` lines of `hastctl list`."""
        text = self.hastctl("list", self.resource).stdout
        return {key: value.strip() for key, value in re.findall(r"^\s+([\w ]+): (.*)$", text, re.MULTILINE)}

    def dirty(self) -> int:
        """Bytes that `hastctl list` calls dirty."""
        return int(self.fields()["dirty"].split()[0])

    def metadata(self) -> dict[str, str]:
        """The fields of `hastctl dump`."""
        text = self.hastctl("dump", self.resource).stdout
        return dict(re.findall(r"^\s+([\w ]+): (.*)$", text, re.MULTILINE))

    def data_area(self) -> DataArea:
        """As the metadata says it."""
        metadata = self.metadata()
        return DataArea(self.component, int(metadata["localoff"]), int(metadata["datasize"].split()[0]))

    def events(self) -> list[str]:
        """What the hook was called with, oldest first."""
        return self.hook_log.read_text().splitlines() if self.hook_log.exists() else []

    def count(self, event: str) -> int:
        """How often the hook was called with `event` (and the resource)."""
        return sum(line.startswith(f"{event} {self.resource}") for line in self.events())

    # -- waiting

    def until(self, probe: Callable[[], bool], what: str, *, timeout: float = 60) -> None:
        """Waits; a failure shows the end of the node's log."""
        wait_for(probe, f"node {self.label}: {what}", timeout=timeout, otherwise=self.tail)

    def until_status(self, status: str, *, timeout: float = 60) -> None:
        self.until(lambda: self.status().status == status, f"status is {status}", timeout=timeout)

    def until_event(self, event: str, *, before: int = 0, timeout: float = 60) -> None:
        """Waits for one more call of the hook with `event` than there were `before`."""
        self.until(lambda: self.count(event) > before, f"the hook was called with {event}", timeout=timeout)

    def tail(self, lines: int = 60) -> str:
        """The end of the node's log."""
        if not self.log.exists():
            return f"node {self.label} has no log"
        text = "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return f"--- log of node {self.label}:\n{text}"
