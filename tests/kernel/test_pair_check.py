"""hastctl check with two real nodes: what it finds, before and while they are at work."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def direct(make_pair: MakePair) -> Pair:
    """Without the wire between: a port where nobody listens refuses connections."""
    pair = make_pair(Options(mediasize=32 * MIB))
    pair.a.write_config(pair.b.port)
    pair.b.write_config(pair.a.port)
    return pair


def workers(pair: Pair) -> list[int]:
    """By their titles: hooks come and go."""
    every = [*pair.a.processes(), *pair.b.processes()]
    return [pid for pid in every if _title(pid).startswith(f"hastd: {RESOURCE} (")]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def checked(node: Node, *, code: int) -> dict[str, str]:
    """What was found: `LEVEL TEXT` by check. The worst counts where there are several."""
    done = node.hastctl("check", "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    said = json.loads(done.stdout)
    order = ["ok", "warning", "problem"]
    findings = [*said["findings"], *(each for resource in said["resources"] for each in resource["findings"])]
    findings.sort(key=lambda finding: order.index(finding["level"]))
    assert said["level"] == findings[-1]["level"]
    return {finding["check"]: f"{finding['level']} {finding['text']}" for finding in findings}


def test_what_is_missing_is_found_step_by_step(make_pair: MakePair) -> None:
    pair = direct(make_pair)
    found = checked(pair.a, code=78)
    assert found["component"].startswith("problem Component") and "No such file" in found["component"]
    assert found[
        "peer"
    ] == f"problem Nobody listens on tcp4://127.0.0.1:{pair.b.port}: hastd does not run there, or " + (
        "has another `listen`."
    )
    assert found["hastd"].startswith("warning hastd does not run here")
    pair.a.create()
    pair.b.start()
    found = checked(pair.a, code=78)
    assert found["component"] == f"ok {pair.a.component}: 32 MiB, extents of 1.0 MiB."
    assert found["peer-component"] == "problem The other node has no component."
    assert found["role"] == "ok This node is not running hastd, the other one init."
    pair.b.create()
    found = checked(pair.a, code=0)
    assert {level.split()[0] for check, level in found.items() if check != "hastd"} == {"ok"}


def test_what_differs_between_the_nodes_is_found(make_pair: MakePair) -> None:
    pair = direct(make_pair)
    pair.b.options = Options(mediasize=64 * MIB, replication="async", checksum="crc32", timeout=11)
    pair.b.write_config(pair.a.port)
    for node in pair.nodes:
        node.create()
        node.start()
    found = checked(pair.a, code=78)
    assert found["size"].startswith("problem Sizes differ: a disk has ")
    assert found["settings"] == (
        "warning hast.conf differs: replication (memsync here, async there), checksum (none here, crc32 there), "
        "timeout (10 here, 11 there)."
    )
    other = pair.b.config.read_text()
    pair.b.config.write_text(other.replace("remote tcp4://127.0.0.1", "remote tcp4://127.0.0.99"))
    pair.b.hastctl("reload")
    assert "127.0.0.1, this node's address, is not `remote`" in checked(pair.a, code=78)["peer"]
    pair.b.config.write_text(other.replace(f"resource {RESOURCE} ", "resource other "))
    pair.b.hastctl("reload")
    assert checked(pair.a, code=78)["peer"] == "problem The other node's hast.conf does not have this resource."


def test_a_check_of_nodes_at_work_finds_nothing_and_disturbs_nothing(make_pair: MakePair) -> None:
    pair = direct(make_pair)
    pair.start()
    pair.connect()
    before = workers(pair)
    assert len(before) == 2
    for node, roles in ((pair.a, "primary, the other one secondary"), (pair.b, "secondary, the other one primary")):
        found = checked(node, code=0)
        assert {level.split()[0] for level in found.values()} == {"ok"}
        assert found["role"] == f"ok This node is {roles}."
        assert found["size"] == "ok Both have 32 MiB in extents of 1.0 MiB."
    text = pair.a.hastctl("check", RESOURCE).stdout
    assert re.search(
        rf"^this node:\n  ok       configuration  .*^{RESOURCE}:\n  ok       component ", text, re.M | re.S
    )
    assert "\x1b" not in text
    with pair.a.image.open("r+b", buffering=0) as image:
        image.write(os.urandom(MIB))
        os.fsync(image.fileno())
    assert workers(pair) == before
    assert (pair.a.count("disconnect"), pair.b.count("disconnect")) == (0, 0)
    assert pair.a.status().status == "complete"
    assert pair.a.hastctl("check", "nobody", check=False).returncode == 65
