"""The units of examples/systemd on two machines whose process 1 is a real systemd."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ha.conftest import two_machines
from tests.ha.site import DEVICE, EXAMPLES, LONGEST, MACHINES, PROJECT, Site, on_both
from tests.kernel import machine
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

UNITS = EXAMPLES / "systemd"
DIRECTORY = "/srv/hast/shared"
RECORDS = f"{DIRECTORY}/records"


class Booted:
    """Two machines under systemd; `site` is what they are without it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        site.switch_on(*MACHINES)
        on_both(self._install)
        on_both(self.boot)

    def _install(self, name: str) -> None:
        """As docs/systemd.md says; and a watchdog that need not be waited for."""
        self.site.configure(name)
        programs = self.site.programs
        quick = "/etc/systemd/system/hastd.service.d"
        self.site.shell(
            name,
            f"ln -s {programs}/hastd {programs}/hastctl /usr/sbin/; cp {UNITS}/* /etc/systemd/system;"
            f"mkdir {quick}; printf '[Service]\\nWatchdogSec=2\\nRestartSec=100ms\\n' >{quick}/quick.conf",
        )

    def boot(self, name: str) -> None:
        command = self.site.command("run", name, PROJECT / "tests" / "ha" / "boot-systemd", self._cgroup(name))
        log = self.site.root / f"{name}-boot"
        with log.open("wb") as said:
            self._running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        wait_for(
            lambda: self.systemctl(name, "is-active", "machine.target", check=False).stdout == "active\n",
            f"systemd runs on {name}",
            otherwise=log.read_text,
        )

    def _cgroup(self, name: str) -> str:
        return f"{self.site.root.name}-{name}"

    def run(self, name: str, *argv: str, check: bool = True) -> machine.Completed:
        """A command, as if typed on that machine."""
        inside = 'exec nsenter -t "$(pgrep -o -x systemd)" -m -p -C -- "$@"'
        return self.site.run(name, "sh", "-c", inside, "sh", *argv, check=check)

    def shell(self, name: str, script: str, *, check: bool = True) -> machine.Completed:
        return self.run(name, "sh", "-c", f"set -e; {script}", check=check)

    def systemctl(self, name: str, *words: str, check: bool = True) -> machine.Completed:
        return self.run(name, "systemctl", *words, check=check)

    def show(self, name: str, unit: str, what: str) -> str:
        """A property of a unit (org.freedesktop.systemd1(5))."""
        return self.systemctl(name, "show", "-P", what, unit).stdout.strip()

    def journal(self, name: str, *words: str) -> str:
        return self.run(name, "journalctl", "--no-pager", *words).stdout

    def shut_down(self, name: str) -> None:
        """In order: systemd stops all units, then itself."""
        self.systemctl(name, "poweroff")
        self._running.pop(name).wait(timeout=LONGEST)

    def remove(self) -> None:
        """What is left of machines that are off."""
        for process in self._running.values():
            process.wait(timeout=LONGEST)
        for mount in machine.mounts():
            if mount.kind == "cgroup2":
                for name in MACHINES:
                    groups = Path(mount.point, self._cgroup(name))
                    for group in sorted((group for group in groups.rglob("*") if group.is_dir()), reverse=True):
                        group.rmdir()
                    with contextlib.suppress(FileNotFoundError):
                        groups.rmdir()


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    """With the disk's file system made, the role secondary on both."""
    made: list[Booted] = []
    try:
        with two_machines() as site:
            made.append(Booted(site))
            yield made[0]
    finally:
        for each in made:
            each.remove()


def test_units_bring_a_file_system_up_and_the_shutdown_of_the_machine_hands_it_over_whole(booted: Booted) -> None:
    a_mistake_in_the_configuration_is_told_once(booted)
    on_both(lambda name: booted.systemctl(name, "start", "hastd"))
    booted.run("beta", "hastctl", "role", "secondary", "shared")
    booted.systemctl("alpha", "start", "hast@shared")
    booted.run("alpha", "mkfs.ext4", "-q", DEVICE)
    booted.systemctl("alpha", "start", "hast-fs@shared")
    booted.shell("alpha", f"echo kept >{DIRECTORY}/file; sync")
    what_hastd_tells_reaches_systemd(booted)
    for sign in ("STOP", "KILL"):
        a_hastd_that_hangs_or_dies_is_started_anew(booted, sign)
    records_survive_a_shutdown(booted)


