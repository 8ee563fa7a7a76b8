"""Making a component, and opening one that was made (hastctl create, hastctl dump, a worker's start)."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import subprocess
from dataclasses import dataclass

from hastfs.config.schema import ResourceConfig
from hastfs.errors import ComponentError, DataError, HastError, MetadataError, SystemFailure
from hastfs.model import Consistency, Generations, Role
from hastfs.ondisk.geometry import create_command
from hastfs.ondisk.layout import COPY_SIZE, METADATA_SIZE, SECOND_COPY, Layout, check_geometry
from hastfs.ondisk.metadata import Metadata, choose, encode
from hastfs.resource.component import Absent, Component, FileComponent, media_size, open_locked, read_head

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A component ready for an engine: locked, its metadata checked, its map as found on disk."""

    path: str
    fd: int | None
    layout: Layout
    metadata: Metadata
    ondisk_map: bytes

    @property
    def detached(self) -> bool:
        """There is no component: it failed (hastfs.resource.detaching)."""
        return self.fd is None

    def component(self) -> Component:
        """The owner of the descriptor from now on, once. Needs a running trio loop (for the component's threads)."""
        if self.fd is None:
            return Absent(self.path, self.layout)
        return FileComponent(self.path, self.fd, self.layout)

    def close(self) -> None:
        """Gives up the lock, if `component` was not called."""
        if self.fd is not None:
            os.close(self.fd)


def without_component(config: ResourceConfig, metadata: Metadata) -> Opened:
    """For the successor of an engine that had to part with its component and left `metadata`. Raises MetadataError."""
    return Opened(config.local, None, _layout_of(metadata), metadata, b"")


def open_component(config: ResourceConfig) -> Opened:
    """Opens and locks the resource's component. Blocks; it is the one step that takes the right to open it.

    Raises ComponentError, MetadataError (damaged, of another resource, wrong size), BusyError (locked).
    """
    fd = open_locked(config.local)
    try:
        metadata = _checked(config, read_head(fd, config.local), media_size(fd, config.local))
        layout = _layout_of(metadata)
        ondisk_map = os.pread(fd, layout.localoff, 0)[METADATA_SIZE:]
    except OSError as error:
        os.close(fd)
        raise ComponentError(f"Unable to read {config.local}: {error.strerror}.") from error
    except HastError:
        os.close(fd)
        raise
    return Opened(config.local, fd, layout, metadata, ondisk_map)


def attach_component(config: ResourceConfig, left: Metadata) -> Opened:
    """Opens the component that an engine had to part with, which left `left`; or a new one in its place.

    It says of itself that it must not be used without a resync before it is used. Blocks. Raises as `open_component`,
    and ComponentError if it is of another size or pair, or cannot be written.
    """
    opened = open_component(config)
    try:
        check_same_disk(opened.metadata, left, config)
        metadata = dataclasses.replace(
            opened.metadata, consistency=Consistency.INCONSISTENT, serial=opened.metadata.serial + 1
        )
        if not metadata.resuid:  # made anew: without a generation, it gets everything
            metadata = dataclasses.replace(metadata, resuid=left.resuid)
        assert opened.fd is not None
        _write_metadata(opened.fd, metadata)
    except OSError as error:
        opened.close()
        raise ComponentError(f"Unable to write metadata to {config.local}: {error.strerror}.") from error
    except HastError:
        opened.close()
        raise
    return dataclasses.replace(opened, metadata=metadata)


def check_same_disk(found: Metadata, left: Metadata, config: ResourceConfig) -> None:
    """ComponentError if what was found on the component cannot take the place of what was there."""
    create = create_command(config.name, left.extentsize, left.keepdirty)
    for what, there, here in (
        ("disk", left.datasize, found.datasize),
        ("extents", left.extentsize, found.extentsize),
    ):
        if there != here:
            raise ComponentError(
                f"{config.local} is for {what} of {here} bytes, not {there}. "
                f"Make it anew with the right sizes: {create}"
            )
    if found.resuid not in (0, left.resuid):
        raise ComponentError(
            f"{config.local} belongs to another pair of nodes. If its data may be thrown away: {create}"
        )


