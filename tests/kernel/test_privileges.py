"""Workers give up root's privileges, and do everything without them; with the user hast, and without one."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.daemon import privileges
from hastfs.daemon.privileges import Held
from tests.kernel import account, machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files
from tests.kernel.node import MIB, PROJECT, Node, Options

pytestmark = pytest.mark.kernel


@pytest.fixture
def user() -> Iterator[pwd.struct_passwd]:
    with account.present() as found:
        yield found


@pytest.fixture
def no_user() -> Iterator[None]:
    with account.absent():
        yield


@pytest.fixture(params=["the user hast", "no such user"])
def ids(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """uid and gid of workers."""
    if request.param == "the user hast":
        with account.present() as found:
            yield found.pw_uid, found.pw_gid
    else:
        with account.absent():
            yield 0, 0


def unprivileged(ids: tuple[int, int]) -> Held:
    return Held((ids[0],) * 4, (ids[1],) * 4, (), 0, 0, 0, 0, 0, True)


def threads(pid: int) -> list[Held]:
    """What each thread of a process may do."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.append(privileges.parse((task / "status").read_text()))
    return found


def worker_of(node: Node) -> int:
    return int(node.fields()["workerpid"])


def assert_worker_holds(node: Node, expected: Held) -> None:
    found = threads(worker_of(node))
    assert len(found) > 1, "the engine's threads are there"
    assert set(found) == {expected}


def test_a_pair_lives_its_whole_life_with_workers_that_may_do_nothing(
    ids: tuple[int, int], make_pair: MakePair
) -> None:
    pair = make_pair(Options(device=True))
    pair.start()
    pair.connect()
    for node in pair.nodes:
        assert_worker_holds(node, unprivileged(ids))
        assert os.stat(node.component).st_uid == 0
        assert "Privileges successfully dropped." in node.log.read_text()

    files = Files(pair.a.device, pair.root / "disk")
    files.make()
    files.mount()
    files.write_many("together", 20 * MIB)

    before = worker_of(pair.a)
    os.kill(before, signal.SIGKILL)
    files.write_many("after-kill", 5 * MIB)  # waits for the next worker, which takes over what was asked before
    assert worker_of(pair.a) != before
    assert_worker_holds(pair.a, unprivileged(ids))
    pair.a.until_status("complete")

    pair.cut()
    pair.a.until_status("degraded")
    files.write_many("alone", 20 * MIB)
    done = pair.a.count("syncdone")
    pair.heal()
    pair.a.until_event("syncdone", before=done)
    (files.mountpoint / "together-4").unlink()
    machine.run("fstrim", files.mountpoint)  # discards: fallocate(2) on both components
    files.safe.pop("together-4")
    files.umount()
    pair.rest()
    pair.assert_equal()

    pair.a.role("secondary")
    pair.b.become_primary()
    pair.b.until_status("complete")
    for node in pair.nodes:
        assert_worker_holds(node, unprivileged(ids))
    others = Files(pair.b.device, files.mountpoint)
    others.safe = files.safe
    others.mount()
    others.check()
    others.umount()


def test_the_supervisor_keeps_its_privileges_and_says_what_workers_will_be(
    user: pwd.struct_passwd, make_pair: MakePair
) -> None:
    node = make_pair().a
    node.create()
    node.start()
    assert node.process is not None
    (supervisor,) = set(threads(node.process.pid))
    assert supervisor.uids == (0,) * 4
    assert supervisor.effective == privileges.parse(Path("/proc/self/status").read_text()).effective
    assert node.log.read_text().count(f"[INFO] Workers run as user hast (uid {user.pw_uid}, gid {user.pw_gid})") == 1


def test_hastd_says_that_there_is_no_user_for_its_workers(no_user: None, make_pair: MakePair) -> None:
    node = make_pair().a
    node.create()
    node.start()
    assert node.log.read_text().count("[INFO] There is no user hast: workers stay root, without capabilities.") == 1


# -- a process of our own in a worker's place

PRELUDE = """
import logging, os, socket
from hastfs.daemon import logs
from hastfs.daemon.privileges import drop
from hastfs.errors import SystemFailure

def refused(call, *arguments):
    try:
        call(*arguments)
    except PermissionError:
        return
    print("allowed:", call, arguments)

def bind_privileged_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 813))
"""


