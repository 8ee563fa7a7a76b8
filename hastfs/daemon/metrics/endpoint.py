"""The HTTP endpoint for Prometheus: GET /metrics and nothing else, one request per connection.

The addresses may be reachable for anybody: a client costs bounded memory, for a bounded time, and only so many are
served at once. What takes long (the text for hundreds of resources) is made by a thread.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Mapping

import h11
import trio

from hastfs.daemon.accepting import Accepting
from hastfs.daemon.managed import ManagedResource
from hastfs.details import Details
from hastfs.errors import plain

log = logging.getLogger(__name__)

SERVED_WITHIN = 10.0
"""Seconds for a client to ask, and to take the answer: Prometheus's own patience."""

MAX_CLIENTS = 16
"""At once; others are turned away."""

_LARGEST_REQUEST = 8192  # bytes of its head
_RECEIVE = 4096
_PLAIN = "text/plain; charset=utf-8"


class Endpoint:
    """Serves the metrics of `resources` while `run` is running."""

    def __init__(self, resources: Mapping[str, ManagedResource]) -> None:
        self._resources = resources
        self._accepting = Accepting(self._serve)
        self._clients = 0
        self._looking = trio.Lock()

    async def run(self, sockets: Collection[socket.socket]) -> None:
        """Runs until cancelled; closes the sockets."""
        await self._accepting.run(sockets)

    def listen_on(self, sockets: Collection[socket.socket]) -> None:
        """On these from now on, and no others."""
        self._accepting.listen_on(sockets)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self._clients >= MAX_CLIENTS:
                return
            self._clients += 1
            try:
                with trio.move_on_after(SERVED_WITHIN):
                    await self._serve_one(stream)
            except Exception as error:  # whatever it is, hastd has more important things to do
                gone = isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError)
                log.log(logging.DEBUG if gone else logging.ERROR, "Unable to tell metrics: %s", plain(error))
            finally:
                self._clients -= 1

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_REQUEST)
        try:
            request = await _request(connection, stream)
        except h11.RemoteProtocolError as error:
            await _answer(connection, stream, error.error_status_hint, f"{error}\n".encode())
            return
        if request is None:
            return
        head = request.method == b"HEAD"
        if request.target.partition(b"?")[0] != b"/metrics":
            await _answer(connection, stream, 404, b"Only /metrics is here.\n", head=head)
        elif request.method != b"GET" and not head:
            await _answer(connection, stream, 405, b"Only GET is served.\n", {"Allow": "GET, HEAD"})
        else:
            accept = b",".join(value for name, value in request.headers if name == b"accept")
            text, content_type = await self._look(accept.decode("latin-1"))
            await _answer(connection, stream, 200, text, {"Content-Type": content_type}, head=head)

    async def _look(self, accept: str) -> tuple[bytes, str]:
        """One look at a time: whoever asks more often than that waits."""
        async with self._looking:
            began = trio.current_time()
            seen = await look_at_all(self._resources)
            took = trio.current_time() - began
            return await trio.to_thread.run_sync(_exposition, seen, took, accept)


async def look_at_all(resources: Mapping[str, ManagedResource]) -> dict[str, Details]:
    """At the same time: all of it is as bounded as one is. In the resources' order."""
    found: dict[str, Details] = {}

    async def look(name: str, resource: ManagedResource) -> None:
        found[name] = await resource.details()

    names = list(resources)
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(look, name, resources[name])
    return {name: found[name] for name in names}


def _exposition(seen: Mapping[str, Details], took: float, accept: str) -> tuple[bytes, str]:
    from hastfs.daemon.metrics.exposition import exposition  # noqa: PLC0415 - slow to load: by this thread

    return exposition(seen, took, accept)


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """None if the client goes away. Raises h11.RemoteProtocolError for what is no HTTP. A body is not looked at."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(_RECEIVE))
        elif isinstance(event, h11.Request):
            return event
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


async def _answer(
    connection: h11.Connection,
    stream: trio.SocketStream,
    status: int,
    text: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    head: bool = False,
) -> None:
    found = {"Content-Type": _PLAIN, "Content-Length": str(len(text)), "Connection": "close"} | dict(headers or {})
    data = connection.send(h11.Response(status_code=status, headers=list(found.items()))) or b""
    if not head:
        data += connection.send(h11.Data(text)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)
