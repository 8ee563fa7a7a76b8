"""The lane on a socket pair in /dev/fuse's place: one message is one request or one answer, as there."""

from __future__ import annotations

import errno
import os
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from hastfs.frontend import fuse_abi as abi
from hastfs.frontend import lane as lane_module
from hastfs.frontend.lane import BATCH, Lane
from hastfs.volume import Buffer, Done, ReadDone

SIZE = 10_000


class MemoryVolume:
    """A disk in memory. With `held` a list, answers are kept there instead of given."""

    def __init__(self) -> None:
        self.data = bytearray(b"x" * SIZE)
        self.size = SIZE
        self.calls: list[str] = []
        self.error = 0
        self.short = 0
        self.held: list[partial[None]] | None = None

    def _finish(self, answer: partial[None]) -> None:
        if self.held is None:
            answer()
        else:
            self.held.append(answer)

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        self.calls.append(f"read {offset} {length}")
        self._finish(partial(done, self.error, bytes(self.data[offset : offset + length - self.short])))

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        self.calls.append(f"write {offset} {len(data)}")
        self.data[offset : offset + len(data)] = data
        self._finish(partial(done, self.error))

    def flush(self, done: Done) -> None:
        self.calls.append("flush")
        self._finish(partial(done, self.error))

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        self.calls.append(f"{'zero' if allocated else 'punch'} {offset} {length}")
        self._finish(partial(done, self.error))

    def submit(self) -> None:
        self.calls.append("submit")


class Bench:
    """A lane, the volume behind it, and the kernel's end in front of it."""

    def __init__(self) -> None:
        self.kernel, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.setblocking(False)
        self.device.setblocking(False)
        self.volume = MemoryVolume()
        self.forwarded: list[bytes] = []
        self.lane = Lane(self.device.fileno(), self.volume, self.forwarded.append)

    def request(self, opcode: int, unique: int, body: bytes = b"") -> bytes:
        request = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, 1, 0, 0, 99, 0, 0) + body
        self.kernel.send(request)
        return request

    def read(self, unique: int, offset: int, length: int) -> None:
        self.request(abi.FUSE_READ, unique, struct.pack("=QQIIQII", 1, offset, length, 0, 0, 0, 0))

    def write(self, unique: int, offset: int, data: bytes, flags: int = os.O_RDWR) -> None:
        self.request(abi.FUSE_WRITE, unique, struct.pack("=QQIIQII", 1, offset, len(data), 0, 0, flags, 0) + data)

    def fallocate(self, unique: int, mode: int, offset: int, length: int) -> None:
        self.request(abi.FUSE_FALLOCATE, unique, struct.pack("=QQQII", 1, offset, length, mode, 0))

    def answer(self) -> tuple[int, int, bytes]:
        """(unique, errno, body) of the next answer; BlockingIOError if there is none."""
        message = self.kernel.recv(1 << 20)
        length, error, unique = struct.unpack_from("=IiQ", message)
        assert length == len(message)
        return unique, -error, message[16:]

    def ask(self) -> tuple[int, int, bytes]:
        assert self.lane.serve_batch() == 1
        return self.answer()

    def assert_silent(self) -> None:
        with pytest.raises(BlockingIOError):
            self.kernel.recv(1)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.kernel, bench.device:
        yield bench


def test_a_read_brings_the_bytes(bench: Bench) -> None:
    bench.volume.data[100:104] = b"data"
    bench.read(2, 99, 6)
    assert bench.ask() == (2, 0, b"xdatax")


def test_a_read_is_cut_at_the_end(bench: Bench) -> None:
    bench.read(2, SIZE - 10, 4096)
    assert bench.ask() == (2, 0, b"x" * 10)


@pytest.mark.parametrize("offset", [SIZE, SIZE + 1, (1 << 63) - 1])
def test_a_read_beyond_the_end_is_empty_and_no_matter_of_the_volume(bench: Bench, offset: int) -> None:
    bench.read(2, offset, 4096)
    assert bench.ask() == (2, 0, b"")
    assert bench.volume.calls == ["submit"]


def test_a_read_that_fails_tells_why(bench: Bench) -> None:
    bench.volume.error = errno.ENODATA
    bench.read(2, 0, 4096)
    assert bench.ask() == (2, errno.ENODATA, b"")


def test_a_volume_that_brings_too_little_is_not_believed(bench: Bench) -> None:
    bench.volume.short = 1
    bench.read(2, 0, 4096)
    assert bench.ask() == (2, errno.EIO, b"")


def test_a_write_lands(bench: Bench) -> None:
    bench.write(2, 99, b"data")
    assert bench.ask() == (2, 0, struct.pack("=II", 4, 0))
    assert bench.volume.data[98:104] == b"xdatax"


def test_a_write_across_the_end_is_short(bench: Bench) -> None:
    bench.write(2, SIZE - 3, b"data")
    assert bench.ask() == (2, 0, struct.pack("=II", 3, 0))
    assert bench.volume.data.endswith(b"xdat")
    assert len(bench.volume.data) == SIZE


