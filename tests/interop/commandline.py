"""What the original's programs answered on the command line (tests/interop/vectors/commands.json), and where we differ.

The commands build on each other, so they are replayed in their order: `/DIR` is one folder with one component, and
from "status with daemon, init" to "create on a running primary" a hastd serves it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hastfs.cli import hastctl, hastd
from hastfs.cli.options import HASTCTL_USAGE
from hastfs.config.files import node_names

MEDIASIZE = 64 << 20
"""Bytes of the component."""

_FILE = Path(__file__).parent / "vectors" / "commands.json"
_CAPTURED: dict[str, Any] = json.loads(_FILE.read_text())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to. Texts have `/DIR` for the folder, and letters for values that no two runs share."""

    code: int
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """One captured invocation."""

    what: str
    argv: tuple[str, ...]
    original: Outcome


def _captured() -> Iterator[Command]:
    for row in _CAPTURED["commands"]:
        error = row.get("err", "").replace("USAGE", _CAPTURED["usage"])
        outcome = Outcome(row["rc"], without_values(row.get("out", "")), without_values(error))
        yield Command(row["what"], tuple(row["argv"]), outcome)


def without_values(text: str) -> str:
    """Process numbers, the depth of a queue, and what this node is called."""
    text = re.sub(r"workerpid: \d+", "workerpid: PID", text)
    text = re.sub(r"pid: \d+", "pid: PID", text)
    text = re.sub(r"pid \d+", "pid PID", text)
    text = re.sub(r"idle: \d+", "idle: N", text)
    return re.sub(r"acceptable node names: [^)]*", "acceptable node names: NAMES", text)


COMMANDS = tuple(_captured())
_FROM, _TO = "status with daemon, init", "create on a running primary (no lock check!)"
_AT = [command.what for command in COMMANDS]
WITH_DAEMON = COMMANDS[_AT.index(_FROM) : _AT.index(_TO) + 1]
WITHOUT_DAEMON = tuple(command for command in COMMANDS if command not in WITH_DAEMON)


def _dump(datasize: int = 67104256, extentsize: str = "2097152 (2.0MB)", localoff: int = 4608) -> Outcome:
    lines = (
        "resource: test",
        f"datasize: {datasize} (64MB)",
        f"extentsize: {extentsize}",
        "keepdirty: 64",
        f"localoff: {localoff}",
        "resuid: 0",
        "localcnt: 0",
        "remotecnt: 0",
        "prevrole: init\n",
    )
    return Outcome(0, "\n    ".join(lines))


def _usage() -> tuple[Outcome, str]:
    return Outcome(64, "", f"{HASTCTL_USAGE}\n"), "our usage has stop and -f as well"


def _test(code: int, message: str) -> Outcome:
    return Outcome(code, "", f"[ERROR] [test] {message}\n")


def _config(message: str) -> Outcome:
    return Outcome(78, "", f"[ERROR] /DIR/{message}\n")


_DIES = "the original takes it, and dies of a failed assertion"
_STORES = "the original takes it, and stores metadata that no worker can use"
_LINE = "ours says file and line first"

