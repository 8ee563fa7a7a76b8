"""Draws docs/pictures/status.svg and monitor.svg: what hastctl shows of two real nodes with four resources.

usage: sudo .venv/bin/python -m tools.screens      (takes half a minute; needs what tests/kernel need)

`database` is in use and well, `mail` gets what the other node missed, `archive` is split, `web` is primary elsewhere.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from hastfs import client
from hastfs.cli import table
from hastfs.cli.monitor.app import Monitor
from hastfs.cli.monitor.scene import Scene
from hastfs.cli.monitor.source import Source
from hastfs.config.files import node_names
from tests.kernel.machine import run
from tests.kernel.many import ManyNode
from tests.kernel.node import MIB
from tests.kernel.proxy import Proxy
from tests.kernel.waiting import wait_for

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
NAMES: Final = ("database", "mail", "archive", "web")
SIZE: Final = 16 * 1024 * MIB
EXTENT: Final = 256 * 1024
WIDTH: Final = 96
HEIGHT: Final = 30
CELL: Final = 12.2
"""Units of the picture: the width of a character."""
RATE: Final = 24 * MIB
"""Bytes a second of the line of `mail`: slow enough to be looked at."""

THEME: Final = TerminalTheme(
    (24, 26, 31),
    (214, 218, 224),
    [
        *((72, 78, 88), (232, 106, 106), (134, 199, 122), (226, 186, 100)),
        *((110, 168, 240), (198, 140, 220), (96, 196, 200), (214, 218, 224)),
    ],
)


class Recorder:
    """A terminal that remembers what was drawn last; `seen` is called each time."""

    ascii_only = False
    size = (WIDTH, HEIGHT)

    def __init__(self, seen: Callable[[], None]) -> None:
        self._seen = seen
        self.lines: Sequence[Text] = ()

    def taken(self) -> AbstractContextManager[None]:
        return nullcontext()

    def draw(self, lines: Sequence[Text]) -> None:
        self.lines = lines
        self._seen()

    async def typed(self) -> bytes:
        await trio.sleep_forever()


def main() -> None:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hast-")))
        alpha, beta = (ManyNode(root, label, timeout=10) for label in ("alpha", "beta"))
        there, back = ({name: Proxy(node.port) for name in NAMES} for node in (beta, alpha))
        for proxy in (*there.values(), *back.values()):
            proxy.heal()
            stack.callback(proxy.cut)
        for node, wires in ((alpha, there), (beta, back)):
            stack.callback(node.clean_up)
            node.configure(
                {
                    name: f"on {node_names()[0]} {{ remote tcp4://127.0.0.1:{wires[name].port} }} timeout 10"
                    for name in NAMES
                }
            )
            for name in NAMES:
                (node.root / name).touch()
                run("truncate", "-s", str(SIZE), node.root / name)
            node.hastctl("create", "-e", str(EXTENT), *NAMES)
            node.start()
        _live(alpha, beta, there, back, stack)


def _live(
    alpha: ManyNode, beta: ManyNode, there: dict[str, Proxy], back: dict[str, Proxy], stack: contextlib.ExitStack
) -> None:
    beta.hastctl("role", "secondary", *NAMES[:3])
    alpha.hastctl("role", "primary", *NAMES[:3])
    alpha.hastctl("role", "secondary", "web")
    beta.hastctl("role", "primary", "web")
    for node, name in ((alpha, "database"), (alpha, "mail"), (alpha, "archive"), (beta, "web")):
        wait_for(lambda node=node, name=name: node.ask(name).status == "complete", f"{name} is complete")  # type: ignore[misc]
        _write(node, name, 32)

    for name in ("mail", "archive"):
        there[name].cut()
        back[name].cut()
        wait_for(lambda name=name: alpha.ask(name).status == "degraded", f"{name} is degraded")  # type: ignore[misc]
    _scatter(alpha, "mail")
    _write(alpha, "archive", 8, 64)
    beta.hastctl("role", "primary", "archive")
    _write(beta, "archive", 8, 128)
    beta.hastctl("role", "secondary", "archive")

    for name, rate in (("database", "30m"), ("mail", "3m")):
        stack.enter_context(_load(alpha, name, rate))
    there["mail"].rate = RATE
    for name in ("mail", "archive"):
        there[name].heal()
        back[name].heal()
    trio.run(_watch, str(alpha.control))


async def _watch(control: str) -> None:
    """Until half of what `mail` lacks is copied, and the split brain was found."""
    scene = Scene("alpha")

    def look() -> None:
        details = {name: track.look.details for name, track in scene.tracks.items() if track.look is not None}
        scene.chosen = list(details).index("mail")
        sync = details["mail"].sync
        if details["archive"].connection == "split-brain" and sync is not None and 2 * sync.left < sync.total:
            watching.cancel()

    recorder = Recorder(look)
    with trio.fail_after(60), trio.CancelScope() as watching:
        async with client.connect(control=control) as hastd:
            await Monitor(recorder, scene, Source(hastd, NAMES)).run()
    _save("monitor", "hastctl monitor", recorder.lines)
    looks = [track.look for track in scene.tracks.values() if track.look is not None]
    _save("status", "hastctl status", [table.render(looks, width=WIDTH, now=scene.now)])


def _scatter(node: ManyNode, name: str) -> None:
    """Extents here and there, as a file system does it: around some places, more in their middle."""
    chance = random.Random(1)
    image = os.open(node.image_of(name), os.O_WRONLY)
    try:
        for middle, spread, count in ((0.08, 0.02, 350), (0.3, 0.05, 350), (0.55, 0.004, 250), (0.8, 0.1, 250)):
            for _ in range(count):
                extent = int(min(max(chance.gauss(middle, spread), 0.0), 0.99) * (SIZE // EXTENT))
                os.pwrite(image, os.urandom(EXTENT), extent * EXTENT)
        os.fsync(image)
    finally:
        os.close(image)


def _write(node: ManyNode, name: str, mib: int, offset: int = 0) -> None:
    run(
        "dd",
        "if=/dev/urandom",
        f"of={node.image_of(name)}",
        "bs=1M",
        f"count={mib}",
        f"seek={offset}",
        "conv=notrunc,fsync",
    )


@contextlib.contextmanager
def _load(node: ManyNode, name: str, rate: str) -> Iterator[None]:
    """Random reads and writes, mixed."""
    with subprocess.Popen(
        [
            *("fio", "--name=load", f"--filename={node.image_of(name)}", "--rw=randrw", "--rwmixread=40"),
            *("--bsrange=4k-32k", "--ioengine=libaio", "--iodepth=4", "--direct=1", "--size=64m", "--offset=512m"),
            *("--time_based", "--runtime=120", f"--rate={rate}", "--fsync=64"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as fio:
        try:
            yield
        finally:
            fio.terminate()


def _save(name: str, title: str, lines: Sequence[Text]) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    for line in lines:
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title=title, theme=THEME, unique_id=name)
    # No fonts from elsewhere: whoever reads it has one in which all letters have the same width.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r'x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+"([^>]*)>([^<]*)<', _tight, svg)
    (PICTURES / f"{name}.svg").write_text(svg)


def _tight(text: re.Match[str]) -> str:
    """Without spaces around it: some programs leave out the first ones, and draw the rest in the wrong place."""
    x, y, more, words = text.groups()
    start = words.removeprefix("&#160;")
    while start != words:
        words, x = start, f"{float(x) + CELL:.1f}"
        start = words.removeprefix("&#160;")
    while words.endswith("&#160;"):
        words = words.removesuffix("&#160;")
    return f'x="{x}" y="{y}" textLength="{len(html.unescape(words)) * CELL:.1f}"{more}>{words}<'


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"drawn in {time.monotonic() - started:.0f} s")
