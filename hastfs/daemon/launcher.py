"""Starting a worker: its process and the link to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from hastfs.daemon import workerlink
from hastfs.daemon.jobs import Job, work
from hastfs.daemon.process import ProcessStarter
from hastfs.daemon.workerlink import LinkEnd
from hastfs.daemon.workers import Worker
from hastfs.resource.events import Notify


class Launcher(Protocol):
    """What roles need to get workers; `ProcessLauncher` is the real one."""

    async def launch(self, make_job: Callable[[socket.socket], Job], notify: Notify) -> Worker:
        """A worker for the job that `make_job` makes, given the worker's end of the link; its `run` is not yet run.

        Raises SystemFailure.
        """

    async def warm_up(self) -> None:
        """Returns when workers start without delay. Raises SystemFailure."""

    @property
    def helpers(self) -> Sequence[int]:
        """Processes that end when `kept` is closed."""

    @property
    def kept(self) -> Sequence[int]:
        """Descriptors that must stay open as long as workers are to go on without us."""


class ProcessLauncher:
    """Starts worker processes."""

    def __init__(self, starter: ProcessStarter) -> None:
        self._starter = starter

    @property
    def helpers(self) -> Sequence[int]:
        return self._starter.helpers

    @property
    def kept(self) -> Sequence[int]:
        return self._starter.kept

    async def warm_up(self) -> None:
        await self._starter.warm_up()

    async def launch(self, make_job: Callable[[socket.socket], Job], notify: Notify) -> Worker:
        ours, theirs = workerlink.socketpair()
        try:
            process = await self._starter.start(work, make_job(theirs))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Worker(process, LinkEnd(ours), notify)
