"""A pair of which one node speaks the original's version of the protocol, with real daemons and in both roles.

What the original says and does apart from the version, tests/interop knows.
"""

from __future__ import annotations

import os

import pytest

from hastfs.model import Replication
from hastfs.ondisk.layout import COPY_SIZE
from hastfs.ondisk.metadata import decode_copy
from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

MODES = [mode.value for mode in Replication]


def write(node: Node, *megabytes: int) -> dict[int, bytes]:
    """Random bytes at these MiB of the image, flushed."""
    written = {at: os.urandom(MIB) for at in megabytes}
    with node.image.open("r+b", buffering=0) as image:
        for at, data in written.items():
            assert os.pwrite(image.fileno(), data, at * MIB) == MIB
        os.fsync(image.fileno())
    return written


def assert_written(node: Node, written: dict[int, bytes]) -> None:
    with node.image.open("rb", buffering=0) as image:
        wrong = [at for at, data in written.items() if os.pread(image.fileno(), MIB, at * MIB) != data]
    assert not wrong, f"not what was written, at these MiB: {wrong}"


def knows_generations(node: Node) -> bool:
    """They are not on record where they were neither drawn nor told over the link."""
    with node.component.open("rb") as component:
        return decode_copy(component.read(COPY_SIZE)).generations.current != 0


@pytest.fixture(params=["a", "b"], ids=["original as primary", "original as secondary"])
def old(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(make_pair: MakePair, old: str, request: pytest.FixtureRequest) -> Pair:
    made = make_pair(Options(replication=getattr(request, "param", "memsync"), checksum="crc32", compression="lzf"))
    getattr(made, old).is_original = True
    made.start()
    made.connect()
    assert not knows_generations(made.b), "both nodes speak our version of the protocol"
    return made


@pytest.mark.parametrize("pair", MODES, indirect=True)
def test_each_node_has_what_the_other_one_wrote_in_any_mode(pair: Pair) -> None:
    written = write(pair.a, 0, 3, 5, 7)
    machine.run("fallocate", "--punch-hole", "--offset", str(3 * MIB), "--length", str(MIB), pair.a.image)
    written[3] = bytes(MIB)
    pair.a.role("secondary")
    pair.b.become_primary()
    pair.b.until_status("complete")
    assert_written(pair.b, written)
    write(pair.b, 3, 9)
    pair.rest()
    pair.assert_equal()


def test_what_was_missed_is_copied_in_either_direction(pair: Pair) -> None:
    written = write(pair.a, 0, 3, 5)
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    written |= write(pair.a, 5, 7)
    done = pair.a.count("syncdone")
    pair.heal()
    pair.a.until_event("syncdone", before=done)

    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    written |= write(pair.a, 7, 9)
    pair.a.role("secondary")
    pair.heal()
    pair.b.become_primary()
    pair.b.until_event("syncdone")
    assert_written(pair.b, written)
    pair.rest()
    pair.assert_equal()


def test_the_other_node_takes_over_and_gives_back(pair: Pair) -> None:
    written = write(pair.a, 0, 3, 5)
    pair.a.kill()
    pair.b.become_primary()
    assert_written(pair.b, written)
    written |= write(pair.b, 5, 7)
    done = pair.b.count("syncdone")
    pair.a.start()
    pair.a.role("secondary")
    pair.b.until_event("syncdone", before=done)

    pair.b.role("secondary")
    pair.a.become_primary()
    pair.a.until_status("complete")
    assert_written(pair.a, written)
    pair.rest()
    pair.assert_equal()


def test_nodes_that_both_wrote_alone_refuse_each_other(pair: Pair) -> None:
    write(pair.a, 0)
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    write(pair.a, 1)
    pair.b.become_primary()
    write(pair.b, 2)
    pair.b.role("secondary")
    pair.heal()
    for node in pair.nodes:
        node.until_event("split-brain")
    assert pair.a.status().status == "degraded"