def test_a_direct_write_across_the_end_writes_what_fits_and_finds_no_space(bench: Bench) -> None:
    bench.write(2, SIZE - 3, b"data", os.O_RDWR | os.O_DIRECT)
    assert bench.ask() == (2, errno.ENOSPC, b"")
    assert bench.volume.data.endswith(b"xdat")
    bench.volume.error = errno.EIO
    bench.write(4, SIZE - 3, b"data", os.O_RDWR | os.O_DIRECT)
    assert bench.ask() == (4, errno.EIO, b"")


def test_a_write_beyond_the_end_finds_no_space(bench: Bench) -> None:
    bench.write(2, SIZE, b"data")
    assert bench.ask() == (2, errno.ENOSPC, b"")
    assert bench.volume.calls == ["submit"]


def test_a_write_that_fails_tells_why(bench: Bench) -> None:
    bench.volume.error = errno.EIO
    bench.write(2, 0, b"data")
    assert bench.ask() == (2, errno.EIO, b"")


def test_fsync_flushes(bench: Bench) -> None:
    bench.request(abi.FUSE_FSYNC, 2, struct.pack("=QII", 1, 0, 0))
    assert bench.ask() == (2, 0, b"")
    assert bench.volume.calls == ["flush", "submit"]


@pytest.mark.parametrize(("mode", "call"), [(0x03, "punch"), (0x11, "zero"), (0x10, "zero")])
def test_fallocate_discards(bench: Bench, mode: int, call: str) -> None:
    bench.fallocate(2, mode, 512, 1024)
    assert bench.ask() == (2, 0, b"")
    assert bench.volume.calls == [f"{call} 512 1024", "submit"]


def test_a_discard_is_cut_at_the_end(bench: Bench) -> None:
    bench.fallocate(2, 0x03, SIZE - 10, 1 << 40)
    assert bench.ask() == (2, 0, b"")
    assert bench.volume.calls[0] == f"punch {SIZE - 10} 10"


def test_a_discard_beyond_the_end_has_nothing_to_do(bench: Bench) -> None:
    bench.fallocate(2, 0x11, SIZE, 10)
    assert bench.ask() == (2, 0, b"")
    assert bench.volume.calls == ["submit"]


def test_zeroing_that_would_make_the_disk_longer_finds_no_space(bench: Bench) -> None:
    bench.fallocate(2, 0x10, SIZE - 10, 11)
    assert bench.ask() == (2, errno.ENOSPC, b"")


def test_other_kinds_of_fallocate_are_not_supported(bench: Bench) -> None:
    bench.fallocate(2, 0, 0, 10)
    assert bench.ask() == (2, errno.EOPNOTSUPP, b"")


def test_init_is_answered_here(bench: Bench) -> None:
    bench.request(abi.FUSE_INIT, 2, bytes(64))
    assert bench.ask()[:2] == (2, 0)
    assert bench.forwarded == []


def test_what_is_not_data_is_forwarded_byte_for_byte(bench: Bench) -> None:
    bench.write(2, 0, b"leftovers in the buffer")
    bench.lane.serve_batch()
    bench.answer()
    request = bench.request(3, 4, b"getattr")
    bench.lane.serve_batch()
    assert bench.forwarded == [request]
    bench.assert_silent()


