"""The image as pyfuse3 sees it: one regular file, which is the root of its file system. Data never comes this way."""

from __future__ import annotations

import errno
import stat
import time

import pyfuse3

from hastfs.model import SECTOR_SIZE

BLOCK_SIZE = 4096
"""Bytes: what the image names as its best I/O size, and loop devices as their discard granularity."""

MODE = stat.S_IFREG | 0o600

_ATTRIBUTES_VALID = 300.0
"""Seconds the kernel may answer stat(2) by itself; nothing about the image ever changes."""


class ImageOperations(pyfuse3.Operations):  # type: ignore[misc, unused-ignore]
    """A file of `size` bytes (mode 0600, root's) whose size, mode and owner cannot be changed.

    READ, WRITE, FSYNC and FALLOCATE are the lane's. What is not implemented here answers ENOSYS, which the kernel turns
    into what a file without that feature says (no extended attributes, no SEEK_HOLE) and does not ask again. Names
    cannot be created, removed or moved: there is no directory, and the image's own name belongs to the mount.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._since = time.time_ns()

    def _attributes(self) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.ROOT_INODE
        attributes.st_mode = pyfuse3.ModeT(MODE)
        attributes.st_nlink = 1
        attributes.st_size = self._size
        attributes.st_blocks = self._size // SECTOR_SIZE
        attributes.st_blksize = BLOCK_SIZE
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = self._since
        attributes.attr_timeout = attributes.entry_timeout = _ATTRIBUTES_VALID
        return attributes

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes()

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """A disk has its size, and is root's; only times may be "set", with no effect, as for touch(1)."""
        now = self._attributes()
        changed = (
            (fields.update_size and attr.st_size != now.st_size)
            or (fields.update_mode and stat.S_IMODE(attr.st_mode) != stat.S_IMODE(MODE))
            or (fields.update_uid and attr.st_uid != now.st_uid)
            or (fields.update_gid and attr.st_gid != now.st_gid)
        )
        if changed:
            raise pyfuse3.FUSEError(errno.EPERM)
        return now

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        # No direct_io: it would make the kernel serialise direct writes, and there would be no mmap. The cache stays
        # valid across opens because the disk changes through this mount only.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def flush(self, fh: int) -> None:
        """Never again, please: close(2) promises nothing about power loss.

        After this answer the kernel no longer asks. That matters because a close(2) that asks cannot be killed, and a
        process that is forked closes what it inherited: a supervisor that starts the next worker of a mount nobody
        serves would wait for that very worker.
        """
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: int) -> None:
        """Nothing is kept per open file, so that another process can take over without knowing of any."""

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """The loop driver passes discards on only if this works, in units of f_bsize."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = BLOCK_SIZE
        data.f_frsize = SECTOR_SIZE
        data.f_blocks = self._size // SECTOR_SIZE
        data.f_bfree = data.f_bavail = 0
        data.f_files = 1
        data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data
