"""The captured command lines and control requests, replayed with our programs: those that need a running hastd."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hastfs.cli.commands import status
from hastfs.protocol.nv import NvType
from tests.interop.commandline import WITH_DAEMON, Outcome, Replay, expected
from tests.interop.original import VECTORS, fields, read
from tests.kernel.node import RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


@pytest.fixture
def node(scratch: Path) -> Iterator[Node]:
    """A node whose folder is `/DIR` of the captured commands, and whose hastd serves their component."""
    made = Node(scratch, "a", "test", Options())
    made.config, made.control, made.pidfile = made.root / "a.conf", made.root / "ctl.a", made.root / "pid"
    try:
        yield made
    finally:
        made.clean_up()


def test_commands_end_as_the_original_s(node: Node) -> None:
    replay = Replay(node.root, node.port)
    node.hastctl("create", "test")
    node.start()
    found: dict[str, Outcome] = {}
    for command in WITH_DAEMON:
        found[command.what] = replay.run(command)
    assert found == {command.what: expected(command) for command in WITH_DAEMON}
    node.stop()


EXCHANGES = {exchange["what"]: exchange for exchange in VECTORS["control"]}
OURS = ("errmsg",)
"""What our replies say besides the original's fields, wherever they say it."""

Shape = list[tuple[str, NvType, object]]


def shape(found: Iterable[tuple[str, NvType, object]]) -> Shape:
    """Names and types in their order, and the values that no two runs can have differently: errors and roles."""
    fixed = ("error", "role", "resource")
    return [
        (name, kind, value if name.rstrip("0123456789") in fixed else ...)
        for name, kind, value in found
        if name.rstrip("0123456789") not in OURS
    ]


def asked(node: Node, what: str) -> Shape:
    """The shape of our hastd's reply to a captured request; nothing at all if it closes the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(node.control))
        client.sendall(bytes.fromhex(EXCHANGES[what]["request"]))
        reply = b"".join(iter(lambda: client.recv(65536), b""))
    return shape(read(reply).nv) if reply else []


def original(what: str) -> Shape:
    return shape(fields(EXCHANGES[what]["reply_fields"] or []))


def test_control_requests_are_answered_as_by_the_original(node: Node) -> None:
    Replay(node.root, node.port)
    node.hastctl("create", "test")
    node.start()
    # The original was secondary when it was told to become init; here that is no change.
    assert asked(node, "SETROLE init all") == [
        (name, kind, "init" if value == "secondary" else value) for name, kind, value in original("SETROLE init all")
    ]
    in_any_role = ("no cmd", "no resource0", "unknown cmd 9", "SETROLE bad role 7", "SETROLE secondary unknown")
    for what in (*in_any_role, "STATUS all (init)"):
        assert asked(node, what) == original(what), what
    node.hastctl("role", "primary", "test")
    for what in (*in_any_role, "STATUS all (primary)", "STATUS test + nope", "SETROLE same role primary"):
        assert asked(node, what) == original(what), what
    node.stop()


def test_the_control_requests_of_a_connected_pair_are_answered_as_by_the_original(pair: Pair) -> None:
    pair.connect()
    for node, what in ((pair.a, "STATUS all (primary)"), (pair.b, "STATUS all (secondary)")):
        named = [(name, kind, RESOURCE if value == "test" else value) for name, kind, value in original(what)]
        assert asked(node, what) == named, what
    assert asked(pair.b, "SETROLE init all")[1] == original("SETROLE init all")[1]


def test_a_hastd_that_hangs_costs_a_command_bounded_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ANSWER_WITHIN", 0.5)
    assert pair.a.process is not None
    pair.a.process.send_signal(signal.SIGSTOP)
    try:
        hung = pair.a.hastctl("status", check=False)
    finally:
        pair.a.process.send_signal(signal.SIGCONT)
    assert hung.returncode == 71
    assert hung.stderr == f"[ERROR] No answer from hastd via {pair.a.control} within 0.5 s.\n"
    pair.a.until(lambda: pair.a.hastctl("status", check=False).returncode == 0, "hastd answers again")