def start(code: str, *command: str) -> subprocess.Popen[str]:
    """Runs Python code with root's privileges; what it may need is imported before it drops them."""
    pipe = subprocess.PIPE
    program = PRELUDE + textwrap.dedent(code)
    return subprocess.Popen(
        [*command, sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=PROJECT
    )


def outcome(process: subprocess.Popen[str], last_line: str = "") -> tuple[int, str, str]:
    """Exit code, output and complaints, having told it the last line of its input."""
    try:
        said, complained = process.communicate(last_line, timeout=30)
    finally:
        process.kill()
    return process.returncode, said, complained


def test_nothing_that_takes_privileges_is_left(user: pwd.struct_passwd, scratch: Path) -> None:
    secret = scratch / "secret"
    secret.write_text("")
    process = start(
        f"""
        drop()
        refused(open, {str(secret)!r})
        refused(os.setuid, 0)
        refused(os.setgroups, [0])
        refused(os.kill, {os.getpid()}, 0)
        refused(bind_privileged_port)
        """
    )
    assert outcome(process) == (0, "", "")


def test_the_groups_that_hastd_was_started_with_go(ids: tuple[int, int]) -> None:
    process = start("print(os.getgroups())\ndrop()\nprint(os.getgroups())", *("setpriv", "--groups", "4,24"))
    assert outcome(process) == (0, "[4, 24]\n[]\n", "")


def test_root_without_the_user_has_no_more_than_its_name(no_user: None, scratch: Path) -> None:
    private = scratch / "private"
    private.mkdir(mode=0o700)
    os.chown(private, 65534, 65534)
    process = start(
        f"""
        drop()
        refused(os.listdir, {str(private)!r})
        refused(os.setuid, 1)
        refused(os.chroot, "/")
        refused(bind_privileged_port)
        """
    )
    assert outcome(process) == (0, "", "")


def test_a_syslog_that_was_started_anew_is_found_and_names_are_looked_up(ids: tuple[int, int], scratch: Path) -> None:
    scratch.chmod(0o755)
    path = scratch / "log"
    with contextlib.ExitStack() as held:
        first = held.enter_context(_syslog(path))
        process = start(
            f"""
            logs.SYSLOG_SOCKET = {str(path)!r}
            logs.setup(logs.LogSettings(False, 0))
            drop()
            print("dropped", flush=True)
            input()
            logging.info("Here again.")
            assert ("127.0.0.1", 80) in [found[4] for found in socket.getaddrinfo(b"localhost", 80)]
            """
        )
        held.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "dropped\n"
        assert first.recv(1000).decode().endswith("[INFO] Privileges successfully dropped.\0")
        first.close()
        path.unlink()
        second = held.enter_context(_syslog(path))
        assert outcome(process, "\n") == (0, "", "")
        assert second.recv(1000).decode().endswith("[INFO] Here again.\0")


def test_a_block_device_is_written_flushed_and_zeroed_by_descriptor(ids: tuple[int, int], scratch: Path) -> None:
    with (scratch / "disk").open("wb") as file:
        file.truncate(32 * MIB)
    device = machine.run("losetup", "-f", "--show", scratch / "disk").stdout.strip()
    try:
        process = start(
            f"""
            import trio
            from hastfs.config.parser import parse
            from hastfs.resource.provision import create, open_component
            from hastfs.resource.waiting import data_of, finished

            async def serve():
                component = opened.component()
                assert await finished(lambda done: component.write(0, bytes([1]) * 16384, done)) == 0
                assert await finished(lambda done: component.zero(0, 4096, done, allocated=False)) == 0
                assert await finished(lambda done: component.zero(4096, 4096, done, allocated=True)) == 0
                assert await finished(component.flush) == 0
                assert await finished(lambda done: component.write_durable([(4096, bytes(512))], done)) == 0
                expected = bytes(8192) + bytes([1]) * 8192
                assert await data_of(lambda done: component.read(0, 16384, done)) == (0, expected)
                component.close()

            text = "resource disk {{ on here {{ local {device} remote none }} }}"
            config = parse(text, "hast.conf", ["here"]).resources["disk"]
            create(config, extentsize=1 << 20, keepdirty=4, mediasize=None)
            opened = open_component(config)
            drop()
            refused(os.open, {device!r}, os.O_RDWR) if os.getuid() else None
            trio.run(serve)
            """
        )
        assert outcome(process) == (0, "", "")
    finally:
        machine.release(scratch)


def _syslog(path: Path) -> socket.socket:
    """As reachable as /dev/log."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.settimeout(10)
    path.chmod(0o666)
    return listener


def test_a_thread_that_was_started_before_is_not_forgotten(ids: tuple[int, int]) -> None:
    process = start(
        """
        import threading
        end = threading.Event()
        threading.Thread(target=end.wait).start()
        try:
            drop()
        except SystemFailure as error:
            print("in 2 threads" in str(error))
        end.set()
        """
    )
    assert outcome(process) == (0, "True\n", "")


def test_a_hastd_that_cannot_drop_privileges_is_told_so(no_user: None) -> None:
    process = start(
        """
        try:
            drop()
        except SystemFailure as error:
            print(error)
        """,
        *("setpriv", "--bounding-set=-setpcap"),
    )
    text = (
        "Unable to drop privileges: Operation not permitted. Start hastd as root with all capabilities, and with /proc."
    )
    assert outcome(process) == (0, f"{text}\n", "")
