"""The image as programs see it: a regular file of a fixed size, over real FUSE."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hastfs.frontend import mount, mountinfo
from tests.kernel.frontend_support import MIB, Image, Server, mounted_image

pytestmark = pytest.mark.kernel

SIZE = 8 * MIB + 3 * 512
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with mounted_image(tmp_path, SIZE) as image:
        yield image


@pytest.fixture
def server(image: Image) -> Server:
    return image.serve()


@pytest.fixture
def file(image: Image, server: Server) -> Iterator[int]:
    """The open image, with direct I/O off."""
    fd = os.open(image.path, os.O_RDWR)
    yield fd
    os.close(fd)


def fallocate(fd: int, mode: int, offset: int, length: int) -> int:
    """Returns the errno."""
    failed = _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
    return ctypes.get_errno() if failed else 0


def test_the_image_is_a_private_file_of_the_disks_size(image: Image, server: Server) -> None:
    status = os.stat(image.path)
    assert stat.filemode(status.st_mode) == "-rw-------"
    assert (status.st_size, status.st_blocks, status.st_uid, status.st_gid) == (SIZE, SIZE // 512, 0, 0)
    assert os.listdir(image.path.parent) == ["disk"]


def test_the_mount_is_recognisable(image: Image) -> None:
    top = mountinfo.top(mountinfo.read(), str(image.path))
    assert top is not None
    assert (top.fstype, top.source) == ("fuse.hastfs", "hastfs")
    assert mount.is_mounted(str(image.path))


def test_statfs_tells_the_discard_granularity(image: Image, server: Server) -> None:
    status = os.statvfs(image.path)
    assert status.f_bsize == 4096
    assert status.f_blocks * status.f_frsize == SIZE


def test_others_than_root_are_kept_out(image: Image, server: Server) -> None:
    os.chmod(image.path.parent, 0o755)
    for directory in (*image.path.parents,)[:4]:
        os.chmod(directory, os.stat(directory).st_mode | 0o011)
    done = subprocess.run(
        ["cat", image.path], user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False
    )
    assert "Permission denied" in done.stderr


def test_what_is_written_is_read_and_in_the_backing_file(image: Image, file: int) -> None:
    assert os.pwrite(file, b"data" * 5000, 12345) == 20000
    assert os.pread(file, 20002, 12344) == b"\0" + b"data" * 5000 + b"\0"
    with image.backing.open("rb") as backing:
        backing.seek(12345)
        assert backing.read(20000) == b"data" * 5000


def test_a_direct_request_of_a_mebibyte_stays_one(image: Image, server: Server) -> None:
    with mmap.mmap(-1, MIB) as buffer:
        buffer.write(os.urandom(MIB))
        fd = os.open(image.path, os.O_RDWR | os.O_DIRECT)
        assert os.pwritev(fd, [buffer], 3 * MIB) == MIB
        with mmap.mmap(-1, MIB) as again:
            assert os.preadv(fd, [again], 3 * MIB) == MIB
            assert again[:] == buffer[:]
        os.close(fd)
    server.stop()
    counts = server.counts()
    assert (counts["writes"], counts["reads"], counts["longest"]) == (1, 1, MIB)


@pytest.mark.parametrize("flags", [0, os.O_DIRECT])
def test_reading_ends_at_the_size(image: Image, server: Server, flags: int) -> None:
    fd = os.open(image.path, os.O_RDONLY | flags)
    with mmap.mmap(-1, 8192) as buffer:
        assert os.preadv(fd, [buffer], SIZE - 1536) == 1536
        assert os.preadv(fd, [buffer], SIZE) == 0
    os.close(fd)


def test_writing_ends_at_the_size(image: Image, file: int) -> None:
    assert os.pwrite(file, b"x" * 4096, SIZE - 1536) == 1536
    with pytest.raises(OSError) as caught:
        os.pwrite(file, b"x" * 4096, SIZE)
    assert caught.value.errno == errno.ENOSPC
    assert os.stat(image.path).st_size == os.stat(image.backing).st_size == SIZE


@pytest.mark.parametrize("offset", [SIZE - 1536, SIZE])
def test_direct_writing_ends_at_the_size(image: Image, server: Server, offset: int) -> None:
    fd = os.open(image.path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as buffer:
        buffer.write(b"x" * 4096)
        with pytest.raises(OSError) as caught:
            os.pwritev(fd, [buffer], offset)
    os.close(fd)
    assert caught.value.errno == errno.ENOSPC
    written = SIZE - offset
    assert image.backing.read_bytes()[-1536:] == b"x" * written + bytes(1536 - written)
    assert os.stat(image.path).st_size == os.stat(image.backing).st_size == SIZE


def test_the_size_cannot_be_changed(image: Image, file: int) -> None:
    for size in (0, SIZE - 512, SIZE + 512):
        with pytest.raises(PermissionError):
            os.ftruncate(file, size)
    with pytest.raises(PermissionError):
        os.open(image.path, os.O_WRONLY | os.O_TRUNC)
    os.ftruncate(file, SIZE)
    assert os.stat(image.path).st_size == SIZE


def test_mode_and_owner_cannot_be_changed(image: Image, file: int) -> None:
    with pytest.raises(PermissionError):
        os.chmod(image.path, 0o666)
    with pytest.raises(PermissionError):
        os.chown(image.path, 65534, -1)
    os.chmod(image.path, 0o600)
    os.utime(image.path)


def test_names_cannot_be_changed(image: Image, server: Server) -> None:
    for change in (os.unlink, os.rmdir):
        with pytest.raises(OSError) as caught:
            change(image.path)
        assert caught.value.errno in (errno.EBUSY, errno.ENOTDIR)
    with pytest.raises(OSError) as caught:
        os.rename(image.path, f"{image.path}2")
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(OSError) as caught:
        os.link(image.path, f"{image.path}2")
    assert caught.value.errno == errno.EXDEV


def test_there_are_no_extended_attributes(image: Image, server: Server) -> None:
    with pytest.raises(OSError) as caught:
        os.setxattr(image.path, "user.test", b"value")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_fsync_and_fdatasync_flush_and_close_does_not(image: Image, server: Server) -> None:
    fd = os.open(image.path, os.O_RDWR)
    os.pwrite(fd, b"data", 0)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    server.stop()
    assert server.counts()["flushes"] == 2


def test_punching_gives_space_back_and_reads_as_zeros(image: Image, file: int) -> None:
    os.pwrite(file, b"x" * MIB, 0)
    used = os.stat(image.backing).st_blocks
    assert fallocate(file, 0x02 | 0x01, 4096, MIB - 8192) == 0
    assert os.pread(file, MIB, 0) == b"x" * 4096 + bytes(MIB - 8192) + b"x" * 4096
    assert os.stat(image.backing).st_blocks < used


def test_zeroing_keeps_the_space_reserved(image: Image, server: Server) -> None:
    fd = os.open(image.path, os.O_RDWR)
    os.pwrite(fd, b"x" * 8192, 0)
    assert fallocate(fd, 0x10, 0, 4096) == 0
    assert fallocate(fd, 0x10 | 0x01, 4096, 1024) == 0
    assert os.pread(fd, 8192, 0) == bytes(5120) + b"x" * 3072
    assert fallocate(fd, 0x10, SIZE - 512, 1024) == errno.ENOSPC
    os.close(fd)
    server.stop()
    counts = server.counts()
    assert (counts["allocated"], counts["discards"]) == (2, 0)


@pytest.mark.parametrize("mode", [0, 0x01, 0x08, 0x20])
def test_other_kinds_of_fallocate_are_refused(file: int, mode: int) -> None:
    assert fallocate(file, mode, 0, 4096) == errno.EOPNOTSUPP


def test_a_mapped_image_works(image: Image, file: int) -> None:
    with mmap.mmap(file, 8192) as memory:
        memory[4000:4200] = b"y" * 200
        memory.flush()
    assert image.backing.read_bytes()[4000:4200] == b"y" * 200


def test_many_processes_may_ask_at_once(image: Image, server: Server) -> None:
    command = ["stat", "--format=%s", "--cached=never", *[str(image.path)] * 50]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [process.communicate(timeout=20)[0] for process in asking]
    assert answers == [f"{SIZE}\n" * 50] * 8
