"""Resync: how fast, beside copies of the same bytes, and what an application loses meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from benchmarks import fio, machine
from benchmarks.machine import GIB, MIB
from benchmarks.plan import Plan, Report, scratch
from benchmarks.systems.hast import PROJECT, Pair
from benchmarks.table import Figure, Verdict, markdown, ratio
from hastfs.model import Role

_ROW = fio.ROWS["4k write d1"]


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
                taken["hastfs"].append(diverge_and_resync(pair, plan.size, turn))
                taken["nbdcopy"].append(_nbdcopy(root, plan.size))
                taken["tcp"].append(_tcp(root, plan.size))
                alone = fio.measure(pair.a.image(), _ROW, plan.seconds).rate
                rate, beside = _with_application(pair, plan, turn)
                taken["loss"].append(100 * (1 - ratio(beside, alone)))
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


def diverge_and_resync(pair: Pair, size: int, seed: int) -> float:
    """MiB a second of the resync."""
    diverge(pair, seed)
    done = len(pair.a.events("syncdone"))
    pair.b.role(Role.SECONDARY)
    took = pair.a.wait_event("syncdone", done) - pair.a.events("syncstart")[-1]
    return size / MIB / took


def _with_application(pair: Pair, plan: Plan, seed: int) -> tuple[float, float]:
    """MiB a second of the resync, and the application's rate. It may be there for a moment longer than the resync."""
    diverge(pair, seed + 1000)
    started, done = len(pair.a.events("syncstart")), len(pair.a.events("syncdone"))
    pair.b.role(Role.SECONDARY)
    begin = pair.a.wait_event("syncstart", started)
    rates = []
    while len(pair.a.events("syncdone")) == done:
        rates.append(fio.measure(pair.a.image(), _ROW, min(plan.seconds, 0.5)).rate)
    took = pair.a.wait_event("syncdone", done) - begin
    return plan.size / MIB / took, Figure.of(rates[:-1] or rates).median


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
            pair.b.role(Role.SECONDARY)
            took = pair.a.wait_event("syncdone", 0) - pair.a.events("syncstart")[-1]
    report.raw["seconds"] = took
    report.blocks.append(f"100 GiB: {took:.2f} s.")
    return report


if __name__ == "__main__":
    _receive(int(sys.argv[1]), sys.argv[2])
