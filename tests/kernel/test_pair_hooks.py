"""Hooks of a real pair: which node hears of what and when, and that nothing waits for one."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel


def use_hook(node: Node, body: str) -> None:
    """Another program in the place of the node's hook. A running hastd takes it for the next event."""
    fresh = node.hook.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{body}\n")
    fresh.chmod(0o755)
    fresh.rename(node.hook)


def tell_arguments(node: Node) -> None:
    """A hook that writes its arguments down in one write, each in brackets: nothing is lost or added by quoting."""
    use_hook(node, f'line=""; for word in "$@"; do line="$line[$word]"; done; echo "$line" >> {node.hook_log}')


def expect(node: Node, *events: str) -> None:
    """Waits until the node has heard of these events, in this order, since the last look; forgets them."""
    lines = ["".join(f"[{word}]" for word in event.format(RESOURCE).split()) for event in events]
    node.until(lambda: len(node.events()) >= len(lines), f"the hook was called {len(lines)} times", timeout=40)
    assert node.events() == lines, f"node {node.label}"
    node.hook_log.write_text("")


def write(node: Node, megabytes: int, *, at: int = 0) -> None:
    with node.image.open("r+b", buffering=0) as image:
        image.seek(at * MIB)
        for _ in range(megabytes):
            image.write(os.urandom(MIB))
        os.fsync(image.fileno())


def hanging_in(node: Node) -> int:
    """The process of the hook that hangs; 0: none yet."""
    path = node.root / "hanging"
    return int(path.read_text().strip() or 0) if path.exists() else 0


def logged(node: Node, words: str) -> bool:
    return words in node.log.read_text()


def is_running(pid: int) -> bool:
    """Whether it is the hook that hangs, and not another process with its number."""
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_both_nodes_hear_of_all_that_happens_when_it_happens(make_pair: MakePair) -> None:
    pair = make_pair(Options(timeout=5))
    for node in pair.nodes:
        tell_arguments(node)
    pair.start()
    a, b = pair.nodes

    b.role("secondary")
    expect(b, "role {} init secondary")
    a.become_primary()
    a.until(lambda: len(a.events()) >= 2, "the hook heard of role and link")
    assert sorted(a.events()) == [f"[connect][{RESOURCE}]", f"[role][{RESOURCE}][init][primary]"]
    a.hook_log.write_text("")
    expect(b, "connect {}")

    pair.cut()
    expect(b, "disconnect {}")
    write(a, 48)
    expect(a, "disconnect {}")
    pair.to_b.rate = 8 * MIB
    sent = pair.to_b.sent
    pair.heal()
    a.until(lambda: pair.to_b.sent > sent + 4 * MIB, "the resync is on its way")
    pair.cut()
    expect(a, "connect {}", "syncstart {}", "syncintr {}", "disconnect {}")
    expect(b, "connect {}", "disconnect {}")
    pair.to_b.rate = None
    pair.heal()
    expect(a, "connect {}", "syncstart {}", "syncdone {}")
    expect(b, "connect {}")

    a.role("init")
    expect(a, "disconnect {}", "role {} primary init")
    expect(b, "disconnect {}")
    pair.cut()
    for node in pair.nodes:
        node.become_primary()
        write(node, 1, at=8)
        node.role("secondary")
    expect(a, "role {} init primary", "role {} primary secondary")
    expect(b, "role {} secondary primary", "role {} primary secondary")
    pair.heal()
    a.become_primary()
    expect(a, "split-brain {}", "role {} secondary primary")
    expect(b, "split-brain {}")
    attempts = b.log.read_text().count("Split-brain")
    b.until(lambda: b.log.read_text().count("Split-brain") > attempts, "a came again")
    a.role("init")
    b.role("init")
    expect(a, "role {} primary init")
    expect(b, "role {} secondary init")


def test_hooks_that_hang_hold_up_nothing(pair: Pair) -> None:
    a, b = pair.nodes
    for node in pair.nodes:
        use_hook(node, f"echo $$ > {node.root}/hanging; exec sleep 600")
    started = time.monotonic()
    pair.connect()
    hanging = [wait_for(partial(hanging_in, node), "the hook hangs") for node in pair.nodes]
    write(a, 8)
    pair.cut()
    a.until_status("degraded", timeout=25)
    write(a, 8)
    pair.heal()
    a.until_status("complete")
    a.until(lambda: a.dirty() <= a.options.keepdirty * a.options.extentsize, "the rest is copied")
    pair.rest()
    pair.assert_equal()
    b.become_primary()
    b.role("init")
    assert time.monotonic() - started < 60
    assert all(is_running(pid) for pid in hanging)
    assert len(set(hanging)) == 2

    started = time.monotonic()
    for node in pair.nodes:
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
    for node in pair.nodes:
        node.stop()
    assert time.monotonic() - started < 20, "hastd waits for a hook, but not for long"
    wait_for(lambda: not any(is_running(pid) for pid in hanging), "the hooks have ended with hastd", timeout=5)


def test_a_hook_that_fails_is_logged_and_changes_nothing(pair: Pair) -> None:
    use_hook(pair.a, "exit 3")
    use_hook(pair.b, "kill -9 $$")
    pair.connect()
    write(pair.a, 1)
    for node, reason in ((pair.a, "exitcode=3"), (pair.b, f"signal={int(signal.SIGKILL)}")):
        for event in ("role", "connect"):
            words = f"{reason}, cmd=[{node.hook} {event} {RESOURCE}"
            node.until(partial(logged, node, words), f"the log has {words}")
    pair.rest()
    pair.assert_equal()
