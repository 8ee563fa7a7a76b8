"""hastctl as users meet it: exit codes and texts, with real components and a daemon of a few lines."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hastfs.cli import client as client_module
from hastfs.cli import hastctl, hastd
from hastfs.cli.commands import role as role_module
from hastfs.cli.commands import status as status_module
from hastfs.cli.commands import upgrade as upgrade_module
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.daemon import logs
from hastfs.model import Role
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.protocol.control import ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import FrameReader

PROJECT = Path(__file__).resolve().parents[2]
Answer = Callable[[Request], Reply | bytes | None]
"""What the daemon says; bytes are sent as they are, and nothing comes after them. None: it is silent."""


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "hast.conf"
    node = files.node_names()[0]
    path.write_text(
        f"control {tmp_path}/control\npidfile {tmp_path}/pid\ntimeout 1\nlisten tcp4://127.0.0.1:18699\n"
        f"mountdir {tmp_path}/mnt\n"
        f"resource test {{ on {node} {{ local {tmp_path}/test.img remote tcp4://127.0.0.1:10532 }} }}\n"
        f"resource more {{ on {node} {{ local {tmp_path}/more.img remote none }} }}\n"
    )
    return str(path)


@pytest.fixture
def run(conf: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def running(command: str, *arguments: str) -> tuple[int, str, str]:
        code = hastctl.main([command, "-c", conf, *arguments])
        return code, *capsys.readouterr()

    return running


Run = Callable[..., tuple[int, str, str]]


class Daemon:
    """Answers each connection's one request with what it is told to."""

    def __init__(self, path: str) -> None:
        self.requests: list[Request] = []
        self.answer: Answer = lambda request: Reply()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            reader = FrameReader(65536, 0)
            while (frame := reader.next()) is None:
                count = client.recv_into(reader.buffer())
                if not count:
                    break
                reader.received(count)
            if frame is not None:
                self._reply(client, Request.decode(frame))

    def _reply(self, client: socket.socket, request: Request) -> None:
        self.requests.append(request)
        reply = self.answer(request)
        if isinstance(reply, Reply):
            client.sendall(b"".join(reply.encode()))
        elif reply is not None:
            client.sendall(reply)
            client.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for client in self._clients:
            client.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(str(tmp_path / "control"))
    yield made
    made.close()


def test_create_and_dump_work_without_a_daemon(run: Run, tmp_path: Path) -> None:
    assert run("create", "-m", "64M", "test") == (0, "", "")
    assert os.path.getsize(tmp_path / "test.img") == 64 << 20
    code, out, err = run("dump", "test")
    assert (code, err) == (0, "")
    assert out == (
        "resource: test\n    datasize: 67104256 (64MB)\n    extentsize: 2097152 (2.0MB)\n    keepdirty: 64\n"
        "    localoff: 4608\n    resuid: 0\n    localcnt: 0\n    remotecnt: 0\n    prevrole: init\n"
    )


def test_sizes_given_to_create_are_in_the_metadata(run: Run) -> None:
    assert run("create", "-m", "1M", "-e", "512", "-k", "8", "test") == (0, "", "")
    _, out, _ = run("dump", "test")
    assert "datasize: 1043968 (1.0MB)\n    extentsize: 512 (512B)\n    keepdirty: 8\n" in out


def test_create_goes_on_after_an_unknown_resource(run: Run) -> None:
    code, out, err = run("create", "-m", "1M", "nope", "test")
    assert (code, out, err) == (65, "", "[ERROR] Unknown resource nope.\n")
    assert run("dump", "test")[0] == 0


def test_all_is_no_name_for_create(run: Run) -> None:
    assert run("create", "all") == (65, "", "[ERROR] Unknown resource all.\n")


@pytest.mark.parametrize(
    "sizes", [("-e", "100"), ("-e", "-1"), ("-e", "5120"), ("-e", "3M"), ("-e", "1T"), ("-k", "-1"), ("-m", "100")]
)
def test_impossible_sizes_are_65_and_name_the_resource(run: Run, tmp_path: Path, sizes: tuple[str, str]) -> None:
    (tmp_path / "test.img").write_bytes(bytes(1 << 20))
    code, out, err = run("create", *sizes, "test")
    assert (code, out) == (65, "")
    assert err.startswith("[ERROR] [test] ")


def test_create_without_a_file_and_a_size_is_66(run: Run) -> None:
    code, _, err = run("create", "test")
    assert code == 66
    assert "No such file or directory" in err


