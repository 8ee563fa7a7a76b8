"""hastctl's side of the control socket. Every exchange has a bound in time."""

from __future__ import annotations

import math
import os
import select
import socket
import struct
import time
from collections.abc import Iterator

from hastfs.errors import ProtocolError, SystemFailure
from hastfs.news import Kind, News
from hastfs.protocol.answer import refusal
from hastfs.protocol.control import MAX_NV, Reply, Request
from hastfs.protocol.frame import FrameReader

_CREDENTIALS = struct.Struct("=3i")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""


class _ReaderGoneError(Exception):
    """Of what we write; a BrokenPipeError may be hastd's end too."""


class Client:
    """One connection to the daemon behind the control socket `path`; for one request."""

    def __init__(self, path: str, within: float, reader: int | None = None) -> None:
        """`within`: seconds until an answer must be there. `reader`: a descriptor that somebody reads the answers from;
        BrokenPipeError when he is gone. SystemFailure if there is no daemon.
        """
        self._path = path
        self._reader = reader
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
            reply = next(self._replies(request), None)
            if reply is None:
                raise ProtocolError("the connection was closed")
        except TimeoutError:
            raise SystemFailure(f"No answer from hastd via {self._path} within {self._within:g} s.") from None
        except (OSError, ProtocolError) as error:
            raise SystemFailure(f"No usable answer from hastd via {self._path}: {error}.") from error
        if reply.error:
            raise refusal(reply)
        return reply

    def listen(self, request: Request, timeout: float | None) -> Iterator[News]:
        """The news that hastd sends from now on; ends with the connection.

        `timeout`: seconds from the state on, None: for ever. Raises TimeoutError then, DaemonError if hastd refuses,
        SystemFailure if it does not tell the state in time.
        """
        told = False
        try:
            for reply in self._replies(request):
                if reply.error:
                    raise refusal(reply)
                if reply.news is None:
                    continue  # of a kind that is newer than we are
                if reply.news.kind is Kind.EXISTS and reply.news.resource is None:
                    told, self._deadline = True, math.inf if timeout is None else time.monotonic() + timeout
                yield reply.news
        except TimeoutError:
            if told:
                raise
            raise SystemFailure(f"No answer from hastd via {self._path} within {self._within:g} s.") from None
        except _ReaderGoneError:
            raise BrokenPipeError from None
        except (OSError, ProtocolError) as error:
            raise SystemFailure(f"No usable answer from hastd via {self._path}: {error}.") from error

    def _replies(self, request: Request) -> Iterator[Reply]:
        """Until the other side closes the connection."""
        self._limit()
        self._socket.sendall(b"".join(request.encode()))
        reader = FrameReader(MAX_NV, 0)
        while True:
            while (frame := reader.next()) is not None:
                yield Reply.decode(frame)
            self._limit()
            if self._reader is not None:
                self._wait_while_read(self._reader)
            count = self._socket.recv_into(reader.buffer())
            if not count:
                return
            reader.received(count)

    def _wait_while_read(self, reader: int) -> None:
        """Returns when there is something to receive: otherwise a reader that is gone would show with the next word."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(reader, 0)  # an error is told all the same
        left = self._deadline - time.monotonic()
        ready = dict(poll.poll(None if left == math.inf else max(0.0, left) * 1000))
        if reader in ready:
            raise _ReaderGoneError
        if not ready:
            raise TimeoutError

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(None if left == math.inf else left)


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