def a_mistake_in_the_configuration_is_told_once(booted: Booted) -> None:
    booted.shell("alpha", "echo mistake >>/etc/hast.conf")
    assert booted.systemctl("alpha", "start", "hastd", check=False).returncode != 0
    assert booted.show("alpha", "hastd", "SubState") == "failed", "no attempt that cannot succeed"
    assert booted.show("alpha", "hastd", "ExecMainStatus") == "78"
    assert "/etc/hast.conf:11: near 'mistake'" in booted.journal("alpha", "-u", "hastd")
    booted.shell("alpha", "sed -i '$d' /etc/hast.conf")


def what_hastd_tells_reaches_systemd(booted: Booted) -> None:
    wait_for(
        lambda: "1 primary" in booted.show("alpha", "hastd", "StatusText"),
        "systemctl status tells the roles",
        timeout=10,
    )
    before = booted.show("alpha", "hastd", "MainPID")
    booted.systemctl("alpha", "reload", "hastd")
    booted.run("alpha", "hastctl", "upgrade")
    assert booted.show("alpha", "hastd", "ActiveState") == "active"
    assert (booted.show("alpha", "hastd", "MainPID"), booted.show("alpha", "hastd", "NRestarts")) == (before, "0")
    entries = [json.loads(line) for line in booted.journal("alpha", "-u", "hastd", "-o", "json").splitlines()]
    roles = [entry for entry in entries if entry.get("HAST_EVENT") == "role"]
    assert [(entry["HAST_RESOURCE"], entry["HAST_FROM"], entry["HAST_TO"]) for entry in roles] == [
        ("shared", "init", "primary")
    ]


def a_hastd_that_hangs_or_dies_is_started_anew(booted: Booted, sign: str) -> None:
    """By the watchdog, if it hangs. What used its disks is stopped, and can be started."""
    restarts = int(booted.show("alpha", "hastd", "NRestarts"))
    booted.run("alpha", "kill", f"-{sign}", booted.show("alpha", "hastd", "MainPID"))
    wait_for(
        lambda: (
            int(booted.show("alpha", "hastd", "NRestarts")) > restarts
            and booted.show("alpha", "hastd", "SubState") == "running"
        ),
        f"hastd was started again after SIG{sign}",
        otherwise=lambda: booted.journal("alpha"),
    )
    assert booted.show("alpha", "hast-fs@shared", "ActiveState") in ("inactive", "failed")
    assert booted.shell("alpha", f"mountpoint -q {DIRECTORY}", check=False).returncode != 0
    booted.systemctl("alpha", "start", "hast-fs@shared")
    assert booted.run("alpha", "cat", f"{DIRECTORY}/file").stdout == "kept\n"


def records_survive_a_shutdown(booted: Booted) -> None:
    """Of a writer that is a unit as docs/systemd.md wants them."""
    uses = ("-p", "BindsTo=hast-fs@shared.service", "-p", "After=hast-fs@shared.service")
    python = booted.site.programs / "python"
    booted.run(
        "alpha",
        *("systemd-run", "--unit=writer", *uses, "-p", "StandardOutput=file:/var/log/safe"),
        *(str(python), str(PROJECT / "tests" / "ha" / "records.py"), RECORDS),
    )

    def safe() -> int:
        said = booted.site.run("alpha", "cat", "/var/log/safe").stdout
        return int(said.rpartition("\n")[0].rpartition("\n")[2] or 0)

    wait_for(lambda: safe() > 100, "a hundred records are safe", otherwise=lambda: booted.journal("alpha"))
    booted.shut_down("alpha")
    assert booted.site.shell("alpha", f"mount | grep -F {DIRECTORY}", check=False).returncode != 0

    booted.systemctl("beta", "start", "hast-fs@shared")
    assert booted.run("beta", "cat", RECORDS).stdout.splitlines()[: safe()] == [
        f"record {number}" for number in range(1, safe() + 1)
    ]
    said = booted.journal("beta", "-u", "hast-fs@shared")
    assert ": clean, " in said and "recovering journal" not in said, "alpha unmounted it before it gave it up"
    booted.boot("alpha")
    booted.systemctl("alpha", "start", "hastd")
    booted.run("alpha", "hastctl", "role", "secondary", "shared")
    booted.run("beta", "hastctl", "wait", "--for", "synced", "--timeout", "30", "shared")
    assert "Split" not in booted.journal("beta", "-u", "hastd")