def test_dump_of_what_cannot_be_read_is_255_and_the_rest_is_dumped(run: Run, tmp_path: Path) -> None:
    run("create", "-m", "1M", "more")
    code, out, err = run("dump")
    assert code == 255
    assert out.startswith("resource: more\n")
    assert err == f"[ERROR] Unable to open {tmp_path}/test.img: No such file or directory.\n"


def test_dump_of_an_unknown_resource_is_65(run: Run) -> None:
    assert run("dump", "nope") == (65, "", "[ERROR] Unknown resource nope.\n")


def test_dump_goes_on_after_an_unknown_resource_and_all_means_all(run: Run) -> None:
    for name in ("test", "more"):
        run("create", "-m", "1M", name)
    code, out, err = run("dump", "nope", "more", "test")
    assert (code, err) == (65, "[ERROR] Unknown resource nope.\n")
    assert [line for line in out.splitlines() if line.startswith("resource")] == ["resource: more", "resource: test"]
    code, out, err = run("dump", "all")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("resource")] == ["resource: test", "resource: more"]


def test_dump_warns_of_a_damaged_copy_in_the_form_of_its_other_messages(run: Run, tmp_path: Path) -> None:
    run("create", "-m", "1M", "test")
    with (tmp_path / "test.img").open("r+b") as component:
        component.seek(SECOND_COPY)
        component.write(b"x")
    code, out, err = run("dump", "test")
    assert (code, out.splitlines()[0]) == (0, "resource: test")
    assert err.startswith(f"[WARNING] {tmp_path}/test.img: the second copy of the metadata is damaged")
    assert run("dump", "test") == (code, out, err), "and says it once each time"


def dumped_to(conf: str, descriptor: int) -> tuple[int, str]:
    """Exit code and standard error of a hastctl dump that prints to `descriptor`, which is closed."""
    command = [sys.executable, "-m", "hastfs.cli.hastctl", "dump", "-c", conf, "test"]
    try:
        done = subprocess.run(
            command, stdout=descriptor, stderr=subprocess.PIPE, text=True, timeout=60, check=False, cwd=PROJECT
        )
    finally:
        os.close(descriptor)
    return done.returncode, done.stderr


def test_a_reader_that_has_seen_enough_is_nothing_to_complain_about(run: Run, conf: str) -> None:
    run("create", "-m", "1M", "test")
    reader, writer = os.pipe()
    os.close(reader)
    assert dumped_to(conf, writer) == (128 + signal.SIGPIPE, "")


def test_output_that_cannot_be_written_is_74(run: Run, conf: str) -> None:
    run("create", "-m", "1M", "test")
    message = "[ERROR] Unable to write to standard output: No space left on device.\n"
    assert dumped_to(conf, os.open("/dev/full", os.O_WRONLY)) == (74, message)


def test_an_interrupted_command_ends_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> Config:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "load", interrupted)
    assert run("status") == (128 + signal.SIGINT, "", "")


TO_THE_DAEMON = pytest.mark.parametrize(
    "arguments", [("status",), ("list",), ("role", "primary", "test"), ("stop",), ("reload",), ("upgrade",)]
)


@TO_THE_DAEMON
def test_without_a_daemon_commands_are_71(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    message = "[ERROR] Unable to connect to hastd via {}/control: {}.\n"
    assert run(*arguments) == (71, "", message.format(tmp_path, "No such file or directory"))
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "control"))
    assert run(*arguments) == (71, "", message.format(tmp_path, "Connection refused"))


def test_a_missing_configuration_is_72(capsys: pytest.CaptureFixture[str]) -> None:
    message = "[ERROR] Unable to open configuration file /nonexistent.conf: No such file or directory.\n"
    assert hastctl.main(["status", "-c", "/nonexistent.conf"]) == 72
    assert capsys.readouterr().err == message
    assert hastd.main(["-F", "-c", "/nonexistent.conf"]) == 72
    assert capsys.readouterr().err == message


def test_a_wrong_configuration_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.conf"
    path.write_text("resource {")
    assert hastctl.main(["status", "-c", str(path)]) == 78
    assert hastd.main(["-F", "-c", str(path)]) == 78
    assert capsys.readouterr().err.count("[ERROR] ") == 2


def test_hastd_logs_what_may_be_a_mistake_in_its_configuration_and_hastctl_is_silent(
    run: Run, conf: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(conf).write_text(f"timeout 1\n{Path(conf).read_text()}")
    monkeypatch.setattr(logs, "setup", lambda settings: True)
    monkeypatch.setattr(hastd, "_serve", lambda *arguments: 0)
    assert hastd.main(["-F", "-c", conf]) == 0
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "WARNING",
        f"{conf}:4: near 'timeout': given twice in the same section; the one in line 1 does not count.",
    )
    assert run("create", "-m", "1M", "test") == (0, "", "")


