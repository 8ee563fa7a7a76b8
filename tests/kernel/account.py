"""The user hast, there or not there while a test runs: one test at a time, on the whole machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Iterator

import pytest

from hastfs.daemon.privileges import USER
from tests.kernel import machine
from tests.kernel.waiting import wait_for


def find() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


@contextlib.contextmanager
def present() -> Iterator[pwd.struct_passwd]:
    """There is one: it is made, and taken away at the end, unless there was one before."""
    with _alone():
        there = find()
        if there is not None:
            yield there
            return
        machine.run("useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", USER)
        try:
            made = find()
            assert made is not None
            yield made
        finally:
            machine.run("userdel", "--force", USER)  # whatever process still runs as that user


@contextlib.contextmanager
def absent() -> Iterator[None]:
    """There is none. One that others use is left alone: the test is skipped."""
    with _alone():
        if find() is not None:
            pytest.skip(f"this machine has a user {USER}, which is not a test's to remove")
        yield


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other test of any checkout on this machine is in here."""
    fd = os.open("/etc", os.O_RDONLY | os.O_CLOEXEC)  # the folder of passwd, which itself is a new file at each change
    try:
        wait_for(lambda: _lock(fd), f"no other test needs the user {USER}", timeout=300)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
