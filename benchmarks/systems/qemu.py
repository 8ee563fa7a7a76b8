"""QEMU's storage daemon: a FUSE export of a quorum of a local file and an NBD server's. The peer to beat.

The server is nbdkit: qemu-nbd stalls over TCP at a depth of 2 and more. The quorum needs both to write, and reads from
the local file first. It is what a user could pick today without a kernel module; when one side dies, it gives EIO.

QEMU 7.2 (Debian 12) mixes up data that is written at a depth of more than 1 this way: fio --verify=crc32c with
iodepth=32 fails, with iodepth=1 it does not. Its rates count all the same; an ext4 on it is usually broken at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.systems import System


@contextlib.contextmanager
def qemu(root: Path, size: int) -> Iterator[System]:
    local, remote, image = root / "local", root / "remote", root / "image"
    machine.fill(local, size)
    machine.fill(remote, size)
    image.touch()
    port = machine.free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(machine.unmount, image)
        server = stack.enter_context(
            machine.process("nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "file", remote, log=root / "nbdkit.log")
        )
        machine.wait_until(lambda: machine.listens(port), "nbdkit listens")
        argv = (
            "qemu-storage-daemon",
            *("--blockdev", f"driver=file,node-name=f,filename={local}"),
            *("--blockdev", "driver=raw,node-name=r,file=f"),
            *("--blockdev", f"driver=nbd,node-name=n,server.type=inet,server.host=127.0.0.1,server.port={port}"),
            *(
                "--blockdev",
                "driver=quorum,node-name=q,children.0=r,children.1=n,vote-threshold=2,read-pattern=fifo",
            ),
            *("--export", f"type=fuse,id=e,node-name=q,mountpoint={image},writable=on"),
        )
        daemon = stack.enter_context(machine.process(*argv, log=root / "qemu.log"))
        machine.wait_until(lambda: image.stat().st_size == size, "QEMU exports the image")
        yield System("qemu", image, {"primary": daemon, "secondary": server})
