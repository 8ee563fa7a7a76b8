"""The life of a pair that is recorded: real daemons over recording disks, and applications on the primary's device."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import mmap
import os
import random
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

from hastfs.model import SECTOR_SIZE
from hastfs.ondisk.layout import Layout
from tests.kernel.node import PROJECT, Node, Options
from tests.kernel.pair import Pair
from tests.powerloss.application import content
from tests.powerloss.journal import Journal
from tests.powerloss.recorder import Recording, recording

EXTENT = 2048
EXTENTS = 48
LAYOUT = Layout(4096 + 512 + EXTENTS * EXTENT, EXTENT)
SECTORS = LAYOUT.provider_size // SECTOR_SIZE
KEEPDIRTY = 2
USERS = 3
BLOCK = 8
"""Sectors that a user writes or discards at most: several extents."""

LONGEST_LIFE = 120.0
"""Seconds; on a quiet machine with two cores it takes about 10."""

SLOW, SLOW_REQUESTS = 20_000, 3_000
"""Bytes a second on the way to b: a resync from a, or the requests of one from b, take a few seconds."""

TIDY = Path(__file__).parent / "tidy"

_BLKDISCARD = 0x1277  # linux/fs.h


def options(replication: str) -> Options:
    """Small, so that every extent is written again and again, and the map with it."""
    return Options(
        replication=replication,
        device=True,
        mediasize=LAYOUT.mediasize,
        extentsize=EXTENT,
        keepdirty=KEEPDIRTY,
        timeout=20,
    )


class Users:
    """A few applications, which get into each other's way. All they do is in the journal, before and after."""

    def __init__(self, recorder: Recording, seed: int) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._chances = [random.Random(seed * USERS + user) for user in range(USERS)]

    def work(self, device: Path, rounds: int) -> None:
        """Each user does `rounds` things, all at the same time."""
        self.work_while(device, lambda: None, rounds)

    def work_while(self, device: Path, meanwhile: Callable[[], None], rounds: int) -> None:
        """Meanwhile, something else happens."""
        with ThreadPoolExecutor(USERS) as pool:
            done = [pool.submit(self._use, user, device, rounds) for user in range(USERS)]
            meanwhile()
            for one in done:
                one.result()

    def cover(self, device: Path) -> None:
        """Every sector is written once, so that a resync takes its time."""
        fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        try:
            with mmap.mmap(-1, BLOCK * SECTOR_SIZE) as page:
                for sector in range(0, SECTORS, BLOCK):
                    self._write(fd, page, sector, min(BLOCK, SECTORS - sector))
                self._flush(fd)
        finally:
            os.close(fd)

    def _use(self, user: int, device: Path, rounds: int) -> None:
        chance = self._chances[user]
        fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        try:
            with mmap.mmap(-1, BLOCK * SECTOR_SIZE) as page:
                for _ in range(rounds):
                    self._change(chance, fd, page)
                    if chance.random() < 0.25:
                        self._flush(fd)
        finally:
            os.close(fd)

    def _change(self, chance: random.Random, fd: int, page: mmap.mmap) -> None:
        if chance.random() < 0.15:
            self._discard(fd, chance.randrange(SECTORS // BLOCK) * BLOCK)
        else:
            sector = chance.randrange(SECTORS)
            self._write(fd, page, sector, chance.randint(1, min(BLOCK, SECTORS - sector)))

    def _write(self, fd: int, page: mmap.mmap, sector: int, count: int) -> None:
        number = next(self._numbers)
        length = count * SECTOR_SIZE
        page[:length] = content(number) * count
        self._say(begin=number, sector=sector, count=count, value=number)
        assert os.pwrite(fd, memoryview(page)[:length], sector * SECTOR_SIZE) == length
        self._say(end=number)

    def _discard(self, fd: int, sector: int) -> None:
        """A whole block: anything smaller is not discarded by the loop device."""
        number = next(self._numbers)
        self._say(begin=number, sector=sector, count=BLOCK, value=0)
        fcntl.ioctl(fd, _BLKDISCARD, struct.pack("=QQ", sector * SECTOR_SIZE, BLOCK * SECTOR_SIZE))
        self._say(end=number)

    def _flush(self, fd: int) -> None:
        number = next(self._numbers)
        self._say(flush=number)
        os.fsync(fd)
        self._say(flushed=number)

    def _say(self, **what: int) -> None:
        with self._lock:
            self._recorder.mark(what)


class Life:
    """What happens to the pair, in stages.

    In each, `whole` names the nodes whose disk alone has to hold all that was flushed; `alone` the one whose disk has
    to say, once it has acknowledged a change, that the other one's is out of date; `behind` the one that gets nothing
    but by a resync: its disk is as it was before, or says that it is in the middle of one, or has all.
    """

    def __init__(self, pair: Pair, recorder: Recording, seed: int, rounds: int) -> None:
        self._pair = pair
        self._recorder = recorder
        self._rounds = rounds
        self._users = Users(recorder, seed)

    def _stage(self, name: str, whole: str, *, alone: str = "", behind: str = "") -> None:
        self._recorder.mark({"stage": name, "whole": whole, "alone": alone, "behind": behind})

    def _work(self, node: Node, share: float = 1.0) -> None:
        self._users.work(node.device, max(1, int(self._rounds * share)))

    def _work_until_in_sync(self, node: Node, begin: Callable[[], None]) -> None:
        done = node.count("syncdone")

        def meanwhile() -> None:
            begin()
            node.until_event("syncdone", before=done)

        self._users.work_while(node.device, meanwhile, max(1, self._rounds // 3))

    def before_the_first_connection(self) -> None:
        """a has never seen b, and is written to; then they meet."""
        a, b = self._pair.nodes
        self._stage("virgin", "a", alone="a", behind="b")
        a.become_primary()
        self._work(a, 0.5)
        self._stage("first connection", "a", behind="b")
        self._work_until_in_sync(a, lambda: b.role("secondary"))
        self._connected(a)

    def _connected(self, node: Node) -> None:
        self._stage("connected", "ab")
        node.until_status("complete")
        self._work(node)

    def broken_link(self) -> None:
        """The link breaks with writes under way; a goes on alone, and is connected again."""
        a = self._pair.a
        self._stage("link breaks", "a")
        self._users.work_while(a.device, self._pair.cut, max(1, self._rounds // 2))
        a.until_status("degraded")
        self._stage("alone", "a", alone="a", behind="b")
        self._work(a, 0.5)
        self._users.cover(a.device)
        self._stage("connected again", "a", behind="b")
        self._work_until_in_sync(a, self._resync_in_two_goes)
        self._connected(a)

    def _resync_in_two_goes(self) -> None:
        """The link breaks once more in the middle of a slow resync."""
        pair = self._pair
        started = pair.a.count("syncstart")
        interrupted = pair.a.count("syncintr")
        pair.to_b.rate = SLOW
        pair.heal()
        pair.a.until_event("syncstart", before=started)
        pair.cut()
        pair.to_b.rate = None
        pair.a.until_event("syncintr", before=interrupted)
        pair.heal()

    def killed_secondary(self) -> None:
        """b dies with writes under way, and comes back."""
        a, b = self._pair.nodes
        self._stage("secondary killed", "a")
        self._users.work_while(a.device, b.kill, max(1, self._rounds // 2))
        a.until_status("degraded")
        self._stage("secondary back", "a", behind="b")

        def come_back() -> None:
            b.start()
            b.role("secondary")

        self._work_until_in_sync(a, come_back)
        self._connected(a)

    def killed_worker(self) -> None:
        """a's worker dies with writes under way and is replaced."""
        a = self._pair.a
        self._stage("worker killed", "a")
        done = a.count("syncdone")
        worker = a.fields()["workerpid"]
        self._users.work_while(a.device, lambda: os.kill(int(worker), 9), max(1, self._rounds // 2))
        a.until_event("syncdone", before=done)
        self._connected(a)

    def changed_roles(self) -> None:
        """b takes over in order and works alone; then a is primary again, and gets what it missed from b."""
        a, b = self._pair.nodes
        self._stage("roles change", "ab")
        a.role("init")
        b.role("init")
        b.become_primary()
        self._stage("b alone", "b", alone="b", behind="a")
        self._work(b, 0.5)
        self._users.cover(b.device)
        self._stage("a is out of date", "b", behind="a")
        b.role("secondary")
        done, interrupted = a.count("syncdone"), a.count("syncintr")
        self._pair.to_b.rate = SLOW_REQUESTS
        a.become_primary()
        self._pair.cut()
        self._pair.to_b.rate = None
        a.until_event("syncintr", before=interrupted)
        self._users.work_while(a.device, self._pair.heal, max(1, self._rounds // 2))  # nothing can be written before
        a.until_event("syncdone", before=done)
        self._connected(a)

    def stopped_and_started(self) -> None:
        """a leaves its role in order and takes it again."""
        a = self._pair.a
        self._stage("stop", "ab")
        a.role("init")
        a.become_primary()
        self._connected(a)

    def all(self) -> None:
        """One stage after the other."""
        self.before_the_first_connection()
        self.broken_link()
        self.killed_secondary()
        self.killed_worker()
        self.changed_roles()
        self.stopped_and_started()
        self._pair.rest()


@contextlib.contextmanager
def pair_of(replication: str) -> Iterator[Pair]:
    """Two nodes without components or daemons, cleaned up afterwards. One that takes too long is killed."""
    root = Path(tempfile.mkdtemp(prefix="hast-"))  # short enough for UNIX sockets
    (root / root.name).mkdir()
    pair = Pair(root / root.name, options(replication), own_names=True)
    watchdog = threading.Timer(LONGEST_LIFE, pair.kill)
    watchdog.start()
    try:
        yield pair
    except BaseException:
        print(pair.logs())
        raise
    finally:
        watchdog.cancel()
        pair.clean_up()
        logs = pair.logs()
        shutil.rmtree(root)
    assert "Traceback" not in logs, f"a node crashed:\n{logs}"


def start(pair: Pair) -> None:
    """Both daemons, over the components that are there."""
    pair.heal()
    for node in pair.nodes:
        node.launch()
    for node in pair.nodes:
        node.wait_ready()


def record(pair: Pair, *, seed: int, rounds: int) -> Journal:
    """Lives a whole life. `rounds`: how much each application does in one stage."""
    root = pair.root / "recorder"
    root.mkdir()
    for node in pair.nodes:
        node.create()
    with recording(root, (pair.a.component, pair.b.component)) as recorder:
        try:
            with patch.dict(os.environ, {"PYTHONPATH": f"{TIDY}:{PROJECT}"}):
                start(pair)
            Life(pair, recorder, seed, rounds).all()
            for node in pair.nodes:
                node.stop()
        except BaseException:
            pair.kill()  # before the disks go
            raise
        return recorder.finish()
