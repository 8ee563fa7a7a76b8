"""Worker processes: started from a preloaded process, so that a replacement serves after some 20 ms.

Importing what a worker needs takes 0.3 s and more; multiprocessing's forkserver does it once and forks from then on.
It is started without any descriptor of ours and so are the workers: they have only what a job hands over.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TypeVar

import trio

from hastfs.daemon.jobs import WORKER_MODULE, do_nothing
from hastfs.errors import SystemFailure, plain

_REAPED_WITHIN = 5.0  # Seconds; the forkserver tells an exit status as soon as it has collected it.

_Argument = TypeVar("_Argument")


class WorkerProcess:
    """A started process. Its pidfd cannot mean another process, unlike its pid."""

    def __init__(self, process: ForkServerProcess, lock: trio.Lock) -> None:
        self._process = process
        self._lock = lock
        self.pid = process.pid or 0
        try:
            self.pidfd: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.pidfd = None  # It has ended already.

    async def wait(self) -> int:
        """Waits for the process's end; its exit code, or minus the signal that killed it, as in subprocess."""
        if self.pidfd is not None:
            await trio.lowlevel.wait_readable(self.pidfd)
        with trio.move_on_after(_REAPED_WITHIN):
            await trio.lowlevel.wait_readable(self._process.sentinel)
        async with self._lock:
            code = self._process.exitcode
        return -signal.SIGKILL if code is None else code

    def kill(self) -> None:
        """SIGKILL; nothing happens if it has ended."""
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Gives up the descriptors; once, after the end."""
        if self.pidfd is not None:
            os.close(self.pidfd)
        with contextlib.suppress(ValueError):  # It cannot be killed: nothing more can be done about it.
            self._process.close()


class ProcessStarter:
    """Starts worker processes. To be made before trio runs."""

    def __init__(self, preload: str = WORKER_MODULE) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload])
        # It would wait for our processes at our exit, also for one that cannot be killed. The supervisor ends them all.
        atexit.unregister(util._exit_function)  # type: ignore[attr-defined]
        with _importable(), _deaf():
            forkserver.ensure_running()
        # multiprocessing collects exit statuses in start() as well as in exitcode: one at a time.
        self._lock = trio.Lock()

    @property
    def helpers(self) -> list[int]:
        """Processes of ours besides the workers. They end when what is `kept` is closed."""
        found = forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
        return [pid for pid in found if pid is not None]

    @property
    def kept(self) -> list[int]:
        """Descriptors that must stay open as long as workers are to go on without us."""
        return []

    async def warm_up(self) -> None:
        """Returns when the imports are done, and workers start at once. SystemFailure if none can be started."""
        process = await self.start(do_nothing, None)
        await process.wait()
        process.close()

    async def start(self, target: Callable[[_Argument], None], argument: _Argument) -> WorkerProcess:
        """Runs `target(argument)` in a new process. SystemFailure if there cannot be one."""
        process = self._context.Process(target=target, args=(argument,))
        async with self._lock:
            try:
                # In a thread: the forkserver may still be busy with its imports.
                await trio.to_thread.run_sync(process.start)
            except (OSError, EOFError) as error:
                raise SystemFailure(f"Unable to start a worker process: {plain(error)}.") from error
        return WorkerProcess(process, self._lock)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Lets the forkserver find this package where we found it, installed or not: it is started by name.

    Our own children (hooks) are not to inherit that.
    """
    spec = importlib.util.find_spec("hastfs")
    root = str(Path(spec.origin or "").resolve().parent.parent) if spec else ""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started now ignores the signals that end hastd, also when they are sent to all of its processes at once:
    the forkserver has to outlive every worker, and it is told to end by hastd's own end."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
