"""Requests to hastd over its control socket. Each has a connection of its own, and a bound in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hastfs.config import files
from hastfs.config.schema import DEFAULT_PATH
from hastfs.details import Details
from hastfs.errors import ProtocolError, SystemFailure, plain
from hastfs.protocol.answer import refusal
from hastfs.protocol.control import ALL, MAX_NV, ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import Frame, FrameReader

STATUS_WITHIN = 10.0
"""Seconds; hastd gives its workers 2."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One look at a resource. With an `error` (`hastctl`'s exit code for it) the rest may be missing."""

    name: str
    error: int
    errmsg: str | None
    status: ResourceStatus
    """What the original has to say of it too: paths, sizes, statistics."""
    details: Details


@asynccontextmanager
async def connect(path: str = DEFAULT_PATH, control: str | None = None) -> AsyncIterator[Client]:
    """A client of the hastd that `path`, a hast.conf, is about, or of the one behind the control socket `control`.

    Raises ConfigMissing or ConfigError for the file. Each request connects by itself: whether hastd runs shows then,
    and it may have been started anew between two of them.
    """
    yield Client((await trio.to_thread.run_sync(files.load, path)).control if control is None else control)


class Client:
    """Made by `connect`. Every request raises SystemFailure if there is no hastd, or no answer from it in time."""

    def __init__(self, control: str) -> None:
        self._control = control

    async def status(self, *names: str, cells: int = 0) -> list[Resource]:
        """One look at each of them, at all without names. `cells`: parts that `Details.dirty_map` is wanted in."""
        request = Request(ControlCommand.STATUS, resources=names or (ALL,), details=True, cells=cells)
        reply = await self._ask(request, STATUS_WITHIN)
        return [_resource(status) for status in reply.resources]

    async def _ask(self, request: Request, within: float) -> Reply:
        try:
            with trio.fail_after(within):
                async with await self._open() as stream:
                    await stream.send_all(b"".join(request.encode()))
                    reply = Reply.decode(await _receive(stream))
        except trio.TooSlowError:
            raise SystemFailure(f"No answer from hastd via {self._control} within {within:g} s.") from None
        except (OSError, trio.BrokenResourceError, ProtocolError) as error:
            raise SystemFailure(f"No usable answer from hastd via {self._control}: {plain(error)}.") from error
        if reply.error:
            raise refusal(reply)
        return reply

    async def _open(self) -> trio.SocketStream:
        try:
            return await trio.open_unix_socket(self._control)
        except OSError as error:
            raise SystemFailure(f"Unable to connect to hastd via {self._control}: {plain(error)}.") from error


async def _receive(stream: trio.SocketStream) -> Frame:
    reader = FrameReader(MAX_NV, 0)
    while (frame := reader.next()) is None:
        count = await stream.socket.recv_into(reader.buffer())
        if not count:
            raise ProtocolError("the connection was closed")
        reader.received(count)
    return frame


def _resource(status: ResourceStatus) -> Resource:
    return Resource(status.resource, status.error, status.errmsg, status, status.details or Details())