def read_metadata(config: ResourceConfig) -> Metadata:
    """The metadata of the resource's component, for hastctl dump: read-only, also while hastd has it open."""
    try:
        fd = os.open(config.local, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise MetadataError(f"Unable to open {config.local}: {error.strerror}.") from error
    try:
        return _checked(config, read_head(fd, config.local), media_size(fd, config.local))
    except ComponentError as error:
        raise MetadataError(str(error)) from error
    finally:
        os.close(fd)


def _checked(config: ResourceConfig, head: bytes, size: int) -> Metadata:
    first, second = head[:COPY_SIZE], head[SECOND_COPY : SECOND_COPY + COPY_SIZE]
    try:
        metadata, warning = choose(first, second)
    except MetadataError as error:
        raise MetadataError(f"Unable to read metadata from {config.local}: {error}.") from error
    if warning:
        log.warning("%s: %s", config.local, warning)
    if metadata.resource != config.name:
        raise MetadataError(f"Provider {config.local} is not part of resource {config.name}.")
    if metadata.localoff + metadata.datasize > size:
        raise MetadataError(
            f"{config.local} is {size} bytes, but its metadata describes "
            f"{metadata.localoff + metadata.datasize}: it was cut short. Give it its size back, "
            "or make it anew (hastctl create) to have everything copied from the other node."
        )
    return metadata


def _layout_of(metadata: Metadata) -> Layout:
    """The layout as the metadata gives it: a component may be larger than the disk on it (create -m, or it grew)."""
    layout = Layout(metadata.localoff + metadata.datasize, metadata.extentsize)
    if (layout.localoff, layout.datasize) != (metadata.localoff, metadata.datasize):
        raise MetadataError(
            f"Metadata does not fit together: data of {metadata.datasize} bytes at {metadata.localoff} "
            f"with extents of {metadata.extentsize}."
        )
    return layout


def create(
    config: ResourceConfig, *, extentsize: int, keepdirty: int, mediasize: int | None, force: bool = False
) -> None:
    """Makes an empty component (hastctl(8), create). Sizes in bytes; `mediasize` None: all of the component.

    A path that does not exist becomes a file of `mediasize`, with its space reserved. Raises BusyError while hastd
    uses the component, DataError for impossible sizes and, without `force`, for one that holds something else.
    """
    made = not os.path.lexists(config.local)
    if made:
        if mediasize is None:
            raise ComponentError(
                f"Unable to open {config.local}: No such file or directory. Give its size with -m to have it made."
            )
        check_geometry(mediasize, extentsize, keepdirty)
        _make_file(config.local, mediasize)
    fd = open_locked(config.local)
    try:
        available = media_size(fd, config.local)
        wanted = available if mediasize is None else mediasize
        if wanted > available:
            raise DataError(f"Provided mediasize is larger than provider {config.local} size.")
        check_geometry(wanted, extentsize, keepdirty)
        if not force and not made:
            _refuse_foreign(config, read_head(fd, config.local))
        _initialise(fd, config, Layout(wanted, extentsize), keepdirty)
    except OSError as error:
        raise ComponentError(f"Unable to write metadata to {config.local}: {error.strerror}.") from error
    finally:
        os.close(fd)


def _make_file(path: str, size: int) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ComponentError(f"Unable to create {path}: {error.strerror}.") from error
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.unlink(path)
        reason = "not enough space" if error.errno == errno.ENOSPC else error.strerror
        raise SystemFailure(f"Unable to reserve {size} bytes for {path}: {reason}.") from error
    finally:
        os.close(fd)


def _refuse_foreign(config: ResourceConfig, head: bytes) -> None:
    try:
        metadata, _ = choose(head[:COPY_SIZE], head[SECOND_COPY : SECOND_COPY + COPY_SIZE])
    except MetadataError:
        found = _probe(config.local)
        if found:
            raise DataError(f"{config.local} holds {found}. Use -f to overwrite it.") from None
    else:
        if metadata.resource != config.name:
            raise DataError(f"{config.local} holds resource {metadata.resource}. Use -f to overwrite it.")


def _probe(path: str) -> str:
    """What blkid(8) finds there ("" for nothing)."""
    try:
        result = subprocess.run(
            ["/usr/sbin/blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", path],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemFailure(f"Unable to look for a file system on {path} (blkid): {error}. Use -f to skip.") from error
    if result.returncode == 8:
        raise DataError(f"{path} holds signatures of several kinds. Use -f to overwrite it.")
    words = result.stdout.split()
    return f"a file system or partition table ({', '.join(words)})" if words else ""


def _initialise(fd: int, config: ResourceConfig, layout: Layout, keepdirty: int) -> None:
    # The map goes first: with an old map, valid metadata would describe a disk that never was.
    os.pwrite(fd, bytes(METADATA_SIZE), 0)
    os.fdatasync(fd)
    _write_zeros(fd, METADATA_SIZE, layout.mapsize)
    metadata = Metadata(
        resource=config.name,
        datasize=layout.datasize,
        extentsize=layout.extentsize,
        keepdirty=keepdirty,
        localoff=layout.localoff,
        resuid=0,
        localcnt=0,
        remotecnt=0,
        prevrole=Role.INIT,
        serial=1,
        generations=Generations(),
        consistency=Consistency.CONSISTENT,
    )
    os.fdatasync(fd)
    _write_metadata(fd, metadata)


def _write_metadata(fd: int, metadata: Metadata) -> None:
    block = encode(metadata)
    for position in (SECOND_COPY, 0):
        os.pwrite(fd, block, position)
        os.fdatasync(fd)


def _write_zeros(fd: int, position: int, length: int) -> None:
    chunk = bytes(1 << 20)
    end = position + length
    while position < end:
        position += os.pwrite(fd, chunk[: end - position], position)