def test_long_writes_are_submitted_before_all_are_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "BATCH_BYTES", SIZE)
    for unique in range(2, 5):
        bench.write(unique, 0, bytes(SIZE * 2 // 3))
    assert bench.lane.serve_batch() == 2
    assert bench.volume.calls[-1] == "submit"
    assert bench.lane.serve_batch() == 1


@pytest.mark.parametrize("length", [33 * 1024, 64 * 1024, 128 * 1024])
def test_writes_that_are_held_cost_the_memory_of_their_data(bench: Bench, length: int) -> None:
    """They came in buffers of a MiB, which a slow peer would keep one by one."""
    kept: list[Buffer] = []
    bench.volume.size = 1 << 20
    lane = Lane(bench.device.fileno(), bench.volume, bench.forwarded.append)
    bench.volume.write = lambda offset, data, done: kept.append(data)  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        for unique in range(2, 34):
            bench.write(unique, 0, bytes(length))
            lane.serve_batch()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 32
    assert held < 4 * 32 * length


def test_an_interrupt_is_dropped(bench: Bench) -> None:
    bench.request(abi.FUSE_INTERRUPT, 3, struct.pack("=Q", 2))
    assert bench.lane.serve_batch() == 1
    assert bench.forwarded == []
    bench.assert_silent()


def test_a_resent_requests_mark_is_repeated(bench: Bench) -> None:
    bench.read(1 << 63 | 2, 0, 1)
    assert bench.ask() == (1 << 63 | 2, 0, b"x")


def test_answers_come_in_the_order_of_the_volume(bench: Bench) -> None:
    bench.volume.held = []
    bench.read(2, 0, 1)
    bench.write(4, 0, b"y")
    assert bench.lane.serve_batch() == 2
    bench.assert_silent()
    for answer in reversed(bench.volume.held):
        answer()
    assert [bench.answer()[0], bench.answer()[0]] == [4, 2]


def test_a_batch_is_submitted_once_and_has_a_bound(bench: Bench) -> None:
    for number in range(BATCH + 1):
        bench.read(2 * number + 2, 0, 1)
    assert bench.lane.serve_batch() == BATCH
    assert bench.volume.calls.count("submit") == 1
    assert bench.lane.serve_batch() == 1
    assert bench.lane.serve_batch() == 0
    assert bench.volume.calls.count("submit") == 2


def test_after_close_late_answers_do_not_touch_the_descriptor(bench: Bench) -> None:
    bench.volume.held = []
    bench.read(2, 0, 1)
    bench.write(4, 0, b"y")
    bench.lane.serve_batch()
    bench.lane.close()
    for answer in bench.volume.held:
        answer()
    bench.assert_silent()


class Leaving:
    """A lane that runs and was told to leave."""

    def __init__(self) -> None:
        self._left = False

    async def run(self, lane: Lane) -> None:
        assert await lane.run()
        self._left = True

    async def left(self) -> bool:
        """Whether it has, once nothing moves any more."""
        await trio.testing.wait_all_tasks_blocked()
        return self._left


@asynccontextmanager
async def leaving(lane: Lane) -> AsyncIterator[Leaving]:
    told = Leaving()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.run, lane)
        await trio.testing.wait_all_tasks_blocked()
        lane.leave()
        yield told


async def test_a_lane_that_leaves_ends_when_everything_that_it_took_is_answered(bench: Bench) -> None:
    bench.volume.held = []
    bench.read(2, 0, 1)
    bench.write(4, 0, b"y")
    bench.request(abi.FUSE_FSYNC, 6, struct.pack("=QII", 1, 0, 0))
    bench.fallocate(8, 0x03, 0, 512)
    bench.request(3, 10, b"getattr")
    bench.request(abi.FUSE_INTERRUPT, 3, struct.pack("=Q", 2))
    bench.request(abi.FUSE_FORGET, 12, bytes(8))
    bench.request(abi.FUSE_BATCH_FORGET, 14, bytes(8))
    bench.request(abi.FUSE_INIT, 16, bytes(64))
    async with leaving(bench.lane) as lane:
        for answer in bench.volume.held:
            assert not await lane.left()
            answer()
        assert not await lane.left(), "what was forwarded is not answered"
        bench.lane.answer(abi.success(10))
        assert await lane.left()
    assert sorted(bench.answer()[0] for _ in range(6)) == [2, 4, 6, 8, 10, 16]
    bench.assert_silent()


async def test_a_lane_that_leaves_takes_nothing_more(bench: Bench) -> None:
    bench.volume.held = []
    bench.read(2, 0, 1)
    async with leaving(bench.lane) as lane:
        assert not await lane.left()
        bench.read(4, 0, 1)
        bench.volume.held[0]()
        assert await lane.left()
    assert bench.answer()[0] == 2
    bench.volume.held = None
    assert bench.ask()[0] == 4, "whoever comes next finds it"


async def test_a_lane_with_nothing_to_answer_leaves_at_once(bench: Bench) -> None:
    bench.read(2, 0, 1)
    async with leaving(bench.lane) as lane:
        assert await lane.left()
    assert bench.answer() == (2, 0, b"x")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EPERM])
def test_an_answer_that_nobody_waits_for_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(fd: int, message: object) -> int:
        raise OSError(number, os.strerror(number))

    bench.read(2, 0, 1)
    bench.write(4, 0, b"y")
    monkeypatch.setattr(os, "write", refuse)
    monkeypatch.setattr(os, "writev", refuse)
    assert bench.lane.serve_batch() == 2


def test_an_answer_that_the_kernel_finds_malformed_is_an_error_of_ours(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, message: object) -> int:
        raise OSError(errno.EINVAL, "malformed")

    bench.write(4, 0, b"y")
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="malformed"):
        bench.lane.serve_batch()


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ECONNABORTED])
async def test_the_lane_ends_when_the_file_system_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def gone(fd: int, buffers: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "readv", gone)
    assert not await bench.lane.run()


def test_a_request_that_was_given_up_does_not_stop_the_lane(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    readv = os.readv
    given_up = [OSError(errno.ENOENT, "given up")]

    def first_given_up(fd: int, buffers: list[bytearray]) -> int:
        if given_up:
            raise given_up.pop()
        return readv(fd, buffers)

    bench.read(2, 0, 1)
    monkeypatch.setattr(os, "readv", first_given_up)
    assert bench.ask() == (2, 0, b"x")
