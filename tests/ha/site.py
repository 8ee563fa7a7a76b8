"""Two machines (examples/machines.sh) with HastFS on them, and a program that writes and remembers what is safe."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kernel import machine
from tests.kernel.waiting import wait_for

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "examples"
MACHINES = ("alpha", "beta")
DEVICE = "/dev/hast/shared"
DIRECTORY = "/srv/shared"
RECORDS = f"{DIRECTORY}/records"
LONGEST = 60.0
"""Seconds that a command, or what it brings about, may take."""

_TIMEOUT = 3
_CONFIG = f"""timeout {_TIMEOUT}
resource shared {{
    local /var/lib/hast/shared
    on alpha {{
        remote tcp4://192.0.2.2
    }}
    on beta {{
        remote tcp4://192.0.2.1
    }}
}}
"""


class Site:
    """alpha (192.0.2.1) and beta (192.0.2.2). All that they change is theirs and goes with them."""

    def __init__(self, root: Path) -> None:
        """`root`: an empty folder whose name nobody else uses."""
        self.root = root
        self.programs = self._install(root / "venv" / "bin")
        self._environment = {
            **os.environ,
            "HAST_MACHINES": str(root / f"{root.name}-m"),
            "HASTFS_VENV": str(root / "venv"),
        }
        self._writer: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _install(programs: Path) -> Path:
        """hastd and hastctl, of the tests' own interpreter."""
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        for name in ("hastd", "hastctl"):
            program = programs / name
            python = f"PYTHONPATH={shlex.quote(str(PROJECT))} exec {shlex.quote(sys.executable)}"
            program.write_text(f'#!/bin/sh\n{python} -m hastfs.cli.{name} "$@"\n')
            program.chmod(0o755)
        return programs

    # -- machines

    def command(self, *words: str | Path) -> list[str]:
        """The call of machines.sh with these words."""
        environment = [f"{name}={self._environment[name]}" for name in ("HAST_MACHINES", "HASTFS_VENV")]
        return ["env", *environment, str(EXAMPLES / "machines.sh"), *map(str, words)]

    def switch_on(self, *names: str) -> None:
        """With shared memory of their own, as machines have."""
        machine.run(*self.command("on", *names))
        for name in names:
            self.run(name, "mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm")

    def switch_off(self, name: str) -> None:
        """All at once, without a word to anybody: the power is gone."""
        machine.run(*self.command("off", name))

    def run(self, name: str, *argv: str | Path, check: bool = True) -> machine.Completed:
        """A command, as if typed on that machine."""
        return machine.run(*self.command("run", name, *argv), check=check, timeout=LONGEST)

    def shell(self, name: str, script: str, *, check: bool = True) -> machine.Completed:
        return self.run(name, "sh", "-c", f"set -e; {script}", check=check)

    def remove(self) -> None:
        machine.run(*self.command("remove"))
        if self._writer is not None:
            self._writer.communicate(timeout=LONGEST)

    # -- HastFS

    def configure(self, name: str) -> None:
        """With hast.conf, and an empty component."""
        configure = f"mkdir -p /var/lib/hast {DIRECTORY}; printf '{_CONFIG}' >/etc/hast.conf"
        self.shell(name, f"{configure}; hastctl create -m 64M shared")

    def begin(self) -> None:
        """Both are on, with a file system on their disk, made by hand; hastd runs, with role init."""
        self.switch_on(*MACHINES)
        on_both(self.configure)
        on_both(lambda name: self.run(name, "hastd"))
        self.run("beta", "hastctl", "role", "secondary", "shared")
        self.run("alpha", "hastctl", "role", "--wait", "primary", "shared")
        self.run("alpha", "mkfs.ext4", "-q", DEVICE)
        for name in MACHINES:
            self.run(name, "hastctl", "role", "init", "shared")

    def is_so(self, name: str, script: str) -> bool:
        return self.shell(name, script, check=False).returncode == 0

    def explain(self, script: str) -> str:
        """What the shell script says on the machines that are on."""
        return "\n".join(self.shell(name, script, check=False).stdout for name in MACHINES)

    # -- load

    def write(self, name: str) -> Callable[[], int]:
        """Starts to write records on the mounted disk of that machine. To be called for how many are safe."""
        safe = self.root / "safe"
        with safe.open("wb") as file:
            program = (sys.executable, PROJECT / "tests" / "ha" / "records.py", RECORDS)
            command = self.command("run", name, *program)
            self._writer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

        def count() -> int:
            said = safe.read_text()
            return int(said.rpartition("\n")[0].rpartition("\n")[2] or 0)

        wait_for(lambda: count() > 100, "a hundred records are safe", otherwise=safe.read_text)
        return count

    def records(self, name: str) -> list[str]:
        """What is on the mounted disk of that machine."""
        return self.run(name, "cat", RECORDS).stdout.splitlines()


def on_both(do: Callable[[str], object]) -> None:
    """At the same time."""
    together([lambda name=name: do(name) for name in MACHINES])  # type: ignore[misc]


def together(tasks: Iterable[Callable[[], object]]) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()
