"""One hastd with many resources in all roles at once: they do not get in each other's way."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.kernel.component import DataArea, first_difference
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, Node
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

NAMES = [f"disk{number:02}" for number in range(20)]
OF_A, OF_B, IDLE = NAMES[:7], NAMES[7:14], NAMES[14:]
"""Primary on a, primary on b, in service on neither."""


def configure(node: Node, remote_port: int) -> None:
    """Twenty resources with components of their own."""
    resources = "".join(f"resource {name} {{ local {node.root}/{name} device off }}\n" for name in NAMES)
    here = f"on {socket.gethostname()} {{ remote tcp4://127.0.0.1:{remote_port} }} }}\n"
    node.config.write_text(
        f"control {node.control} pidfile {node.pidfile} listen tcp4://127.0.0.1:{node.port}\n"
        f"mountdir {node.mountdir} timeout 10\n" + resources.replace("}\n", here)
    )
    for name in NAMES:
        with (node.root / name).open("wb") as component:
            component.truncate(4 * MIB)
    node.hastctl("create", "-e", "64k", *NAMES)


def statuses(node: Node) -> dict[str, tuple[str, str]]:
    """Status word and role by resource, as `hastctl status` has them."""
    lines = node.hastctl("status").stdout.splitlines()[1:]
    return {name: (status, role) for name, status, role, *_ in (line.split() for line in lines)}


def details(node: Node) -> dict[str, dict[str, str]]:
    """What `hastctl list all` says, by resource."""
    blocks = re.split(r"^(\w+):$", node.hastctl("list", "all").stdout, flags=re.MULTILINE)[1:]
    return {
        name: dict(re.findall(r"^ +([\w ]+): (.*)$", text, re.MULTILINE))
        for name, text in zip(blocks[::2], blocks[1::2], strict=True)
    }


def expected_on(mine: list[str], theirs: list[str]) -> dict[str, tuple[str, str]]:
    """On the node that is primary for `mine` and secondary for `theirs`."""
    served = dict.fromkeys(mine, ("complete", "primary")) | dict.fromkeys(theirs, ("complete", "secondary"))
    return dict.fromkeys(NAMES, ("-", "init")) | served


def write_and_read(node: Node, name: str, mark: bytes) -> None:
    """A write, a flush and a read, some extents into the image."""
    with (node.mountdir / name).open("r+b", buffering=0) as image:
        os.pwrite(image.fileno(), mark * 512, MIB)
        os.fsync(image.fileno())
        assert os.pread(image.fileno(), 1024, MIB - 512) == bytes(512) + mark * 512


def data_of(node: Node, name: str) -> DataArea:
    fields = dict(re.findall(r"^ +(\w+): (\d+)", node.hastctl("dump", name).stdout, re.MULTILINE))
    return DataArea(node.root / name, int(fields["localoff"]), int(fields["datasize"]))


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Both daemons serve; every resource is connected or idle."""
    made = make_pair()
    configure(made.a, made.b.port)
    configure(made.b, made.a.port)
    for node in made.nodes:
        node.launch()
    for node in made.nodes:
        node.wait_ready()
    made.a.hastctl("role", "secondary", *OF_B)
    made.b.hastctl("role", "secondary", *OF_A)
    made.a.hastctl("role", "primary", *OF_A)
    made.b.hastctl("role", "primary", *OF_B)
    until_complete(made)
    return made


def until_complete(pair: Pair) -> None:
    wanted = (expected_on(OF_A, OF_B), expected_on(OF_B, OF_A))
    wait_for(lambda: (statuses(pair.a), statuses(pair.b)) == wanted, "every resource is as it should be")


