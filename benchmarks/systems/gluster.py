"""GlusterFS: an image on a volume of two replicas, both on this machine, with its options for images (`virt`)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.systems import System

_HOST = "127.0.0.2"  # it refuses 127.0.0.1 and localhost
_OPTIONS = {
    "performance.quick-read": "off",
    "performance.read-ahead": "off",
    "performance.io-cache": "off",
    "performance.stat-prefetch": "off",
    "network.remote-dio": "enable",
    "cluster.eager-lock": "enable",
}


@contextlib.contextmanager
def gluster(root: Path, size: int) -> Iterator[System]:
    state, mount, volume = root / "state", root / "mnt", f"bench{os.getpid()}"
    bricks = [root / "brick1", root / "brick2"]
    for directory in (state, mount, *bricks):
        directory.mkdir()
    with contextlib.ExitStack() as stack:
        # Its own directory: a glusterd of this machine's may have volumes. Bricks are children, and end with it.
        volfile = root / "glusterd.vol"
        volfile.write_text(
            "volume management\n    type mgmt/glusterd\n"
            f"    option working-directory {state}\n    option run-directory {state}\n"
            "    option transport-type socket\n"
            "    option transport.socket.listen-port 24007\n"
            "end-volume\n"
        )
        stack.enter_context(
            machine.process(
                "glusterd", "-N", "-f", volfile, "-l", root / "glusterd.log", "-p", root / "pid", log=root / "log"
            )
        )
        stack.callback(_end_bricks, root)
        machine.wait_until(lambda: "localhost" in _ask("pool", "list"), "glusterd answers")
        _command("volume", "create", volume, "replica", "2", *(f"{_HOST}:{brick}" for brick in bricks), "force")
        for name, value in _OPTIONS.items():
            _command("volume", "set", volume, name, value)
        _command("volume", "start", volume)
        stack.callback(_ask, "volume", "stop", volume, "force")
        stack.callback(machine.unmount, mount)
        machine.run("mount", "-t", "glusterfs", f"{_HOST}:/{volume}", mount)
        image = mount / "image"
        machine.fill(image, size)
        yield System("gluster", image)


def _command(*words: str) -> str:
    return machine.run("gluster", "--mode=script", *words)


def _ask(*words: str) -> str:
    return machine.run("gluster", "--mode=script", *words, check=False)


def _end_bricks(root: Path) -> None:
    """Those that a failed stop has left: the processes that name our directory."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if f"{root}/".encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                os.kill(int(entry), signal.SIGKILL)
