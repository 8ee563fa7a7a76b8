"""Datagrams to whoever keeps the log, who may hang, or keep it on one of our disks: nothing waits for it for long."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

PATIENCE = 0.2
"""Seconds that a datagram waits until there is room for it. Those after one that found none do not wait at all, until
one of them finds room."""

_TIMEVAL = struct.Struct("@ll")


class Datagrams:
    """By name each time: who reads may be another one by now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A timeout of Python's would spin: to poll(2), a socket that is not connected always has room.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(0, round(PATIENCE * 1e6)))

    def send(self, data: bytes, ancillary: Iterable[tuple[int, int, bytes]] = ()) -> None:
        """Raises OSError; BlockingIOError if there is no room."""
        try:
            self._socket.sendmsg([data], ancillary, 0, self._path)
        except BlockingIOError:
            self._socket.setblocking(False)
            raise
        self._socket.setblocking(True)

    def close(self) -> None:
        self._socket.close()
