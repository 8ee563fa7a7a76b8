"""Both nodes wrote on their own: they must notice, say so, and leave the data of both alone."""

from __future__ import annotations

import os

import pytest

from tests.kernel.node import MIB, RESOURCE, Node
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def write(node: Node, data: bytes, at: int) -> None:
    with node.image.open("r+b", buffering=0) as image:
        image.seek(at)
        image.write(data)
        os.fsync(image.fileno())


def test_split_brain_is_found_on_both_nodes_and_changes_neither(pair: Pair) -> None:
    pair.connect()
    write(pair.a, b"common" * 1000, 0)
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    pair.b.until_event("disconnect", timeout=25)
    pair.b.become_primary()
    write(pair.a, b"only a" * 1000, 8 * MIB)
    write(pair.b, b"only b" * 1000, 8 * MIB)
    pair.b.role("secondary")
    before = [node.data_area().digest() for node in pair.nodes]
    assert before[0] != before[1]

    pair.heal()
    pair.a.until_event("split-brain", timeout=30)
    pair.b.until_event("split-brain", timeout=30)
    assert pair.a.status().status == "degraded"
    for node in pair.nodes:
        assert "split-brain" in node.log.read_text().lower()
    assert pair.a.count("syncstart") == pair.b.count("syncstart") == 0
    assert [node.data_area().digest() for node in pair.nodes] == before

    with pair.a.image.open("rb") as image:  # and the primary still serves its own
        image.seek(8 * MIB)
        assert image.read(6) == b"only a"


def test_split_brain_is_found_after_both_were_restarted_as_lone_primaries(pair: Pair) -> None:
    pair.connect()
    write(pair.a, b"common" * 1000, 0)
    pair.a.role("init")
    pair.b.role("init")
    pair.cut()
    # First b writes alone and a catches up from it, so that the counters of the two are crossed ...
    pair.b.become_primary()
    write(pair.b, b"newer" * 1000, 4 * MIB)
    pair.b.role("secondary")
    pair.heal()
    pair.a.become_primary()
    pair.a.until_event("syncdone")
    pair.a.role("init")
    pair.assert_equal()
    # ... and then both are restarted and write without having met again.
    pair.cut()
    for node in pair.nodes:
        node.stop()
        node.start()
        node.become_primary()
        write(node, node.label.encode() * 4096, 12 * MIB)
    pair.b.role("secondary")
    before = [node.data_area().digest() for node in pair.nodes]
    pair.heal()
    pair.a.until_event("split-brain", timeout=30)
    pair.b.until_event("split-brain", timeout=30)
    assert [node.data_area().digest() for node in pair.nodes] == before


def test_a_split_brain_is_solved_by_creating_one_side_again(pair: Pair) -> None:
    pair.connect()
    pair.cut()
    pair.a.until_status("degraded", timeout=25)
    pair.b.until_event("disconnect", timeout=25)
    pair.b.become_primary()
    for node in pair.nodes:
        write(node, node.label.encode() * 4096, 0)
    pair.b.role("secondary")
    pair.heal()
    pair.b.until_event("split-brain", timeout=30)
    pair.b.role("init")
    pair.b.hastctl("create", "-e", str(pair.b.options.extentsize), "-k", str(pair.b.options.keepdirty), RESOURCE)
    pair.b.role("secondary")
    pair.a.until_event("syncdone")
    pair.rest()
    pair.assert_equal()
    with pair.b.component.open("rb") as component:
        component.seek(pair.b.data_area().offset)
        assert component.read(4096) == b"a" * 4096
