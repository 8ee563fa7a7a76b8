"""What programs see of a pair: events, waiting, JSON, and hastfs.client."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hastfs.client
from hastfs.config import files
from hastfs.errors import NotYet
from hastfs.frontend import usable
from tests.kernel.node import MIB, PROJECT, RESOURCE, Node
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel


class Stream:
    """A `hastctl events` of its own process, and the lines that it said so far."""

    def __init__(self, node: Node, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hastfs.cli.hastctl", "events", "-c", str(node.config), *options],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, *words: str) -> None:
        """Waits for a line with all these words."""
        wait_for(
            lambda: any(set(words) <= set(line.split()) for line in tuple(self.lines)),
            f"a line with {' '.join(words)}",
            timeout=20,
            otherwise=lambda: "\n".join(self.lines),
        )

    def ends(self) -> int:
        """The exit code, once it has ended by itself."""
        return self.process.wait(timeout=20)

    def close(self) -> str:
        """What it said on standard error."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        with self.process.stderr:
            return self.process.stderr.read()


@contextmanager
def stream(node: Node, *options: str) -> Iterator[Stream]:
    made = Stream(node, *options)
    try:
        yield made
    finally:
        made.close()


def document(node: Node, command: str) -> dict[str, Any]:
    (resource,) = json.loads(node.hastctl(command, "--json").stdout)["resources"]
    found: dict[str, Any] = resource
    return found


def test_a_life_as_programs_see_it(pair: Pair) -> None:
    with stream(pair.a) as text, stream(pair.b, "--json", RESOURCE) as plain:
        text.until("exists", "resource", f"name:{RESOURCE}", "role:init")
        text.until("exists", "-")
        assert pair.a.hastctl("wait", "--timeout", "0", "--for", "primary", RESOURCE, check=False).returncode == 75
        pair.b.role("secondary")
        pair.a.hastctl("role", "--wait", "primary", RESOURCE)
        pair.b.hastctl("role", "--wait", "secondary", RESOURCE)
        for goal in ("primary", "usable", "connected", "synced"):
            pair.a.hastctl("wait", "--timeout", "20", "--for", goal, "all")
        pair.b.hastctl("wait", "--timeout", "20", "--for", "secondary", RESOURCE)
        text.until("change", "role:primary")
        text.until("call", "happening:connect")
        text.until("change", "connection:connected")
        assert document(pair.a, "status")["connection"] == "connected"
        assert document(pair.a, "list")["role"] == "primary"
        waiting = Stream(pair.a, "--now")
        assert waiting.ends() == 0
        assert len(waiting.lines) == 2
        waiting.close()
        pair.cut()
        pair.a.hastctl("wait", "--timeout", "30", "--for", "disconnected", RESOURCE)
        text.until("call", "happening:disconnect")
        with pair.a.image.open("r+b") as image:
            image.write(os.urandom(32 * MIB))
            os.fsync(image.fileno())
        pair.heal()
        pair.a.hastctl("wait", "--timeout", "30", "--for", "synced", RESOURCE)
        text.until("call", "happening:syncdone")
        assert document(pair.a, "status")["behind"] == 0
        before = len(text.lines)
        pair.a.hastctl("upgrade")
        wait_for(lambda: any(" missed " in line for line in text.lines[before:]), "news of the upgrade", timeout=20)
        text.until("exists", "role:primary")
        pair.a.stop()
        assert text.ends() == 0
        pair.b.kill()
        assert plain.ends() == 71
    events = [json.loads(line) for line in plain.lines]
    assert [event["event"] for event in events[:2]] == ["exists", "exists"]
    # Whichever is first of its role and of the primary that connects.
    assert {(event["event"], event["resource"]) for event in events[2:]} == {("change", RESOURCE), ("call", RESOURCE)}


def examples() -> dict[str, str]:
    """Those of docs/client.md, by name."""
    text = (PROJECT / "docs" / "client.md").read_text()
    return dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", text, re.DOTALL))


async def run_example(code: str, node: Node) -> str:
    """As the document says they stand: in an `async def`. What it printed."""
    body = textwrap.indent(code.replace("/etc/hast.conf", str(node.config)), "    ")
    names: dict[str, Any] = {"hastfs": hastfs, "contextlib": contextlib}
    exec(f"async def example():\n{body}", names)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        await names["example"]()
    return said.getvalue()


async def test_the_examples_of_the_document_work(pair: Pair) -> None:
    pair.b.role("secondary")
    code = examples()
    assert code.keys() == {"status", "role", "wait", "events"}
    assert await run_example(code["role"], pair.a) == "was init\n"
    assert await run_example(code["wait"], pair.a) == ""
    assert await run_example(code["events"], pair.a)
    assert await run_example(code["status"], pair.a) == f"{RESOURCE} primary connected 0\n"
    async with hastfs.client.connect(str(pair.a.config)) as client:
        assert await client.set_role("primary", RESOURCE, wait=True) == {RESOURCE: hastfs.client.Role.PRIMARY}
        await client.reload()
        await client.attach(RESOURCE)
        await client.set_role("init", "all", wait=True)
        await client.stop()
    assert pair.a.process is not None
    assert pair.a.process.wait(timeout=1) == 0
    pair.a.process = None


def test_a_primary_that_cannot_be_read_is_not_usable(pair: Pair) -> None:
    """What hastd says of a resource and what applications meet are two things: `--wait` tries."""
    pair.a.hastctl("role", "--wait", "primary", RESOURCE)
    config = files.load(str(pair.a.config))
    usable.check(config.resource(RESOURCE), config.mountdir, 10)
    worker = int(pair.a.fields()["workerpid"])
    assert f"hastd: {RESOURCE} (primary)" in Path(f"/proc/{worker}/cmdline").read_text()
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(NotYet):
            usable.check(config.resource(RESOURCE), config.mountdir, 0)
        # It may be connected: nobody knows.
        assert pair.a.hastctl("wait", "--timeout", "0", "--for", "disconnected", "all", check=False).returncode == 75
    finally:
        os.kill(worker, signal.SIGCONT)
    pair.a.hastctl("role", "--wait", "primary", RESOURCE)
