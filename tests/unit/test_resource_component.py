"""A component on real files: data, holes, reserved space, locks, and what the disk refuses."""

from __future__ import annotations

import errno
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hastfs.errors import BusyError, ComponentError
from hastfs.ondisk.layout import Layout
from hastfs.resource.component import FileComponent, media_size, open_locked, read_head
from hastfs.resource.waiting import data_of, finished

SIZE = 4096 + 512 + (4 << 20) + 100
BLOCK = bytes(range(256)) * 16


@pytest.fixture(params=["disk", "tmpfs"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A sparse file on whatever holds the temporary files, and on tmpfs, which knows no RWF_NOWAIT."""
    with tempfile.TemporaryDirectory(dir=tmp_path if request.param == "disk" else "/dev/shm") as directory:
        name = f"{directory}/component"
        with open(name, "wb") as file:
            file.truncate(SIZE)
        yield name


def opened(path: str) -> FileComponent:
    return FileComponent(path, open_locked(path), Layout(SIZE, 4096))


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def reserve(path: str) -> None:
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE)


def start(path: str, length: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(length)


def blocks(path: str) -> int:
    """Bytes of space in use."""
    return os.stat(path).st_blocks * 512


async def test_what_was_written_is_read_back_and_starts_behind_the_map(path: str) -> None:
    component = opened(path)
    assert await finished(lambda done: component.write(8192, BLOCK, done)) == 0
    assert await data_of(lambda done: component.read(8192 + 100, 3000, done)) == (0, BLOCK[100:3100])
    assert await finished(component.flush) == 0
    component.close()
    assert content(path)[component.layout.localoff + 8192 :].startswith(BLOCK)


async def test_a_component_that_was_cut_short_is_a_read_error(path: str) -> None:
    component = opened(path)
    os.truncate(path, 100_000)
    error, data = await data_of(lambda done: component.read(200_000, 4096, done))
    assert (error, data) == (errno.EIO, b"")
    component.close()


@pytest.mark.parametrize("allocated", [False, True])
async def test_zeroing_makes_zeros_and_leaves_the_rest(path: str, allocated: bool) -> None:
    component = opened(path)
    await finished(lambda done: component.write(0, BLOCK * 32, done))
    assert await finished(lambda done: component.zero(4096 + 512, 65536, done, allocated=allocated)) == 0
    error, data = await data_of(lambda done: component.read(0, len(BLOCK) * 32, done))
    assert error == 0
    expected = bytearray(BLOCK * 32)
    expected[4608 : 4608 + 65536] = bytes(65536)
    assert data == expected
    component.close()


@pytest.mark.parametrize("allocated", [False, True])
async def test_holes_stay_holes_when_they_are_zeroed(path: str, allocated: bool) -> None:
    component = opened(path)
    before = blocks(path)
    assert await finished(lambda done: component.zero(0, 4 << 20, done, allocated=allocated)) == 0
    assert blocks(path) == before
    assert component.next_data(0) == component.layout.datasize
    component.close()


async def test_a_discard_gives_space_back_and_zeroing_for_reserved_space_does_not(path: str) -> None:
    component = opened(path)
    await finished(lambda done: component.write(0, b"x" * (2 << 20), done))
    await finished(component.flush)
    used = blocks(path)
    assert await finished(lambda done: component.zero(0, 1 << 20, done, allocated=True)) == 0
    await finished(component.flush)
    assert blocks(path) >= used - 8192
    assert await finished(lambda done: component.zero(1 << 20, 1 << 20, done, allocated=False)) == 0
    assert blocks(path) < used - (1 << 19)
    component.close()


async def test_reserved_space_counts_as_a_hole_and_stays_reserved(path: str) -> None:
    reserve(path)
    component = opened(path)
    used = blocks(path)
    assert await finished(lambda done: component.zero(0, 4 << 20, done, allocated=True)) == 0
    assert blocks(path) >= used - 8192
    component.close()


async def test_next_data_finds_what_was_written(path: str) -> None:
    component = opened(path)
    await finished(lambda done: component.write(1 << 20, BLOCK, done))
    assert (1 << 20) - 4096 <= component.next_data(0) <= 1 << 20
    assert component.next_data(2 << 20) == component.layout.datasize
    component.close()


async def test_metadata_is_written_in_order_and_to_its_place(path: str) -> None:
    component = opened(path)
    assert await finished(lambda done: component.write_durable([(2048, b"b" * 512), (0, b"a" * 512)], done)) == 0
    assert start(path, 2560) == b"a" * 512 + bytes(1536) + b"b" * 512
    component.close()


async def test_a_full_disk_is_an_error_of_the_write_and_nothing_else(path: str) -> None:
    """RLIMIT_FSIZE stands for a disk without space: EFBIG instead of ENOSPC."""
    component = opened(path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        assert await finished(lambda done: component.write(2 << 20, BLOCK, done)) == errno.EFBIG
        assert await finished(lambda done: component.write_durable([(2 << 20, BLOCK)], done)) == errno.EFBIG
        assert await finished(lambda done: component.write(0, BLOCK, done)) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    component.close()


async def test_closing_waits_for_what_is_under_way_in_a_thread(path: str) -> None:
    """The number of a descriptor that is closed too early may be another file's by then."""
    component = opened(path)
    answers: list[int] = []
    await finished(lambda done: component.write(0, b"x" * (4 << 20), done))
    for at in range(0, 4 << 20, 65536):
        component.zero(at, 65536, answers.append, allocated=True)
    component.close()
    assert not any(content(path))


async def test_a_component_in_use_is_busy_until_it_is_closed(path: str) -> None:
    component = opened(path)
    with pytest.raises(BusyError, match="in use"):
        open_locked(path)
    component.close()
    os.close(open_locked(path))


def test_a_missing_component_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="Unable to open"):
        open_locked(str(tmp_path / "missing"))
    with pytest.raises(ComponentError):
        open_locked(str(tmp_path))
    fd = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(ComponentError, match="neither a regular file nor a block device"):
        media_size(fd, "/dev/null")
    os.close(fd)


def test_a_file_smaller_than_the_metadata_is_no_component(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(bytes(4095))
    fd = open_locked(str(tmp_path / "small"))
    with pytest.raises(ComponentError, match="too small"):
        read_head(fd, "small")
    os.close(fd)


async def test_what_is_in_memory_is_read_at_once(path: str) -> None:
    component = opened(path)
    assert await finished(lambda done: component.write(0, BLOCK, done)) == 0
    answers: list[bytes] = []
    component.read(0, 4096, lambda error, data: answers.append(bytes(data)))
    assert answers == [BLOCK], "no thread, no wait"
    component.close()


async def test_what_waits_for_a_thread_when_it_is_let_go_of_is_answered_with_an_error(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = opened(path)
    held, errors = threading.Event(), list[int]()
    seek = os.lseek
    monkeypatch.setattr(os, "lseek", lambda fd, position, whence: held.wait(10) and seek(fd, position, whence))
    for _ in range(8):
        component.zero(0, 4096, errors.append, allocated=False)
    close = component.let_go()
    held.set()
    await trio.to_thread.run_sync(close)
    with trio.fail_after(10):
        while len(errors) < 8:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert errno.EBADF in errors


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever temporary files are."""
    monkeypatch.setattr("hastfs.resource.component._is_in_memory", lambda fd: False)


@pytest.mark.usefixtures("on_disk")
async def test_a_little_is_flushed_at_once_for_a_caller_that_has_nothing_else_to_do(tmp_path: Path) -> None:
    (tmp_path / "component").write_bytes(bytes(SIZE))
    component = opened(str(tmp_path / "component"))
    answers: list[int] = []
    component.write(0, BLOCK, lambda error: None)
    component.flush(answers.append, idle=True)
    assert answers == [0], "no thread, no wait"
    component.flush(answers.append)
    assert answers == [0], "a thread"
    component.write(0, bytes(1 << 20), lambda error: None)
    component.flush(answers.append, idle=True)
    assert answers == [0], "that may take a while"
    while len(answers) < 3:  # noqa: ASYNC110
        await trio.sleep(0.001)
    component.close()


@pytest.mark.usefixtures("on_disk")
async def test_after_a_long_flush_threads_do_it_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "component").write_bytes(bytes(SIZE))
    component = opened(str(tmp_path / "component"))
    answers: list[int] = []
    now = iter([0.0, 1.0])
    with monkeypatch.context() as patched:
        patched.setattr("hastfs.resource.component.time.perf_counter", lambda: next(now))
        component.flush(answers.append, idle=True)
        assert answers == [0]
    component.flush(answers.append, idle=True)
    assert answers == [0], "a thread"
    while len(answers) < 2:  # noqa: ASYNC110
        await trio.sleep(0.001)
    component.close()
