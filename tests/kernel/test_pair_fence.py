"""A real pair with a fence program: what applications see from the loss of the link to the program's answer."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.failing_disk import Disks
from tests.kernel.node import MIB, PROJECT, RESOURCE, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.test_takeover import crash

pytestmark = pytest.mark.kernel

WITNESS = PROJECT / "examples" / "fence" / "witness.sh"


def use_witness(pair: Pair) -> Path:
    """Both nodes have the sample program for `fence` and `exec`. The witness, which is not there yet."""
    witness = pair.root / "witness"
    for node in pair.nodes:
        settings = f"HAST_WITNESS={witness} HAST_NODE={node.label}"
        node.hook.write_text(f'#!/bin/sh\necho "$*" >> {node.hook_log}\n{settings} exec {WITNESS} "$@"\n')
        node.config.write_text(node.config.read_text().replace("exec ", f"fence {node.hook}\nexec ", 1))
    return witness


def begin_write(pair: Pair, node: Node, data: bytes) -> subprocess.Popen[bytes]:
    """A program that writes to the disk, synchronously, and ends when that is acknowledged."""
    source = node.root / "source"
    source.write_bytes(data)
    writer = subprocess.Popen(
        ["dd", f"if={source}", f"of={node.image}", "conv=notrunc,fsync", "oflag=direct", "bs=1M", "status=none"]
    )
    pair.users.append(writer)
    return writer


def test_a_primary_holds_everything_until_the_witness_is_there_and_the_other_node_then_stays_away(
    make_pair: MakePair,
) -> None:
    pair = make_pair(Options(timeout=5))
    a, b = pair.nodes
    witness = use_witness(pair)
    pair.start()
    pair.connect()
    pair.cut()
    a.until_status("held", timeout=20)
    writer = begin_write(pair, a, b"a" * (1 << 20))
    counted = a.metadata()["localcnt"]
    a.until(lambda: "I/O is held: the fence program failed" in a.log.read_text(), "the program failed", timeout=20)

    told = json.loads(a.hastctl("status", "--json", RESOURCE).stdout)["resources"][0]
    assert told["problem"] == "I/O is held: the fence program failed with exit code 1."
    assert told["remedy"] == f"hastctl role -f primary {RESOURCE}"

    assert crash(a, "primary", signal.SIGKILL) == 1
    a.until(lambda: a.status().status == "held", "another worker holds as well", timeout=20)
    assert writer.poll() is None
    assert a.metadata()["localcnt"] == counted

    witness.mkdir()
    assert writer.wait(timeout=20) == 0
    a.until_status("degraded")
    assert int(a.metadata()["localcnt"]) == int(counted) + 1
    refused = b.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode == os.EX_TEMPFAIL
    assert "the other node is primary" in refused.stderr
    assert b.status().role == "secondary"

    pair.heal()
    a.until_status("complete")
    a.until(lambda: not any(witness.iterdir()), "the claim is given up")
    a.until(lambda: a.dirty() <= a.options.keepdirty * a.options.extentsize, "the rest is copied")
    pair.rest()
    pair.assert_equal()


def test_the_link_or_an_administrator_lets_held_requests_go_on_and_leaving_the_role_ends_them(
    make_pair: MakePair,
) -> None:
    pair = make_pair(Options(timeout=5))
    a, _ = pair.nodes
    use_witness(pair)  # there is no witness: the program always fails
    pair.start()
    pair.connect()

    pair.cut()
    a.until_status("held", timeout=20)
    writer = begin_write(pair, a, b"1" * (1 << 20))
    pair.heal()
    assert writer.wait(timeout=20) == 0
    a.until_status("complete")

    pair.cut()
    a.until_status("held", timeout=20)
    writer = begin_write(pair, a, b"2" * (1 << 20))
    a.hastctl("role", "-f", "primary", RESOURCE)
    assert writer.wait(timeout=20) == 0
    assert a.status().status == "degraded"
    pair.heal()
    a.until_status("complete")

    pair.cut()
    a.until_status("held", timeout=20)
    writer = begin_write(pair, a, b"3" * (1 << 20))
    a.hastctl("role", "-f", "secondary", RESOURCE)
    assert writer.wait(timeout=20) != 0
    assert a.status().role == "secondary"


def told(node: Node) -> dict[str, str]:
    found: dict[str, str] = json.loads(node.hastctl("status", "--json", RESOURCE).stdout)["resources"][0]
    return found


def test_a_disk_that_fails_while_the_other_node_is_silent_costs_no_more_than_an_error(
    make_pair: MakePair, disks: Disks
) -> None:
    """What fails at once on this node, and has no answer of the other one, is held like the rest, and never said to be
    written."""
    pair = make_pair(Options(replication="fullsync", mediasize=24 * MIB, timeout=3))
    a, b = pair.nodes
    use_witness(pair)  # there is no witness: the program always fails
    disk = disks.failing(24 * MIB)
    a.keep_on(disk.component)
    pair.start()
    pair.connect()
    assert begin_write(pair, a, b"1" * MIB).wait(timeout=20) == 0

    frozen = b.processes()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    disk.fail("write", error=errno.EIO, start=MIB)
    writer = begin_write(pair, a, b"2" * MIB)
    a.until(lambda: told(a)["problem"] == "I/O is held: the fence program failed with exit code 1.", "it is held")
    assert told(a)["remedy"] == f"hastctl role -f primary {RESOURCE}"
    assert writer.poll() is None
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    acknowledged = writer.wait(timeout=20) == 0
    a.until_status("complete")
    disk.heal()
    a.hastctl("attach", RESOURCE)
    a.hastctl("wait", "--timeout", "20", "--for", "synced", RESOURCE)
    if acknowledged:
        with a.image.open("rb", buffering=0) as image:
            assert image.read(MIB) == b"2" * MIB
    pair.rest()
    pair.assert_equal()
