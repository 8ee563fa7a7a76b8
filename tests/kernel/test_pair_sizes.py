"""Two nodes whose components were created with different sizes: both say so, and what they say to do helps."""

from __future__ import annotations

import json
import os
import shlex
from functools import partial
from typing import Any

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options

pytestmark = pytest.mark.kernel


def seen(node: Node) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(node.hastctl("status", "--json", RESOURCE).stdout)["resources"][0]
    return details


def is_refused(node: Node) -> bool:
    return bool(seen(node)["connection"] == "refused")


def obey(node: Node, commands: str) -> None:
    """As an administrator would who copies the line."""
    for command in commands.split(" && "):
        name, *arguments = shlex.split(command)
        assert name == "hastctl"
        node.hastctl(*arguments)


def test_both_nodes_say_what_is_wrong_and_the_command_makes_a_pair_of_them(make_pair: MakePair) -> None:
    pair = make_pair(Options(mediasize=32 * MIB))
    a, b = pair.nodes
    a.write_config(b.port)
    b.write_config(a.port)
    for node in pair.nodes:
        node.create()
        node.start()
    os.truncate(b.component, 48 * MIB)
    b.hastctl("create", "-m", str(48 * MIB), "-e", str(a.options.extentsize), RESOURCE)
    b.role("secondary")
    a.become_primary()
    with a.image.open("r+b", buffering=0) as image:
        image.write(b"x" * MIB)
    for node in pair.nodes:
        node.until(partial(is_refused, node), "it says that it is refused")
        details = seen(node)
        assert "Data size differs between nodes (primary=" in details["problem"]
        assert details["remedy"] == f"hastctl check {RESOURCE}"
    said = b.log.read_text()
    assert said.count("Data size differs") == 1, "once per reason, not once per attempt"
    assert "Connected to the primary" not in said

    def sizes(node: Node) -> dict[str, Any]:
        findings = json.loads(node.hastctl("check", "--json", check=False).stdout)["resources"][0]["findings"]
        found: dict[str, Any] = next(finding for finding in findings if finding["check"] == "size")
        return found

    assert sizes(b)["remedy"] == f"there: hastctl check {RESOURCE}"
    there, commands = sizes(a)["remedy"].split(": ", 1)
    assert there == "there"
    obey(b, commands)
    a.until_status("complete")
    b.until(lambda: seen(b)["connection"] == "connected", "it is connected")
    assert seen(b)["problem"] is None
    pair.rest()
    pair.assert_equal()
