"""The seam between a frontend and whatever keeps the data: what a disk can do.

Everything is asked by call and answered by callback, so that a request costs neither a task nor a thread hop. A
callback may be called before the asking call returns. All of it happens on the trio thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

ReadDone: TypeAlias = Callable[[int, Buffer], None]
"""Called with (errno or 0, the data; empty on error). The data is only valid during the call."""

Done: TypeAlias = Callable[[int], None]
"""Called with errno, or 0 for success."""


class Volume(Protocol):
    """A disk of `size` bytes. Offsets and lengths are bytes and need not be aligned; the caller keeps them inside."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int, done: ReadDone) -> None: ...

    def write(self, offset: int, data: Buffer, done: Done) -> None:
        """`data` never changes while somebody holds it: it need not be copied to outlive the call."""

    def flush(self, done: Done) -> None:
        """`done(0)`: every write that was answered before this call survives a power loss."""

    def discard(self, offset: int, length: int, done: Done, *, allocated: bool = False) -> None:
        """The range reads as zeros afterwards. `allocated`: its space should stay reserved (zero, not punch)."""

    def submit(self) -> None:
        """End of a batch of calls: what was queued for others (the network) is sent now."""