def test_twenty_resources_in_all_roles_are_served_at_once(pair: Pair) -> None:
    for node, other, mine in ((pair.a, pair.b, OF_A), (pair.b, pair.a, OF_B)):
        listed = details(node)
        assert list(listed) == NAMES
        for name, fields in listed.items():
            assert (fields["provname"], fields["localpath"]) == (name, str(node.root / name))
            assert fields["remoteaddr"] == f"tcp4://127.0.0.1:{other.port}"
            assert ("workerpid" in fields) == (name not in IDLE)
        workers = {fields["workerpid"] for fields in listed.values() if "workerpid" in fields}
        assert len(workers) == len(OF_A) + len(OF_B), "each resource in service has a worker of its own"
        for number, name in enumerate(mine):
            write_and_read(node, name, bytes([1 + number]))
    for node in pair.nodes:
        for name, fields in details(node).items():
            assert fields["writes"] == ("0" if name in IDLE else "1"), f"{name} on {node.label}"

    for node in pair.nodes:
        node.hastctl("role", "init", "all")
        assert set(statuses(node).values()) == {("-", "init")}
    for name in (*OF_A, *OF_B):
        assert first_difference(data_of(pair.a, name), data_of(pair.b, name)) == ""
    pair.b.hastctl("role", "secondary", "all")
    assert set(statuses(pair.b).values()) == {("-", "secondary")}
    for node in pair.nodes:
        node.stop()


def test_a_worker_that_is_killed_takes_nobody_along(pair: Pair) -> None:
    before = details(pair.a)
    victim = OF_A[3]
    os.kill(int(before[victim]["workerpid"]), signal.SIGKILL)
    for number, name in enumerate(OF_A):  # the victim's requests wait for its next worker
        write_and_read(pair.a, name, bytes([1 + number]))
    until_complete(pair)
    after = details(pair.a)
    assert after[victim]["workerpid"] != before[victim]["workerpid"]
    for name in (*OF_A, *OF_B):
        assert name == victim or after[name]["workerpid"] == before[name]["workerpid"], name


def test_an_upgrade_takes_all_of_them_along(pair: Pair) -> None:
    for number, name in enumerate(OF_A):
        write_and_read(pair.a, name, bytes([1 + number]))
    before = details(pair.a)
    assert pair.a.process is not None
    pair.a.hastctl("upgrade")
    assert pair.a.process.poll() is None
    until_complete(pair)
    after = details(pair.a)
    for name in (*OF_A, *OF_B):
        assert after[name]["workerpid"] != before[name]["workerpid"], name
    for number, name in enumerate(OF_A):
        with (pair.a.mountdir / name).open("rb", buffering=0) as image:
            assert os.pread(image.fileno(), 512, MIB) == bytes([1 + number]) * 512
        write_and_read(pair.a, name, bytes([101 + number]))
    for node in pair.nodes:
        node.hastctl("role", "init", "all")
    for name in (*OF_A, *OF_B):
        assert first_difference(data_of(pair.a, name), data_of(pair.b, name)) == ""
    for node in pair.nodes:
        node.stop()


def test_a_change_of_role_of_one_resource_leaves_the_others_alone(pair: Pair) -> None:
    moved = OF_A[0]
    before = {node: details(node) for node in pair.nodes}
    pair.a.hastctl("role", "secondary", moved)
    pair.b.hastctl("role", "primary", moved)
    write_and_read(pair.b, moved, b"x")
    refused = pair.a.hastctl("role", "primary", "nope", OF_A[1], check=False)
    assert (refused.returncode, refused.stderr) == (1, "[WARNING] [nope] Received error 1 from hastd.\n")
    for node in pair.nodes:
        for name, fields in details(node).items():
            assert name == moved or fields.get("workerpid") == before[node][name].get("workerpid"), name


def test_components_are_found_by_resource(make_pair: MakePair) -> None:
    node = make_pair().a
    configure(node, 1)
    dumped = node.hastctl("dump").stdout
    assert re.findall(r"^resource: (\w+)$", dumped, re.MULTILINE) == NAMES
    Path(node.root / NAMES[0]).unlink()
    some = node.hastctl("dump", check=False)
    assert some.returncode == 255
    assert re.findall(r"^resource: (\w+)$", some.stdout, re.MULTILINE) == NAMES[1:]
