"""What stands in for workers, images and hooks where the daemon's own decisions are tested."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing

from hastfs.config.schema import ResourceConfig
from hastfs.daemon.export import Export
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.inheritance import InheritedImage, InheritedWorker
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.workers import Ended, Worker, WorkerFailed
from hastfs.errors import BusyError, SystemFailure
from hastfs.model import Checksum, Compression, Replication
from hastfs.resource.remotecache import Risk
from hastfs.resource.status import Status

CONFIG = ResourceConfig(
    name="disk",
    provider="disk",
    local="/nowhere/disk",
    remote=None,
    source=None,
    replication=Replication.MEMSYNC,
    checksum=Checksum.NONE,
    compression=Compression.HOLE,
    timeout=5,
    exec="/hook",
    metaflush=True,
    device=True,
)
KILLED = Ended("Worker process killed (signal=9).", -9, True)
IN_ORDER = Ended("", 0, False)
HANDED_OVER = Ended("", 0, False, handed_over=True)


class FakeWorker(Worker):
    """Ready at once, unless it is to end at once or to hang."""

    def __init__(self, pid: int, log: list[str], ends: Ended | None, hangs: bool) -> None:
        self.pid = pid
        self.ended = trio.Event()
        self.outcome = IN_ORDER
        self.served = 0.0
        self.detached: bytes | None = None
        self.risk: Risk | None = None
        self.connected = True
        self.inherited = False
        self.told: list[tuple[bool, str]] = []
        """What came of fencing, in its turn."""
        self.configs: list[ResourceConfig] = []
        """What it was told after the start."""
        self._born = trio.current_time()
        self._log = log
        self._ends = ends
        self.hangs = hangs
        self.stops_after = 0.0
        """Seconds."""

    async def run(self) -> None:
        try:
            if self._ends is not None:  # without having served at all
                self.outcome = self._ends
                self.ended.set()
            await self.ended.wait()
        finally:
            self.ended.set()

    def end(self, how: Ended) -> None:
        self.outcome = how
        self.served = trio.current_time() - self._born
        self.ended.set()

    async def wait_ready(self) -> None:
        if self.hangs:
            await trio.sleep_forever()
        await trio.testing.wait_all_tasks_blocked()
        if self.ended.is_set():
            raise WorkerFailed(self.outcome)

    async def stop(self, within: float) -> Ended:
        self._log.append(f"stop {self.pid}")
        if self.stops_after:
            await trio.sleep(self.stops_after)
        self.end(IN_ORDER)
        return self.outcome

    def bequeath(self) -> InheritedWorker | None:
        return None

    async def hand_over(self, within: float) -> Ended:
        self._log.append(f"hand over {self.pid}")
        if self.hangs:
            self.kill()
        if not self.ended.is_set():
            self.end(HANDED_OVER)
        return self.outcome

    async def configure(self, config: ResourceConfig) -> None:
        self._log.append(f"configure {self.pid}")
        if self.hangs or self.ended.is_set():
            raise SystemFailure("Worker process does not answer.")
        self.configs.append(config)

    def log_as(self, settings: LogSettings) -> None:
        self._log.append(f"log {self.pid} {settings.form.value} {settings.level.value}")

    def fenced(self, *, go_on: bool, reason: str = "") -> None:
        self.told.append((go_on, reason))

    def kill(self) -> None:
        self._log.append(f"kill {self.pid}")
        self.end(KILLED)

    async def status(self, cells: int = 0) -> Status:
        if self.hangs or self.ended.is_set():
            raise SystemFailure("Worker process does not answer.")
        return Status("complete", 0, 2097152, 64, {"stat_read": 1})


class FakeStarter:
    """What a `Launcher` has besides `launch`."""

    helpers: Sequence[int] = ()
    kept: Sequence[int] = ()

    async def warm_up(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeExport(Export):
    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._fuse_fd: int = 99
        self.inherited: InheritedImage | None = None
        self.in_use: list[str] = []
        self.refuses = ""
        """Why it cannot be taken away, although nobody was seen to use it."""

    def inherit(self, left: InheritedImage) -> None:
        self.inherited = left

    def bequeath(self) -> InheritedImage:
        return InheritedImage(self._fuse_fd, "/dev/loop7")

    async def mount(self) -> None:
        self._log.append("mount")

    async def attach(self) -> None:
        self._log.append("attach")

    async def holders(self, workers: object) -> list[str]:
        return self.in_use

    async def take_away(self, *, force: bool) -> None:
        if self.refuses:
            raise BusyError(self.refuses)
        self._log.append("take away by force" if force else "take away")

    async def abandon(self) -> None:
        self._log.append("abandon")


class FakeHooks(Hooks):
    def __init__(self) -> None:
        self.fired: list[str] = []
        self.paths: list[str | None] = []
        self.hang: list[str] = []
        """Resources whose programs never end."""

    def fire(self, path: str | None, event: str, resource: str, *arguments: str) -> None:
        self.paths.append(path)
        self.fired.append(" ".join((event, resource, *arguments)))

    @property
    def busy(self) -> list[str]:
        return self.hang

    async def finished(self) -> None:
        if self.hang:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
