"""linux/fuse.h in bytes, against layouts written out by hand."""

from __future__ import annotations

import errno
import struct

import pytest

from hastfs.frontend import fuse_abi as abi
from hastfs.frontend.fuse_abi import Zeroing


def test_sizes_of_structures_are_those_of_the_header_file() -> None:
    assert abi.IN_HEADER.size == 40
    assert abi.OUT_HEADER.size == 16
    assert abi.WRITE_REPLY.size == 16 + 8
    assert abi.FALLOCATE_IN.size == 32
    assert abi.DATA_OFFSET == 80


def test_success_is_a_bare_header() -> None:
    assert abi.success(0x8000000000000006) == struct.pack("=IiQ", 16, 0, 0x8000000000000006)


def test_failure_carries_the_negative_errno() -> None:
    assert abi.failure(4, errno.ENOSPC) == struct.pack("=IiQ", 16, -28, 4)


@pytest.mark.parametrize("error", [-5, 512, 100000])
def test_an_errno_that_the_kernel_would_not_take_becomes_eio(error: int) -> None:
    assert abi.failure(4, error) == struct.pack("=IiQ", 16, -errno.EIO, 4)


def test_written_tells_the_size() -> None:
    assert abi.written(8, 4096) == struct.pack("=IiQII", 24, 0, 8, 4096, 0)


def test_data_header_counts_the_data_in() -> None:
    assert abi.data_header(8, 4096) == struct.pack("=IiQ", 16 + 4096, 0, 8)


def test_resend_is_a_notification() -> None:
    assert abi.resend_notification() == struct.pack("=IiQ", 16, 7, 0)


def test_init_answer_asks_for_large_requests_and_many_at_a_time_but_no_writeback_cache() -> None:
    answer = abi.init_answer(2)
    assert len(answer) == 16 + 64
    assert struct.unpack_from("=IiQ", answer) == (80, 0, 2)
    major, minor, readahead, flags, background, congestion, max_write, gran, max_pages = struct.unpack_from(
        "=IIIIHHIIH", answer, 16
    )
    assert (major, minor, gran) == (7, 31, 1)
    assert max_write == readahead == 1 << 20
    assert max_pages == 256
    assert background >= 64
    assert congestion <= background
    assert flags & (1 << 15), "ASYNC_DIO"
    assert flags & (1 << 22), "MAX_PAGES"
    assert not flags & (1 << 16), "WRITEBACK_CACHE"


def test_libfuses_init_is_never_taken_for_a_request_of_the_kernel() -> None:
    request = abi.init_for_libfuse()
    length, opcode, unique = struct.unpack_from("=IIQ", request)
    assert (length, opcode) == (len(request), 26)
    assert unique % 2 == 1, "the kernel's are even"


def test_unique_of_reads_an_answer() -> None:
    assert abi.unique_of(abi.written(0x8000000000000004, 1)) == 0x8000000000000004


@pytest.mark.parametrize(
    ("mode", "zeroing", "may_grow"),
    [(0x02 | 0x01, Zeroing.PUNCH, False), (0x10 | 0x01, Zeroing.ZERO, False), (0x10, Zeroing.ZERO, True)],
)
def test_zeroing_modes_are_understood(mode: int, zeroing: Zeroing, may_grow: bool) -> None:
    assert abi.allocation(mode) == (zeroing, may_grow)


@pytest.mark.parametrize("mode", [0, 0x01, 0x02, 0x08, 0x20, 0x41, 0x13, 0x10 | 0x02])
def test_other_modes_are_not(mode: int) -> None:
    assert abi.allocation(mode) is None
