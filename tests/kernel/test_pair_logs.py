"""The logs of a real pair: what a life looks like in them, in every form, and how much of it."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options

pytestmark = pytest.mark.kernel


def in_form(node: Node, form: str) -> None:
    """In its hast.conf."""
    rest = [line for line in node.config.read_text().splitlines() if not line.startswith("logformat")]
    node.config.write_text("\n".join([f"logformat {form}", *rest, ""]))


def lines(node: Node) -> list[str]:
    return node.log.read_text().splitlines()


def told(node: Node) -> list[dict[str, Any]]:
    """Its lines; all of them are JSON."""
    return [json.loads(line) for line in lines(node)]


def events(node: Node) -> list[str]:
    return [line["event"] for line in told(node) if line.get("event")]


def worker(node: Node) -> int:
    """The pid of the one worker, of which `hastd -d` tells at least one line."""
    processes = [line["pid"] for line in told(node) if line.get("role") == "primary" and line["pid"] != pid(node)]
    return int(processes[-1])


def pid(node: Node) -> int:
    assert node.process is not None
    return node.process.pid


def test_a_life_is_a_line_for_each_change_in_json(make_pair: MakePair) -> None:
    """Connect, loss, a resync, a worker that dies, a failover."""
    pair = make_pair(Options(mediasize=32 * MIB))
    for node in pair.nodes:
        in_form(node, "json")
    pair.start()
    pair.connect()
    pair.cut()
    pair.a.until_event("disconnect")
    pair.b.until_event("disconnect")
    with pair.a.image.open("r+b", buffering=0) as image:
        image.write(os.urandom(MIB))
        os.fsync(image.fileno())
    pair.heal()
    pair.a.until_event("syncdone")
    pair.a.until(lambda: events(pair.a)[-1] == "syncdone", "the log has it, too")
    pair.a.role("secondary")
    pair.b.become_primary()
    pair.b.until_status("complete")
    pair.b.until(lambda: events(pair.b)[-3:] == ["connect", "insync", "role"], "the log has it, too")
    a = events(pair.a)
    assert a[:4] == ["start", "connect", "insync", "role"]
    assert a[4:10] == ["disconnect", "connect", "syncstart", "syncdone", "disconnect", "role"]
    assert events(pair.b)[:4] == ["start", "role", "connect", "disconnect"]
    role = next(line for line in told(pair.a) if line.get("event") == "role")
    assert (role["from"], role["to"], role["resource"]) == ("init", "primary", RESOURCE)
    resync = [line for line in told(pair.a) if line.get("event") == "syncstart"]
    assert [line["bytes"] for line in resync] == [MIB]
    assert all(line["role"] == "primary" and line["pid"] != pid(pair.a) for line in resync)
    lost = [line for line in told(pair.a) if "onnect" in line["message"] and line["level"] == "warning"]
    assert [line.get("reason") for line in lost] == ["closed by the other node", None]
    assert lost[0]["message"] == f"Disconnected from {lost[0]['peer']}: closed by the other node"


def test_form_and_level_change_in_all_processes_and_for_those_to_come(make_pair: MakePair) -> None:
    pair = make_pair(Options(mediasize=32 * MIB))
    pair.start()
    pair.connect()
    assert pair.a.hastctl("log-level").stdout == f"hastd\tdebug\n{RESOURCE}\tdebug\n"  # it was started with -d
    pair.a.hastctl("log-level", "info")
    assert pair.a.hastctl("log-level").stdout == f"hastd\tinfo\n{RESOURCE}\tinfo\n"
    in_form(pair.a, "json")
    pair.a.log.write_text("")
    pair.a.hastctl("reload")
    pair.cut()
    pair.a.until(lambda: "disconnect" in events(pair.a), "the worker tells it in JSON")
    assert [line["event"] for line in told(pair.a) if line["pid"] == pid(pair.a)][-1] == "reload"
    pair.a.hastctl("log-level", "debug", RESOURCE)
    assert pair.a.hastctl("log-level").stdout == f"hastd\tinfo\n{RESOURCE}\tdebug\n"
    pair.a.until(lambda: {"debug"} <= {line["level"] for line in told(pair.a)}, "the worker tells more")
    before = worker(pair.a)
    os.kill(before, signal.SIGKILL)
    pair.a.until(lambda: events(pair.a)[-1:] == ["worker-restart"], "another is started")
    pair.a.until(lambda: worker(pair.a) != before, "the other one tells something")
    pair.a.until(lambda: told(pair.a)[-1]["level"] == "debug" and worker(pair.a) != before, "as much as the first")


def test_a_level_that_is_none_or_a_resource_that_is_none_is_refused(make_pair: MakePair) -> None:
    pair = make_pair(Options(mediasize=32 * MIB))
    pair.a.create()
    pair.a.start()
    assert pair.a.hastctl("log-level", "loud", check=False).returncode == 1
    assert pair.a.hastctl("log-level", "error", "nobody", check=False).returncode == 1
    assert pair.a.hastctl("log-level", RESOURCE).stdout == f"{RESOURCE}\tdebug\n"
