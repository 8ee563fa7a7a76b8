"""How a worker starts, in a process of its own: what it does as root, in which order, and what it says of failures."""

from __future__ import annotations

import dataclasses
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hastfs.config.schema import ResourceConfig
from hastfs.daemon import privileges, worker, workerlink
from hastfs.daemon.jobs import SecondaryJob
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.workerlink import Failed
from hastfs.errors import SystemFailure
from hastfs.model import Consistency
from hastfs.protocol.handshake import Joining
from hastfs.resource.component import open_locked
from hastfs.resource.provision import create
from tests.simulation.node import resource_config

# Python warns of forking while there are other threads (those that trio keeps for the next call, of an earlier test).
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

JOINING = Joining("test", bytes(16), True, 0, 0, 0, None, Consistency.CONSISTENT)
SERVED = 99
"""Exit code of a worker that came as far as serving."""


@pytest.fixture
def config(tmp_path: Path) -> ResourceConfig:
    config = dataclasses.replace(resource_config(), local=str(tmp_path / "component"))
    create(config, extentsize=2 << 20, keepdirty=64, mediasize=8 << 20)
    return config


def start(config: ResourceConfig, drop: Callable[[], None]) -> tuple[int, list[Failed]]:
    """A secondary's worker that calls `drop` where it drops its privileges, and ends where it would begin to serve.

    Its exit code, and its last words.
    """
    ours, theirs = workerlink.socketpair()
    first, second = socket.socketpair()
    with ours, theirs, first, second:
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_worker(SecondaryJob(config, LogSettings(True, 0), theirs, first, second, JOINING, 3), drop)
        theirs.close()
        _, status = os.waitpid(pid, 0)
        words = []
        while packet := ours.recv(65536):
            message = workerlink.decode(packet)
            assert isinstance(message, Failed)
            words.append(message)
    return os.waitstatus_to_exitcode(status), words


def _be_worker(job: SecondaryJob, drop: Callable[[], None]) -> None:
    """Never returns."""
    try:
        privileges.drop = drop
        trio.run = lambda *_: os._exit(SERVED)
        worker.main(job)
    except SystemExit as end:
        os._exit(int(str(end.code)))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def test_privileges_are_dropped_with_the_component_open_and_before_anything_is_served(config: ResourceConfig) -> None:
    def drop() -> None:
        assert len(os.listdir("/proc/self/task")) == 1
        with pytest.raises(Exception, match="in use"):
            open_locked(config.local)
        os.chmod(config.local, 0)

    assert start(config, drop) == (SERVED, [])
    assert os.stat(config.local).st_mode & 0o777 == 0


def test_a_worker_that_cannot_drop_its_privileges_serves_nobody_and_says_why(config: ResourceConfig) -> None:
    def drop() -> None:
        raise SystemFailure("Unable to drop privileges: No.")

    assert start(config, drop) == (71, [Failed("Unable to drop privileges: No.", 71, True)])


def test_a_worker_that_cannot_open_its_component_says_why(config: ResourceConfig) -> None:
    os.unlink(config.local)
    text = (
        f"Unable to open {config.local}: No such file or directory. "
        "Is its disk mounted? To make a new component, use hastctl create."
    )
    assert start(config, lambda: os._exit(1)) == (66, [Failed(text, 66, False)])


def test_a_component_that_is_locked_is_worth_another_try(config: ResourceConfig) -> None:
    fd = open_locked(config.local)
    try:
        code, (words,) = start(config, lambda: os._exit(1))
        assert (code, words.exit_code, words.temporary) == (75, 75, True)
        assert "in use" in words.message
    finally:
        os.close(fd)