def test_usage_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert hastctl.main([]) == 64
    assert hastd.main(["-h"]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: hastctl create ")
    assert err.endswith("hastd: [-dFh] [-c config] [-P pidfile]\n")


def test_status_and_list_print_what_the_daemon_says(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(
        resources=[
            ResourceStatus("test", localpath="/a", remoteaddr="b", role="primary", status="complete"),
            ResourceStatus("nope", 1),
        ]
    )
    header = "Name\tStatus\t Role\t\tComponents\n"
    assert run("status", "test", "nope") == (1, f"{header}test\tcomplete primary        /a\tb\nnope\tERR1\n", "")
    code, out, err = run("list", "test", "nope")
    assert (code, err) == (1, "")
    assert out.endswith("\nnope:\n  error: 1\n")
    assert daemon.requests[0] == Request(ControlCommand.STATUS, resources=("test", "nope"))


def test_an_error_of_one_resource_is_explained_beside_the_others(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(
        resources=[
            ResourceStatus("test", 71, "Worker process 7 does not answer."),
            ResourceStatus("more", localpath="/a", remoteaddr="none", role="init"),
        ]
    )
    code, out, err = run("status")
    assert code == 71
    assert "\ntest\tERR71\nmore\t-        init           /a\tnone\n" in out
    assert err == "[ERROR] [test] Worker process 7 does not answer.\n"


def test_role_is_asked_for_and_silent_when_it_is_had(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[ResourceStatus("test", role="init")])
    assert run("role", "-f", "primary", "test") == (0, "", "")
    assert daemon.requests == [Request(ControlCommand.SETROLE, Role.PRIMARY, True, ("test",))]


def test_debugging_tells_of_roles(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[ResourceStatus("test", role="init")])
    changed = "[DEBUG][1] [test] Role changed from init to secondary.\n"
    assert run("role", "-d", "secondary", "test") == (0, changed, "")
    assert run("role", "-d", "init", "test") == (0, "", "")
    assert run("role", "-dd", "init", "test") == (0, "[DEBUG][2] [test] Role unchanged (init).\n", "")


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (ResourceStatus("nope", 1), 1, "[WARNING] [nope] Received error 1 from hastd.\n"),
        (ResourceStatus("test", 75, "In use.", role="primary"), 75, "[ERROR] [test] In use.\n"),
        (ResourceStatus("test", 66, "No component."), 66, "[ERROR] [test] No component.\n"),
    ],
)
def test_what_kept_a_role_from_changing_is_said(
    run: Run, daemon: Daemon, answer: ResourceStatus, code: int, message: str
) -> None:
    daemon.answer = lambda request: Reply(resources=[answer, ResourceStatus("more", role="init")])
    assert run("role", "primary", "all") == (code, "", message)


def test_an_error_of_the_whole_request_is_70(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(2)
    assert run("status") == (70, "", "[ERROR] Error 2 received from hastd.\n")


def test_a_refused_stop_is_75_and_says_why(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(75, "Resource test is in use.")
    assert run("stop") == (75, "", "[ERROR] Resource test is in use.\n")
    assert daemon.requests == [Request(ControlCommand.STOP)]


def test_reload_is_silent_unless_debugging(run: Run, daemon: Daemon) -> None:
    assert run("reload") == (0, "", "")
    assert run("reload", "-fd") == (0, "[DEBUG][1] Configuration reloaded.\n", "")
    assert daemon.requests == [Request(ControlCommand.RELOAD), Request(ControlCommand.RELOAD, force=True)]


def test_upgrade_says_which_version_took_over_from_which(run: Run, daemon: Daemon) -> None:
    served = [ResourceStatus("test", role="primary"), ResourceStatus("other", role="secondary")]
    daemon.answer = lambda request: Reply(resources=served, before="0.1.0", version="0.2.0")
    assert run("upgrade") == (0, "hastd was version 0.1.0, and is version 0.2.0 now.\n", "")
    code, out, err = run("upgrade", "-d")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        "[DEBUG][1] [test] Served by the new version (primary).",
        "[DEBUG][1] [other] Served by the new version (secondary).",
    ]
    assert daemon.requests == [Request(ControlCommand.UPGRADE)] * 2


def test_a_resource_that_an_upgrade_lost_is_an_error(run: Run, daemon: Daemon) -> None:
    lost = ResourceStatus("test", 71, "Resource test is not primary any more; the log says why.", role="init")
    fine = ResourceStatus("other", role="secondary")
    daemon.answer = lambda request: Reply(resources=[lost, fine], before="0.1.0", version="0.2.0")
    assert run("upgrade") == (
        71,
        "hastd was version 0.1.0, and is version 0.2.0 now.\n",
        "[ERROR] [test] Resource test is not primary any more; the log says why.\n",
    )


def test_a_refused_upgrade_says_why(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(71, "hastd goes on as it is: the program is broken.")
    assert run("upgrade") == (71, "", "[ERROR] hastd goes on as it is: the program is broken.\n")


@pytest.mark.parametrize("code", [66, 71, 72, 75, 78])
def test_a_refused_reload_says_why_with_the_errors_exit_code(run: Run, daemon: Daemon, code: int) -> None:
    daemon.answer = lambda request: Reply(code, "/etc/hast.conf:3: near 'sync'")
    assert run("reload") == (code, "", "[ERROR] /etc/hast.conf:3: near 'sync'\n")


@TO_THE_DAEMON
def test_a_daemon_that_does_not_answer_costs_bounded_time(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(status_module, "ANSWER_WITHIN", 0.25)
    monkeypatch.setattr(role_module, "_MARGIN", -0.75)  # beside the second of the resources' timeout
    monkeypatch.setattr(upgrade_module, "_CHANGES_WITHIN", 0.0)
    daemon.answer = lambda request: None
    code, out, err = run(*arguments)
    assert (code, out) == (71, "")
    assert re.fullmatch(rf"\[ERROR\] No answer from hastd via {tmp_path}/control within 0\.[27]5 s\.\n", err)


@TO_THE_DAEMON
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the connection was closed"),
        (b"".join(Reply(resources=[ResourceStatus("test")]).encode())[:-1], "the connection was closed"),
        (b"\x02\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", "impossible sizes"),
        (b"\xff" * 100, "version"),
    ],
)
def test_an_answer_that_makes_no_sense_is_71(
    run: Run, daemon: Daemon, arguments: tuple[str, ...], answer: bytes, reason: str
) -> None:
    daemon.answer = lambda request: answer
    code, out, err = run(*arguments)
    assert (code, out) == (71, "")
    assert err.startswith("[ERROR] No usable answer from hastd via ")
    assert reason in err


def test_known_and_unknown_resources_are_told_apart_in_every_command(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(
        resources=[ResourceStatus("nope", 1), ResourceStatus("test", localpath="/a", remoteaddr="b", role="init")]
    )
    header = "Name\tStatus\t Role\t\tComponents\n"
    assert run("status", "nope", "test") == (1, f"{header}nope\tERR1\ntest\t-        init           /a\tb\n", "")
    code, out, err = run("list", "nope", "test")
    assert (code, err) == (1, "")
    assert out.startswith("nope:\n  error: 1\ntest:\n  role: init\n")
    assert run("role", "-d", "secondary", "nope", "test") == (
        1,
        "[DEBUG][1] [test] Role changed from init to secondary.\n",
        "[WARNING] [nope] Received error 1 from hastd.\n",
    )


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "all"), ("list",), ("list", "all"), ("role", "init", "all")]
)
def test_all_is_for_the_daemon_to_expand(run: Run, daemon: Daemon, arguments: tuple[str, ...]) -> None:
    run(*arguments)
    assert daemon.requests[-1].resources == ("all",)


def test_stop_returns_when_the_process_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not client_module.wait_for_end(process.pid, 0.01)
        assert process.stdin is not None
        process.stdin.close()
        assert client_module.wait_for_end(process.pid, 60)
    assert client_module.wait_for_end(process.pid, 60)


def test_the_daemons_pid_is_that_of_who_listens(daemon: Daemon, tmp_path: Path) -> None:
    with client_module.Client(str(tmp_path / "control"), 5) as client:
        assert client.daemon_pid == os.getpid()


@pytest.mark.parametrize("arguments", [["role", "primary", "all"], ["status"]])
def test_a_failover_does_not_wait_for_what_only_other_commands_need(arguments: list[str]) -> None:
    """trio and the engines take longer to load than all the rest of a `role primary` takes."""
    code = f"""
import sys
from hastfs.cli import hastctl
assert hastctl.main([*{arguments!r}, "-c", "/nonexistent"]) == 72
assert "hastfs.cli.commands.{arguments[0]}" in sys.modules
print(sorted({{"trio", "pyfuse3", "subprocess"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
