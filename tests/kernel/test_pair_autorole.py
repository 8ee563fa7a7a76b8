"""Roles across a restart of hastd, on a real pair with `autorole on`."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import RESOURCE, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def remember_roles(pair: Pair) -> None:
    for node in pair.nodes:
        lines = f"autorole on\nstatedir {node.root}/state\n"
        node.config.write_text(lines + node.config.read_text())


def test_roles_survive_the_death_of_both_nodes_and_a_failover_meanwhile(make_pair: MakePair) -> None:
    pair = make_pair(Options(timeout=5))
    a, b = pair.nodes
    remember_roles(pair)
    pair.start()
    pair.connect()

    for node in pair.nodes:
        node.kill()
    a.start()
    a.until(lambda: "It was primary before: it waits for the other node" in a.log.read_text(), "a waits for b")
    assert a.status().role == "init"
    b.start()
    b.until(lambda: b.status().role == "secondary", "b is secondary again")
    a.until(lambda: a.status().role == "primary", "a is primary again")
    a.until_status("complete")

    a.kill()
    b.become_primary()
    with b.image.open("r+b", buffering=0) as image:
        image.write(b"b" * 4096)
    a.start()
    a.until(lambda: a.status().role == "secondary", "a does not insist")
    b.until_status("complete")

    b.role("init")
    b.stop()
    b.start()
    assert b.status().role == "init"
    a.stop()
    a.start()
    a.until(lambda: a.status().role == "secondary", "an orderly end is no change of role")
    a.role("init")
    assert "split-brain" not in "".join(a.events() + b.events())
    pair.assert_equal()
    assert a.hastctl("status", RESOURCE).returncode == 0
