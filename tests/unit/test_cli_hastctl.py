"""hastctl as users meet it: exit codes and texts, with real components and a daemon of a few lines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hastfs.cli import client as client_module
from hastfs.cli import hastctl, hastd
from hastfs.cli.commands import status as status_module
from hastfs.config import files
from hastfs.model import Role
from hastfs.protocol.control import ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import FrameReader

Answer = Callable[[Request], Reply | None]


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
        if reply is not None:
            client.sendall(b"".join(reply.encode()))

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


@pytest.mark.parametrize("arguments", [("status",), ("list",), ("role", "primary", "test"), ("stop",), ("reload",)])
def test_without_a_daemon_commands_are_71(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    message = f"[ERROR] Unable to connect to hastd via {tmp_path}/control: No such file or directory.\n"
    assert run(*arguments) == (71, "", message)


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


@pytest.mark.parametrize("option", ["checksum crc32", "checksum sha256", "compression lzf"])
def test_hastd_refuses_what_it_cannot_do_yet(conf: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(conf).read_text()
    Path(conf).write_text(text.replace("resource more {", f"resource more {{ {option}\n"))
    assert hastd.main(["-F", "-c", conf]) == 78
    err = capsys.readouterr().err
    assert f"resource more: {option} is not available yet" in err


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
    assert run("status") == (70, "", "[ERROR] Received error 2 from hastd.\n")


def test_a_refused_stop_is_75_and_says_why(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(75, "Resource test is in use.")
    assert run("stop") == (75, "", "[ERROR] Resource test is in use.\n")
    assert daemon.requests == [Request(ControlCommand.STOP)]


def test_reload_is_silent_unless_debugging(run: Run, daemon: Daemon) -> None:
    assert run("reload") == (0, "", "")
    assert run("reload", "-fd") == (0, "[DEBUG][1] Configuration reloaded.\n", "")
    assert daemon.requests == [Request(ControlCommand.RELOAD), Request(ControlCommand.RELOAD, force=True)]


@pytest.mark.parametrize("code", [66, 71, 72, 75, 78])
def test_a_refused_reload_says_why_with_the_errors_exit_code(run: Run, daemon: Daemon, code: int) -> None:
    daemon.answer = lambda request: Reply(code, "/etc/hast.conf:3: near 'sync'")
    assert run("reload") == (code, "", "[ERROR] /etc/hast.conf:3: near 'sync'\n")


def test_a_daemon_that_does_not_answer_costs_bounded_time(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(status_module, "ANSWER_WITHIN", 0.05)
    daemon.answer = lambda request: None
    assert run("status") == (71, "", f"[ERROR] No answer from hastd via {tmp_path}/control within 0.05 s.\n")


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