DIFFERENCES: dict[str, tuple[Outcome, str]] = {
    "no arguments": _usage(),
    "unknown command": _usage(),
    "help": _usage(),
    "create without name": _usage(),
    "role nothing": _usage(),
    "role bad role": _usage(),
    "dump before create (empty file)": (
        Outcome(255, "", "[ERROR] Unable to read metadata from /DIR/a.img: not initialised: there is no metadata.\n"),
        "the file is there; what it lacks is metadata",
    ),
    "create -e 5120": (_test(65, "Extent size (5120) is not a power of two."), _DIES),
    "create -e 3M": (_test(65, "Extent size (3145728) is not a power of two."), _DIES),
    "create -e 1T": (_test(65, "Extent size (1099511627776) is more than 1073741824."), _DIES),
    "create -e 2g": (_test(65, "Extent size (2147483648) is more than 1073741824."), _STORES),
    "dump after -e 2g": (_dump(67096576, "1024 (1.0KB)", 12288), "-e 2g was refused: -e 1k is still there"),
    "dump after -k abc": (_dump(67096576, "1024 (1.0KB)", 12288), "-e 2g was refused: -e 1k is still there"),
    "create -k -1": (_test(65, "Number of extents to keep dirty (-1) is not from 0 to 4294967295."), _STORES),
    "dump after -k -1": (_dump(), "-k -1 was refused: -k 0, the default, is still there"),
    "create -m 100": (_test(65, "Media size (100) is too small: at least 5120 bytes are needed."), _STORES),
    "dump after -m 100": (_dump(), "-m 100 was refused: -m 0, the whole component, is still there"),
    "create -m 4096": (_test(65, "Media size (4096) is too small: at least 5120 bytes are needed."), _DIES),
    "config without this node": (
        _config("bad2.conf:3: No resource x configuration for this node (acceptable node names: NAMES)."),
        _LINE,
    ),
    "config without remote": (_config("bad3.conf:3: Remote address not configured for resource x."), _LINE),
    "config without local": (_config("bad4.conf:3: Path to local component not configured for resource x."), _LINE),
    "config duplicate resource": (
        _config("dup.conf:6: Resource test configured more than once. The first one is in line 3."),
        _LINE,
    ),
    "config bad replication": (
        _config("bad6.conf:1: near 'sync': expected async, fullsync or memsync"),
        "ours says where and what was expected",
    ),
    "hastd bad config": (
        _config(
            "bad.conf:1: at the end of the file: expected autorole, checksum, compression, device, exec, fence, local, "
            "metaflush, name, on, replication, timeout or } (`resource x` in line 1 is still open)"
        ),
        "ours says where and what was expected",
    ),
    "second hastd, same control/port": (
        Outcome(71, "", "[ERROR] Another hastd is already running, pid: PID (pidfile /DIR/pid).\n"),
        "ours finds out before it touches anything of the first one's",
    ),
    "role to primary after a 2nd hastd stole (unlinked) the control socket": (
        Outcome(0),
        "a second hastd of ours takes nothing away from the first",
    ),
    "create on a running primary (no lock check!)": (
        _test(75, "/DIR/a.img is in use: another hastd or hastctl has it locked."),
        "the original overwrites the metadata of a disk that is in use",
    ),
}
"""By what the command is: what ours comes to instead, and why. Every other command has to end as the original's."""


def expected(command: Command) -> Outcome:
    """What our programs have to come to."""
    return DIFFERENCES[command.what][0] if command.what in DIFFERENCES else command.original


class Replay:
    """`/DIR`: a folder for the captured commands. `port` stands for the captured one that hastd listens on."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.component = folder / "a.img"
        for name, text in _configs(folder, port).items():
            (folder / name).write_text(text)
        with self.component.open("wb") as file:
            file.truncate(MEDIASIZE)
        self._surroundings: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "dump, local file missing": self._without_component,
            "hastd port in use": self._port_in_use,
        }

    def run(self, command: Command) -> Outcome:
        """Our program, in this process, with what it has to find around it."""
        program, *arguments = (word.replace("/DIR", str(self._folder)) for word in command.argv)
        main = {"hastctl": hastctl.main, "hastd": hastd.main}[program]
        said, complained = io.StringIO(), io.StringIO()
        surroundings = self._surroundings.get(command.what, contextlib.nullcontext)
        with surroundings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            code = main(arguments)
        return Outcome(code, self._as_captured(said.getvalue()), self._as_captured(complained.getvalue()))

    def _as_captured(self, text: str) -> str:
        text = text.replace(str(self._folder), "/DIR").replace(f"127.0.0.1:{self._port}", "127.0.0.1:10531")
        return without_values(text)

    @contextlib.contextmanager
    def _without_component(self) -> Iterator[None]:
        away = self.component.rename(self.component.with_suffix(".away"))
        yield
        away.rename(self.component)

    @contextlib.contextmanager
    def _port_in_use(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", self._port)):
            yield


def _configs(folder: Path, port: int) -> dict[str, str]:
    daemon = f"control {folder}/ctl.a pidfile {folder}/pid mountdir {folder}/run\n"
    listen = f"listen tcp4://127.0.0.1:{port} replication fullsync\n"
    node, remote, local = node_names()[0], "remote tcp4://127.0.0.1:10532", f"local {folder}/a.img"
    resource = f"resource test {{\n    device off {local}\n    on {node} {{ {remote} }} }}\n"
    return {
        "a.conf": f"{daemon}{listen}{resource}",
        "name2.conf": f"{daemon}{listen}{resource}".replace("resource test", "resource test2"),
        "dup.conf": f"{daemon}{listen}{resource}{resource}",
        "bad.conf": "resource x {",
        "bad2.conf": f"{daemon}{listen}resource x {{ {local} on some-other-node {{ {remote} }} }}\n",
        "bad3.conf": f"{daemon}{listen}resource x {{ {local} on {node} {{ }} }}\n",
        "bad4.conf": f"{daemon}{listen}resource x {{ on {node} {{ {remote} }} }}\n",
        "bad6.conf": f"replication sync\n{resource}",
    }
