"""Two machines with one hast.conf: network and host name of their own, hastctl(8)'s EXAMPLES by hand."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.namespace import Namespace, Wire

pytestmark = pytest.mark.kernel

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT = 3


class Machine:
    """A network with an address, and a host name for what runs in it."""

    def __init__(self, root: Path, name: str, network: Namespace, address: str) -> None:
        self.name = name
        self.address = address
        self.network = network
        self.root = root

    def run(self, *argv: str | Path, check: bool = True) -> machine.Completed:
        """A command as if typed on that machine."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *argv]
        return machine.run("ip", "netns", "exec", self.network.name, *named, check=check, timeout=60, cwd=PROJECT)

    def hastctl(self, *arguments: str, check: bool = True) -> machine.Completed:
        command, *rest = arguments
        config = self.root / "hast.conf"
        return self.run(sys.executable, "-m", "hastfs.cli.hastctl", command, "-c", config, *rest, check=check)

    def hastd(self) -> None:
        """In the background, as an init script would start it; it must be ready when the command returns."""
        self.run(sys.executable, "-m", "hastfs.cli.hastd", "-c", self.root / "hast.conf")

    def status(self) -> str:
        """The status word of `hastctl status`."""
        return self.hastctl("status").stdout.splitlines()[1].split()[1]


@pytest.fixture
def wire(scratch: Path) -> Iterator[Wire]:
    """Between two networks."""
    with contextlib.ExitStack() as steps:
        ends = [Namespace(f"{scratch.name}-{name}") for name in ("a", "b")]
        for end in ends:
            steps.callback(end.remove)
        yield Wire(0, *ends)


@pytest.fixture
def machines(scratch: Path, wire: Wire) -> Iterator[tuple[Machine, Machine]]:
    a = Machine(scratch, "hasta", wire.here, wire.here_ip)
    b = Machine(scratch, "hastb", wire.there, wire.there_ip)
    _write_config(scratch, a, b)
    try:
        yield a, b
    finally:
        for node in (a, b):
            node.hastctl("stop", "-f", check=False)
            node.network.kill()
        machine.release(scratch)
        (Path("/dev/hast") / scratch.name).unlink(missing_ok=True)


def _write_config(root: Path, a: Machine, b: Machine) -> None:
    """One file for both; they share this machine's disk, so control socket, pidfile and mountdir differ."""
    nodes = "".join(
        f"on {node.name} {{ control {base}.ctl pidfile {base}.pid mountdir {base}-run }}\n"
        for node, base in ((node, root / node.name) for node in (a, b))
    )
    resource = "".join(
        f"    on {node.name} {{ local {root}/{node.name}.img remote tcp4://{other.address} }}\n"
        for node, other in ((a, b), (b, a))
    )
    text = f"timeout {TIMEOUT}\n{nodes}resource shared {{\n    name {root.name}\n{resource}}}\n"
    (root / "hast.conf").write_text(text)


def test_the_examples_of_the_manual_work_on_two_machines_with_one_file(
    machines: tuple[Machine, Machine], scratch: Path
) -> None:
    a, b = machines
    device, mount = Path("/dev/hast") / scratch.name, scratch / "mnt"
    mount.mkdir()
    for node in machines:
        node.hastctl("create", "-m", "100M", "shared")
        node.hastd()
    b.hastctl("role", "secondary", "shared")
    a.hastctl("role", "primary", "shared")
    machine.run("mkfs.ext4", "-q", device)
    machine.run("mount", device, mount)
    (mount / "letter").write_text("dear b")
    busy = a.hastctl("role", "secondary", "shared", check=False)
    assert busy.returncode == 75
    assert f"umount {mount}" in busy.stderr
    machine.run("umount", mount)
    a.hastctl("role", "secondary", "shared")
    b.hastctl("role", "primary", "shared")
    machine.run("mount", device, mount)
    assert (mount / "letter").read_text() == "dear b"
    machine.run("umount", mount)
    for node in (b, a):
        node.hastctl("stop")
    assert not device.exists()


def test_a_killed_node_comes_back_and_takes_its_old_device_name(
    machines: tuple[Machine, Machine], scratch: Path
) -> None:
    a, _ = machines
    device = Path("/dev/hast") / scratch.name
    a.hastctl("create", "-m", "20M", "shared")
    a.hastd()
    a.hastctl("role", "primary", "shared")
    dead = device.readlink()
    a.network.kill()
    a.hastd()
    assert not device.is_symlink()
    assert not Path(f"/sys/block/{dead.name}/loop").exists()
    a.hastctl("role", "primary", "shared")
    machine.run("mkfs.ext4", "-q", device)
