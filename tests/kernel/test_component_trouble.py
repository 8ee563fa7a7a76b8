"""Components that cannot be used: every command says which one and what to do about it, and changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options

pytestmark = pytest.mark.kernel

Trouble = Callable[[Node], AbstractContextManager[None]]


@contextlib.contextmanager
def vanished(node: Node) -> Iterator[None]:
    node.component.unlink()
    yield
    assert not os.path.lexists(node.component)


@contextlib.contextmanager
def shrunk(node: Node) -> Iterator[None]:
    os.truncate(node.component, 5 * MIB)
    before = node.component.read_bytes()
    yield
    assert node.component.read_bytes() == before


@contextlib.contextmanager
def emptied(node: Node) -> Iterator[None]:
    os.truncate(node.component, 0)
    yield
    assert node.component.stat().st_size == 0


@contextlib.contextmanager
def wiped(node: Node) -> Iterator[None]:
    with node.component.open("r+b") as component:
        component.write(bytes(4096))
    before = node.component.read_bytes()
    yield
    assert node.component.read_bytes() == before


@contextlib.contextmanager
def read_only(node: Node) -> Iterator[None]:
    machine.run("mount", "--bind", node.component, node.component)
    machine.run("mount", "-o", "remount,bind,ro", node.component)
    try:
        yield
    finally:
        machine.run("umount", node.component)


@contextlib.contextmanager
def directory(node: Node) -> Iterator[None]:
    node.component.unlink()
    node.component.mkdir()
    yield
    assert list(node.component.iterdir()) == []


@contextlib.contextmanager
def locked(node: Node) -> Iterator[None]:
    before = node.component.read_bytes()
    with node.component.open("rb") as component:
        fcntl.flock(component, fcntl.LOCK_EX)
        yield
    assert node.component.read_bytes() == before


@contextlib.contextmanager
def forbidden(node: Node) -> Iterator[None]:
    """Nothing keeps root from a file, but a device on a file system that is to have none."""
    component, place = node.component, node.root / "nodev"
    place.mkdir()
    machine.run("mount", "-t", "tmpfs", "-o", "nodev", "hastfs-test", place)
    try:
        os.mknod(place / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 1 << 19))  # a loop device that there is not
        component.unlink()
        component.symlink_to(place / "disk")
        yield
    finally:
        machine.run("umount", place)


ROLES = ("role primary", "role secondary")
CREATE = "create"
DUMP = "dump"


TROUBLES: list[tuple[Trouble, str, dict[str, int]]] = [
    (vanished, "No such file or directory. Is its disk mounted?", {CREATE: 66}),
    (shrunk, "cut short. Give it its size back, or make it anew", {}),
    (emptied, "too small", {}),
    (wiped, "there is no metadata", {}),
    (read_only, "Read-only file system. It has to be writable.", {CREATE: 66, DUMP: 0}),
    (directory, "Is a directory. A component is a regular file or a block device.", {CREATE: 66}),
    (locked, "is in use: another hastd or hastctl has it locked.", dict.fromkeys((*ROLES, CREATE), 75) | {DUMP: 0}),
    (forbidden, "Permission denied. Is its file system mounted nodev?", {CREATE: 66}),
]
"""What is wrong, what is said of it, and exit codes where they are not the usual ones; `create` only where it fails."""


@pytest.mark.parametrize(("trouble", "said", "codes"), TROUBLES, ids=[trouble.__name__ for trouble, _, _ in TROUBLES])
def test_a_component_that_cannot_be_used_is_refused_by_name(
    make_pair: MakePair, trouble: Trouble, said: str, codes: dict[str, int]
) -> None:
    node = make_pair(Options(mediasize=8 * MIB)).a
    node.create()
    node.start()
    wanted = dict.fromkeys(ROLES, 66) | {DUMP: 255} | codes
    with trouble(node):
        for command, code in wanted.items():
            word, *role = command.split()
            done = node.hastctl(word, *role, RESOURCE, check=False)
            assert (command, done.returncode) == (command, code), done.stderr
            assert len(done.stderr.splitlines()) == bool(code)
            assert not code or str(node.component) in done.stderr
            assert command not in ROLES or said in done.stderr
            assert (node.status().role, node.image_is_there()) == ("init", False)
    assert node.events() == []


def test_a_secondary_whose_component_vanished_meanwhile_says_so_and_serves_again_when_it_is_back(
    make_pair: MakePair,
) -> None:
    pair = make_pair(Options(mediasize=8 * MIB))
    pair.start()
    pair.b.role("secondary")
    away = Path(f"{pair.b.component}.away")
    os.rename(pair.b.component, away)
    pair.a.become_primary()
    lost = f"Unable to open {pair.b.component}: No such file or directory."
    pair.b.until(lambda: lost in pair.b.tail(), "it says that its component is not there", timeout=10)
    assert pair.a.status().status == "degraded"
    assert pair.b.tail().count(lost) == 1, "once is enough, however often the primary tries"
    os.rename(away, pair.b.component)
    pair.a.until_status("complete")
    pair.rest()
    pair.assert_equal()
