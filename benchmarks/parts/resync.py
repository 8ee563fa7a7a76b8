"""Resync: how fast, beside copies of the same bytes, and what an application loses meanwhile."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import GIB, MIB
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import PROJECT, SYNC_BEGINS, SYNC_ENDS, Pair
from benchmarks.table import Figure, Verdict, markdown, ratio
from hastfs.model import Role


class Application:
    """Writes 4 KiB at random places, one at a time, by direct I/O. fio takes longer to start than a resync."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self._over = threading.Event()
        self.rate = 0.0
        """Writes a second, once it is over."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _write(self) -> None:
        descriptor = os.open(self._image, os.O_RDWR | os.O_DIRECT)
        try:
            page = mmap.mmap(-1, 4096)  # aligned, as O_DIRECT wants it
            page.write(random.Random(1).randbytes(4096))
            pages = os.fstat(descriptor).st_size // 4096
            count, start = 0, time.perf_counter()
            while not self._over.is_set():
                os.pwrite(descriptor, page, random.randrange(pages) * 4096)
                count += 1
            self.rate = count / (time.perf_counter() - start)
        finally:
            os.close(descriptor)


def measure(plan: Plan) -> list[Report]:
    return [*(_throughput(place, plan) for place in plan.places), _empty(plan)]


def _throughput(place: str, plan: Plan) -> Report:
    report = Report(f"Resync, components on {place}")
    taken: dict[str, list[float]] = defaultdict(list)
    with scratch(place) as root:
        pair = Pair(root)
        pair.create(plan.size, filled=True)
        for name in ("source", "target"):
            machine.fill(root / name, plan.size)
        with pair.running():
            for turn in range(plan.rounds):
                plan.say(f"{report.title}: round {turn + 1}")
                taken["hastfs"].append(_resync(pair, plan.size, turn))
                taken["nbdcopy"].append(_nbdcopy(root, plan.size))
                taken["tcp"].append(_tcp(root, plan.size))
                application = Application(pair.a.image())
                with application.running():
                    time.sleep(plan.seconds)
                rate, beside = _with_application(pair, plan, turn)
                taken["loss"].append(100 * (1 - ratio(beside, application.rate)))
                taken["hastfs, application beside"].append(rate)
    figures = {name: Figure.of(samples) for name, samples in taken.items()}
    report.raw = dict(taken)
    report.blocks.append(f"{plan.size // MIB} MiB of random data, {plan.rounds} rounds.")
    report.blocks.append(
        markdown(["", "MiB/s"], [[name, str(figure)] for name, figure in figures.items() if name != "loss"])
    )
    report.verdicts = [
        Verdict("resync / nbdcopy", ratio(figures["hastfs"].median, figures["nbdcopy"].median), 0.8),
        Verdict("what an application at depth 1 loses", figures["loss"].median, 20, "%", most=True),
        Verdict("resync beside the application", figures["hastfs, application beside"].median, 10, "MiB/s"),
    ]
    return report


def diverge(pair: Pair, seed: int) -> None:
    """The secondary leaves, and all of the disk is written anew."""
    pair.b.role(Role.INIT)
    piece = random.Random(seed + 2).randbytes(MIB)
    with pair.a.image().open("r+b", buffering=0) as image:
        for _ in range(os.fstat(image.fileno()).st_size // MIB):
            image.write(piece)
        os.fsync(image.fileno())


def _resync(pair: Pair, size: int, seed: int) -> float:
    """MiB a second."""
    diverge(pair, seed)
    begins, ends = pair.a.said(SYNC_BEGINS), pair.a.said(SYNC_ENDS)
    pair.b.role(Role.SECONDARY)
    began = pair.a.wait_said(SYNC_BEGINS, begins)
    return size / MIB / (pair.a.wait_said(SYNC_ENDS, ends) - began)


def _with_application(pair: Pair, plan: Plan, seed: int) -> tuple[float, float]:
    """MiB a second of the resync, and the application's rate meanwhile."""
    diverge(pair, seed)
    begins, ends = pair.a.said(SYNC_BEGINS), pair.a.said(SYNC_ENDS)
    application = Application(pair.a.image())
    pair.b.role(Role.SECONDARY)
    began = pair.a.wait_said(SYNC_BEGINS, begins)
    with application.running():
        took = pair.a.wait_said(SYNC_ENDS, ends) - began
    return plan.size / MIB / took, application.rate


def _nbdcopy(root: Path, size: int) -> float:
    """MiB a second, from one nbdkit to another over TCP."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for name in ("source", "target"):
            port = machine.free_port()
            argv = ("nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "file", root / name)
            stack.enter_context(machine.process(*argv, log=root / "nbdkit.log"))
            machine.wait_until(partial(machine.listens, port), "nbdkit listens")
            addresses.append(f"nbd://127.0.0.1:{port}")
        start = time.monotonic()
        machine.run("nbdcopy", "--flush", *addresses, timeout=600)
        return size / MIB / (time.monotonic() - start)


def _tcp(root: Path, size: int) -> float:
    """MiB a second: sendfile from one file, received into another by another process, which syncs at the end."""
    port = machine.free_port()
    argv = (sys.executable, "-m", "benchmarks.parts.resync", str(port), root / "target")
    with machine.process(*argv, log=root / "tcp.log", cwd=PROJECT):
        machine.wait_until(lambda: machine.listens(port), "the receiver listens")
        start = time.monotonic()
        with (root / "source").open("rb") as source, socket.create_connection(("127.0.0.1", port)) as link:
            link.sendfile(source)
            link.shutdown(socket.SHUT_WR)
            link.recv(1)
        return size / MIB / (time.monotonic() - start)


def _receive(port: int, path: str) -> None:
    buffer = memoryview(bytearray(MIB))
    with socket.create_server(("127.0.0.1", port)) as listener, open(path, "r+b", buffering=0) as target:
        link, _ = listener.accept()
        with link:
            while count := link.recv_into(buffer):
                target.write(buffer[:count])
            os.fdatasync(target.fileno())
            link.sendall(b".")


def _empty(plan: Plan) -> Report:
    """A full sync of a component that was never written."""
    report = Report("Full sync of an empty sparse component")
    with scratch("tmpfs") as root:
        pair = Pair(root)
        pair.create(100 * GIB, filled=False)
        with pair.b.running(), pair.a.running():
            plan.say(report.title)
            pair.a.become_primary()
            with pair.a.image().open("r+b", buffering=0) as image:
                image.write(bytes(range(256)) * 16)  # alone: from now on the other node misses something
                os.fsync(image.fileno())
            start = time.monotonic()
            pair.b.role(Role.SECONDARY)
            took = pair.a.wait_said(SYNC_ENDS, 0) - start
    report.raw["seconds"] = took
    report.blocks.append(f"100 GiB: {took:.2f} s, connecting included.")
    return report


if __name__ == "__main__":
    _receive(int(sys.argv[1]), sys.argv[2])
