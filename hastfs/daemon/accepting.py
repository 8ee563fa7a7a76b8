"""Serving what connects to listening sockets, which may be others from one moment to the next."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection

import trio


class Accepting:
    """Runs `serve` for every connection while `run` is running."""

    def __init__(self, serve: Callable[[trio.SocketStream], Awaitable[object]]) -> None:
        self._serve = serve
        self._nursery: trio.Nursery
        self._open: dict[socket.socket, trio.CancelScope] = {}

    async def run(self, sockets: Collection[socket.socket]) -> None:
        """Runs until cancelled; closes the sockets."""
        async with trio.open_nursery() as self._nursery:
            self.listen_on(sockets)
            await trio.sleep_forever()

    def listen_on(self, sockets: Collection[socket.socket]) -> None:
        """On these from now on. Others are closed soon; connections that came in over them go on."""
        for gone in self._open.keys() - set(sockets):
            self._open.pop(gone).cancel()
        for new in set(sockets) - self._open.keys():
            self._open[new] = trio.CancelScope()
            self._nursery.start_soon(self._accept, new, self._open[new])

    async def _accept(self, sock: socket.socket, scope: trio.CancelScope) -> None:
        with scope:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            await trio.serve_listeners(self._serve, [listener], handler_nursery=self._nursery)
