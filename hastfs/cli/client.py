"""hastctl's side of the control socket. Every exchange has a bound in time."""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from hastfs.errors import ProtocolError, SystemFailure
from hastfs.protocol.answer import refusal
from hastfs.protocol.control import MAX_NV, Reply, Request
from hastfs.protocol.frame import Frame, FrameReader

_CREDENTIALS = struct.Struct("=3i")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""


class Client:
    """One connection to the daemon behind the control socket `path`; for one request."""

    def __init__(self, path: str, within: float) -> None:
        """`within`: seconds until an answer must be there. SystemFailure if there is no daemon."""
        self._path = path
        self._within = within
        self._deadline = time.monotonic() + within
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._limit()
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise SystemFailure(f"Unable to connect to hastd via {path}: {error.strerror or error}.") from error

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def daemon_pid(self) -> int:
        """Of the process that listens on the socket."""
        data = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(data)[0]
        return pid

    def ask(self, request: Request) -> Reply:
        """Raises DaemonError if the request as a whole failed, SystemFailure if there is no answer."""
        try:
            self._limit()
            self._socket.sendall(b"".join(request.encode()))
            reply = Reply.decode(self._receive())
        except TimeoutError:
            raise SystemFailure(f"No answer from hastd via {self._path} within {self._within:g} s.") from None
        except (OSError, ProtocolError) as error:
            raise SystemFailure(f"No usable answer from hastd via {self._path}: {error}.") from error
        if reply.error:
            raise refusal(reply)
        return reply

    def _receive(self) -> Frame:
        reader = FrameReader(MAX_NV, 0)
        while (frame := reader.next()) is None:
            self._limit()
            count = self._socket.recv_into(reader.buffer())
            if not count:
                raise ProtocolError("the connection was closed")
            reader.received(count)
        return frame

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def wait_for_end(pid: int, within: float) -> bool:
    """Waits until the process is gone; False if it still is there after `within` seconds."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(within * 1000))
    finally:
        os.close(pidfd)
