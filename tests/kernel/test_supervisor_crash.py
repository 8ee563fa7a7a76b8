"""hastd itself is killed, at any moment: the next one clears up what is left behind and serves all that was safe."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hastfs.frontend import loop
from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files
from tests.kernel.node import RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel

BLOCK = 64 * 1024
OWN_FILES = {"hast.conf", "component", "hastd.log", "hooks", "hook.sh"}


class Story:
    """Node a of the pair, whose hastd dies again and again, and what is safe on its disk."""

    def __init__(self, pair: Pair, chance: random.Random) -> None:
        self.pair = pair
        self.node = pair.a
        self._chance = chance
        self._safe: dict[int, bytes] = {}
        """Block number and content."""

    def crash(self) -> None:
        """SIGKILL to hastd, and to nobody else."""
        assert self.node.process is not None
        self.node.process.kill()
        self.node.process.wait(timeout=10)
        self.node.process = None

    def come_back(self) -> None:
        """A new hastd serves what was safe, and nothing is there twice."""
        self.node.start()
        self.node.become_primary()
        self.check()
        self.write()
        own = [mount for mount in machine.mounts_below(self.node.root) if mount.kind == "fuse.hastfs"]
        assert [mount.point for mount in own] == [str(self.node.image)]
        assert machine.loops_below(self.node.root) == [os.readlink(self.node.device)]
        self.node.until(lambda: self.processes_before() == [], "all processes of the hastd before have ended")

    def processes_before(self) -> list[int]:
        return machine.processes_of(self.node.sessions[:-1])

    def write(self) -> None:
        number, content = self._chance.randrange(64), self._chance.randbytes(BLOCK)
        with self.node.device.open("r+b", buffering=0) as disk:
            disk.seek(number * BLOCK)
            disk.write(content)
            os.fsync(disk.fileno())
        self._safe[number] = content

    def check(self) -> None:
        with self.node.device.open("rb", buffering=0) as disk:
            for number, content in self._safe.items():
                disk.seek(number * BLOCK)
                assert disk.read(BLOCK) == content, f"block {number} is not what was written"


def left_behind(node: Node) -> list[str]:
    """All that hastd makes and that is not there when it has ended in order."""
    return [
        *(mount.point for mount in machine.mounts_below(node.root)),
        *machine.loops_below(node.root),
        *(str(node.device) for _ in range(os.path.lexists(node.device))),
        *(str(path) for path in node.root.iterdir() if path.name not in OWN_FILES | {"run"}),
        *(str(path) for path in node.root.glob("run/*")),
        *(f"process {pid}" for pid in node.processes()),
    ]


@contextlib.contextmanager
def under_way(call: Callable[[], object]) -> Iterator[None]:
    """The call runs in a thread meanwhile; it may fail, since hastd dies."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield
    thread.join(timeout=30)
    assert not thread.is_alive(), "hastctl waits for a hastd that is dead"


def idle(node: Node) -> None:
    """Nothing happens."""


def command(*words: str) -> Callable[[Node], None]:
    def do(node: Node) -> None:
        node.hastctl(*words, check=False)

    return do


def reload(node: Node) -> None:
    """With another hast.conf: the device goes or comes, for which the resource leaves its role and gets it back."""
    text = node.config.read_text()
    on, off = "device on", "device off"
    node.config.write_text(text.replace(on, off) if on in text else text.replace(off, on))
    node.hastctl("reload", check=False)


def lose_worker(node: Node) -> None:
    os.kill(int(node.fields()["workerpid"]), signal.SIGKILL)


def stop_worker(node: Node) -> None:
    """It hangs, with the image and the component in its hands."""
    os.kill(int(node.fields()["workerpid"]), signal.SIGSTOP)


MOMENTS: dict[str, tuple[Callable[[Node], None], float]] = {
    "idle": (idle, 0),
    "to init": (command("role", "init", RESOURCE), 0.2),
    "to secondary": (command("role", "secondary", RESOURCE), 0.2),
    "to primary": (command("role", "primary", RESOURCE), 0.3),
    "stop": (command("stop"), 0.3),
    "reload": (reload, 0.4),
    "worker lost": (lose_worker, 0.2),
    "worker hangs": (stop_worker, 0.1),
}
"""What is under way, and how many seconds later at the most hastd dies."""


def test_a_new_hastd_takes_over_whenever_the_one_before_was_killed(make_pair: MakePair) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    pair = make_pair(Options(replication="fullsync", device=True, timeout=5))
    pair.start()
    pair.connect()
    story = Story(pair, chance)
    story.write()
    config = pair.a.config.read_text()
    moments = [*MOMENTS, *MOMENTS]
    chance.shuffle(moments)
    for name in moments:
        do, longest = MOMENTS[name]
        print(f"{name}:", end=" ")
        if name == "to primary":
            pair.a.role("init")
        with under_way(partial(do, pair.a)):
            time.sleep(delay := chance.uniform(0, longest))  # the moment is what is tested
            story.crash()
        print(f"{delay:.3f} s")
        pair.a.config.write_text(config)
        story.come_back()
    pair.a.until_status("complete")
    pair.a.stop()
    pair.a.until(lambda: left_behind(pair.a) == [], "nothing is left behind", timeout=10)
    pair.b.role("init")
    pair.assert_equal()


def test_a_hastd_that_is_killed_while_it_starts_is_in_nobodys_way(make_pair: MakePair) -> None:
    chance = random.Random(11)
    node = make_pair(Options(device=True)).a
    node.create()
    for _ in range(3):
        node.launch()
        time.sleep(chance.uniform(0.1, 0.6))  # the moment is what is tested
        assert node.process is not None
        node.process.kill()
        node.process.wait(timeout=10)
    node.start()
    node.become_primary()
    node.stop()
    assert left_behind(node) == []


def test_a_file_system_that_was_mounted_is_named_and_in_nobodys_way(make_pair: MakePair) -> None:
    pair = make_pair(Options(device=True))
    node = pair.a
    node.create()
    node.start()
    node.become_primary()
    files = Files(node.device, pair.root / "disk")
    files.make()
    files.mount()
    files.write("safe", BLOCK)
    story = Story(pair, random.Random(0))
    device = os.readlink(node.device)
    try:
        story.crash()
        node.start()
        assert f"umount {files.mountpoint}" in node.log.read_text()
        node.become_primary()
        assert os.readlink(node.device) != device
    finally:
        files.umount()
    node.until(lambda: loop.backing(device) is None, "the old device is gone")
    files.recover()
    files.mount()
    files.check()
    files.umount()
    node.stop()
    assert left_behind(node) == []
