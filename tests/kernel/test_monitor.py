"""hastctl monitor on a real terminal, with two real daemons."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import MakePair
from tests.kernel.load import Fio
from tests.kernel.node import MIB, PROJECT, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.screen import Screen
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

Watch = Callable[[Node], Screen]


@pytest.fixture
def watch(scratch: Path) -> Iterator[Watch]:
    """Starts the monitor of a node on a terminal of 80x24."""
    screens: list[Screen] = []

    def start(node: Node) -> Screen:
        root = scratch / f"screen-{len(screens)}"
        root.mkdir()
        argv = [sys.executable, "-m", "hastfs.cli.hastctl", "monitor", "-c", str(node.config)]
        screens.append(Screen(root, argv, cwd=PROJECT))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


def rate(screen: Screen, what: str) -> int:
    """Operations a second, if they are less than a thousand."""
    found = re.search(rf"^{what} +(\d+)", screen.text(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_the_monitor_shows_load_and_a_resync_and_the_end_of_hastd_and_its_return(
    make_pair: MakePair, watch: Watch
) -> None:
    pair: Pair = make_pair(Options(mediasize=256 * MIB))
    pair.start()
    pair.connect()
    screen = watch(pair.a)
    screen.until("> shared", "connected", "up-to-date", "── Events", "q quit")
    with Fio(pair.a.image, pair, seconds=30, rate="4m"):
        wait_for(lambda: rate(screen, "Write"), "writes are counted", otherwise=screen.text)
        wait_for(lambda: re.search(r"  local +\d", screen.text()), "latencies", otherwise=screen.text)
        pair.to_b.rate = 4 * MIB
        pair.cut()
        screen.until("connection connecting", "disconnect", "No connection to")
        pair.heal()
        screen.until("Resync to peer", "MiB/s", "left", "inconsistent")
        assert re.search(r"^ [·░▒▓█]*[░▒▓█]+[·░▒▓█]*$", screen.text(), re.MULTILINE)
    pair.to_b.rate = None

    screen.resize(100, 30)
    wait_for(lambda: len(screen.lines()[0].rstrip()) == 99, "the title is as wide as the terminal")
    screen.press("?")
    screen.until("any key goes back")
    screen.press("Escape")
    screen.until("── Events")
    screen.press("p")
    screen.until("PAUSED")
    screen.press("p")

    pair.a.stop()
    screen.until("hastd does not answer", "> shared")
    pair.a.start()
    screen.until("hastctl monitor", "init")
    screen.press("q")
    assert screen.finished() == (0, True)


@pytest.mark.parametrize(("end", "code"), [("C-c", 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_in_order(
    make_pair: MakePair, watch: Watch, end: str | signal.Signals, code: int
) -> None:
    node = make_pair().a
    node.create()
    node.start()
    screen = watch(node)
    screen.until("> shared", "init")
    if isinstance(end, str):
        screen.press("C-z")
        wait_for(screen.is_as_usual, "the terminal is given back while the monitor is stopped")
        os.kill(screen.pid(), signal.SIGCONT)
        wait_for(lambda: not screen.is_as_usual(), "the monitor goes on")
        screen.press(end)
    else:
        assert b"monitor" in Path(f"/proc/{screen.pid()}/cmdline").read_bytes()
        os.kill(screen.pid(), end)
    assert screen.finished() == (code, True)


def test_without_a_daemon_the_terminal_is_not_touched(make_pair: MakePair, watch: Watch) -> None:
    screen = watch(make_pair().a)
    assert screen.finished() == (71, True)
    assert "[ERROR] Unable to connect to hastd via" in screen.text()
