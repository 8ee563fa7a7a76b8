"""hast.conf read again by a running hastd: what changes, what goes on undisturbed, and what is refused."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.component import DataArea
from tests.kernel.conftest import MakePair
from tests.kernel.load import Fio
from tests.kernel.node import MIB, PROJECT, RESOURCE, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.proxy import Proxy

pytestmark = pytest.mark.kernel

RELOADED = "[INFO] Configuration reloaded successfully."
NOT_RELOADED = "[ERROR] Configuration not reloaded: "


def set_statement(node: Node, keyword: str, value: object) -> None:
    """In the node's file; each keyword is there once."""
    text, count = re.subn(rf"^(\s*{keyword}) .*$", rf"\g<1> {value}", node.config.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{count} times {keyword}"
    node.config.write_text(text)


def said(node: Node, words: str) -> int:
    """How often the node's log has the words."""
    return node.log.read_text(errors="replace").count(words)


def hang_up(node: Node, answer: str = RELOADED) -> None:
    """SIGHUP; returns when the log says how it went."""
    assert node.process is not None
    before = said(node, answer)
    node.process.send_signal(signal.SIGHUP)
    node.until(lambda: said(node, answer) > before, f"the log says {answer}", timeout=30)


def put(image: Path, data: bytes) -> None:
    """Over the beginning of the image; flushed."""
    with image.open("r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture
def new_wire(pair: Pair) -> Iterator[Proxy]:
    """Another way to node b."""
    wire = Proxy(pair.b.port)
    wire.heal()
    yield wire
    wire.cut()


def test_modes_change_under_load_without_an_error_and_without_a_new_link(make_pair: MakePair) -> None:
    pair = make_pair(Options(replication="fullsync", device=True))
    pair.start()
    for node in pair.nodes:
        node.config.write_text("metaflush on\n" + node.config.read_text())
    pair.connect()
    workers = [node.fields()["workerpid"] for node in pair.nodes]
    with Fio(pair.a.device, pair, seconds=6) as fio:
        for number, mode in enumerate(("async", "memsync", "fullsync", "async")):
            for node in pair.nodes:
                set_statement(node, "replication", mode)
                set_statement(node, "timeout", 5 + number)
                set_statement(node, "metaflush", "off" if number % 2 else "on")
                set_statement(node, "compression", ("lzf", "none", "hole", "lzf")[number])
                set_statement(node, "checksum", ("crc32", "sha256", "none", "crc32")[number])
                hang_up(node)
            assert pair.a.fields()["replication"] == mode
        assert fio.running()
        fio.finish()
    assert [node.fields()["workerpid"] for node in pair.nodes] == workers
    assert [node.count("disconnect") for node in pair.nodes] == [0, 0]
    assert pair.a.status().status == "complete"
    pair.rest()
    pair.assert_equal()


def test_a_new_mode_and_a_new_hook_outlive_the_link(pair: Pair) -> None:
    pair.connect()
    hook, calls = pair.root / "new-hook.sh", pair.root / "calls"
    hook.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    hook.chmod(0o755)
    set_statement(pair.a, "replication", "async")
    set_statement(pair.a, "exec", hook)
    hang_up(pair.a)
    before = len(pair.a.events())
    pair.cut()
    pair.heal()
    pair.a.until(lambda: calls.exists() and f"connect {RESOURCE}\n" in calls.read_text(), "the new hook was called")
    pair.a.until_status("complete")
    assert pair.a.fields()["replication"] == "async"
    assert len(pair.a.events()) == before


def test_a_primary_goes_to_a_new_remote_at_once_and_lets_go_of_the_old_one(pair: Pair, new_wire: Proxy) -> None:
    pair.connect()
    worker = pair.a.fields()["workerpid"]
    set_statement(pair.a, "remote", f"tcp4://127.0.0.1:{new_wire.port}")
    hang_up(pair.a)
    pair.a.until(lambda: pair.a.count("connect") == 2, "connected again", timeout=5)
    pair.to_b.cut()
    put(pair.a.image, b"x" * MIB)
    assert new_wire.sent > MIB
    assert (pair.a.status().status, pair.a.fields()["workerpid"]) == ("complete", worker)
    assert pair.a.count("disconnect") == 1


def test_a_primary_without_a_remote_works_alone_until_it_gets_one(pair: Pair) -> None:
    pair.connect()
    remote = f"tcp4://127.0.0.1:{pair.to_b.port}"
    set_statement(pair.a, "remote", "none")
    hang_up(pair.a)
    pair.a.until_status("degraded", timeout=5)
    put(pair.a.image, b"y" * MIB)
    set_statement(pair.a, "remote", remote)
    hang_up(pair.a)
    pair.a.until_status("complete", timeout=5)
    pair.a.until(lambda: pair.a.dirty() == 0, "in sync")
    pair.rest()
    pair.assert_equal()


def test_a_secondary_drops_a_primary_that_is_not_its_remote_any_more(pair: Pair) -> None:
    pair.connect()
    remote = f"tcp4://127.0.0.1:{pair.to_a.port}"
    set_statement(pair.b, "remote", "127.0.0.9")
    hang_up(pair.b)
    pair.a.until_status("degraded", timeout=5)
    pair.b.until(lambda: said(pair.b, "it is not the remote address of any resource") > 0, "a is refused", timeout=20)
    set_statement(pair.b, "remote", remote)
    hang_up(pair.b)
    pair.a.until_status("complete", timeout=20)


def spoil_syntax(node: Node) -> None:
    set_statement(node, "replication", "sync")


def spoil_meaning(node: Node) -> None:
    node.config.write_text(node.config.read_text().replace(f"on {socket.gethostname()}", "on somebody-else"))


def spoil_addresses(node: Node) -> None:
    set_statement(node, "listen", f"tcp4://192.0.2.1:{node.port}")


@pytest.mark.parametrize(
    ("spoil", "reason", "code", "client_code"),
    [
        (spoil_syntax, "near 'sync': expected async, fullsync or memsync", 78, 78),
        (spoil_meaning, "No resource shared configuration for this node", 78, 78),
        (lambda node: node.config.unlink(), "Unable to open configuration file", 72, 72),
        (spoil_addresses, "Unable to listen on address tcp4://192.0.2.1", 71, 71),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_the_reason_is_told(
    pair: Pair, spoil: Callable[[Node], None], reason: str, code: int, client_code: int
) -> None:
    node = pair.a
    node.become_primary()
    good = pair.root / "good.conf"
    shutil.copy(node.config, good)
    before = node.hastctl("list").stdout
    set_statement(node, "timeout", 7)
    spoil(node)
    hang_up(node, NOT_RELOADED)
    assert said(node, f"{NOT_RELOADED}") == said(node, reason) == 1

    refused = node.hastctl("reload", "-c", str(good), check=False)  # where to find hastd, which reads its own file
    assert refused.returncode == code
    assert refused.stderr.startswith("[ERROR] ")
    assert reason in refused.stderr
    by_itself = node.hastctl("reload", check=False)
    assert (by_itself.returncode, reason in by_itself.stderr) == (client_code, True)

    shutil.copy(good, node.config)
    assert node.hastctl("list").stdout == before
    assert node.image_is_there()


def test_resources_come_and_go(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    first = node.config.read_text()
    more = first[first.index("resource") :].replace(RESOURCE, "more").replace(str(node.component), f"{node.root}/more")
    more = more.replace(f"name {node.provider}", "name more")
    node.config.write_text(first + more)
    assert node.hastctl("reload").stdout == ""
    assert "more\t-" in node.hastctl("status").stdout
    node.hastctl("create", "-m", "16M", "more")
    node.hastctl("role", "primary", "more")
    assert (node.mountdir / "more").stat().st_size > 15 * MIB
    worker = node.fields()["workerpid"]

    node.config.write_text(first)
    assert node.hastctl("reload", "-d").stdout == "[DEBUG][1] Configuration reloaded.\n"
    assert "more" not in node.hastctl("status").stdout
    assert not (node.mountdir / "more").exists()
    assert node.fields()["workerpid"] == worker
    node.until(lambda: "role more primary init" in node.events(), "the hook was called")


def test_a_renamed_resource_is_restarted_with_the_role_it_had(pair: Pair) -> None:
    pair.connect()
    old = pair.a.image
    put(old, b"z" * MIB)
    set_statement(pair.a, "name", "renamed")
    set_statement(pair.b, "name", "renamed")
    hang_up(pair.b)
    hang_up(pair.a)
    assert not old.exists()
    assert (pair.a.mountdir / "renamed").read_bytes()[:MIB] == b"z" * MIB
    pair.a.until_status("complete")
    pair.a.until(lambda: pair.a.count("role") == 3, "the hook was called with each role")
    roles = [event for event in pair.a.events() if event.startswith("role")]
    assert roles[1:] == [f"role {RESOURCE} primary init", f"role {RESOURCE} init primary"]
    assert pair.b.status().role == "secondary"


def test_another_component_has_to_be_usable_before_the_one_in_use_is_left(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    put(node.image, b"1" * MIB)
    moved = pair.root / "moved"
    set_statement(node, "local", moved)
    refused = node.hastctl("reload", check=False)
    assert (refused.returncode, f"Unable to open {moved}" in refused.stderr) == (66, True)
    assert node.status().role == "primary"

    shutil.copy(node.component, moved)
    node.hastctl("reload")
    assert node.fields()["localpath"] == str(moved)
    put(node.image, b"2" * MIB)
    node.role("init")
    metadata = node.metadata()
    offset, size = int(metadata["localoff"]), MIB
    assert next(iter(DataArea(moved, offset, size).chunks()))[1] == b"2" * MIB
    assert next(iter(DataArea(node.component, offset, size).chunks()))[1] == b"1" * MIB


def test_the_doors_move_and_an_established_link_stays(pair: Pair) -> None:
    pair.connect()
    node = pair.b
    old_port, old_control, old_pidfile = node.port, node.control, node.pidfile
    good = pair.root / "good.conf"
    shutil.copy(node.config, good)
    node.port, node.control, node.pidfile = machine.free_port(), node.root / "control", node.root / "pid"
    set_statement(node, "listen", f"tcp4://127.0.0.1:{node.port}")
    set_statement(node, "control", node.control)
    set_statement(node, "pidfile", node.pidfile)
    done = node.hastctl("reload", "-c", str(good))
    assert (done.stdout, done.stderr) == ("", "")
    assert not old_control.exists()
    assert not old_pidfile.exists()
    assert node.process is not None
    assert int(node.pidfile.read_text()) == node.process.pid
    assert node.status().role == "secondary"
    node.until(lambda: not answers(old_port), "the old port is closed", timeout=5)
    assert answers(node.port)
    assert pair.a.status().status == "complete"
    assert pair.a.count("disconnect") == 0
    node.stop()
    assert not node.control.exists()
    assert not node.pidfile.exists()


def test_a_resource_in_use_is_only_stopped_by_force(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    user = os.open(node.image, os.O_RDWR)
    old_control = node.control
    set_statement(node, "name", "renamed")
    set_statement(node, "listen", f"tcp4://127.0.0.1:{machine.free_port()}")
    try:
        hang_up(node, NOT_RELOADED)
        refused = node.hastctl("reload", check=False)
        assert refused.returncode == os.EX_TEMPFAIL
        assert str(os.getpid()) in refused.stderr, "the holder is named"
        assert os.pread(user, 512, 0) == bytes(512)
        assert answers(node.port), "what was opened before the refusal is closed, what was open stays"
        assert node.image_is_there()
        assert old_control.exists()

        node.hastctl("reload", "-f")
        assert not node.image_is_there()
        assert (node.mountdir / "renamed").exists()
        assert node.status().role == "primary"
        with pytest.raises(OSError):
            os.pread(user, 512, 4 * MIB)
    finally:
        with contextlib.suppress(OSError):  # it is not there any more
            os.close(user)


def test_a_daemon_in_the_background_finds_a_file_that_it_was_given_by_a_relative_path(make_pair: MakePair) -> None:
    node = make_pair().a
    node.create()
    relative = os.path.relpath(node.config, PROJECT)
    command = [relative if word == str(node.config) else word for word in node.hastd_command()]
    machine.run(*command, cwd=PROJECT, timeout=30)
    node.sessions.append(os.getsid(int(node.pidfile.read_text())))
    set_statement(node, "replication", "async")
    node.hastctl("reload")
    assert node.fields()["replication"] == "async"


def test_a_primary_gets_a_device_and_loses_it_again(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    put(node.image, b"d" * MIB)
    set_statement(node, "device", "on")
    node.hastctl("reload")
    assert node.device.read_bytes()[:MIB] == b"d" * MIB
    set_statement(node, "device", "off")
    node.hastctl("reload")
    assert not node.device.is_symlink()
    assert machine.loops_below(pair.root) == []
    assert node.image_is_there()


def test_a_worker_that_hangs_is_replaced_by_one_with_the_new_configuration(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    worker = int(node.fields()["workerpid"])
    os.kill(worker, signal.SIGSTOP)
    set_statement(node, "replication", "async")
    hang_up(node)
    node.until(lambda: node.fields().get("workerpid", str(worker)) != str(worker), "another worker", timeout=20)
    assert said(node, "it would go on with the old configuration") == 1
    put(node.image, b"w" * MIB)


def test_hastd_ends_in_order_in_the_middle_of_a_reload(pair: Pair) -> None:
    node = pair.a
    node.become_primary()
    moved = node.root / "control", node.root / "pid"
    for keyword, path in zip(("control", "pidfile"), moved, strict=True):
        set_statement(node, keyword, path)
    set_statement(node, "name", "renamed")
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    node.stop()
    assert not any(path.exists() for path in (*moved, node.control, node.pidfile))
    assert machine.mounts_below(node.root) == []
