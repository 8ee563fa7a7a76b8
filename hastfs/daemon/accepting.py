"""Serving what connects to listening sockets, which may be others from one moment to the next."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection

import trio


class _Door(trio.abc.Listener[trio.SocketStream]):
    """A listening socket that can be shut: whoever connects then waits in its backlog."""

    def __init__(self, sock: socket.socket) -> None:
        self.scope = trio.CancelScope()
        """Of all that is done at this door."""
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        self._accepting = trio.CancelScope()
        self._opened = trio.Event()
        self._opened.set()

    def shut(self) -> None:
        self._opened = trio.Event()
        self._accepting.cancel()

    def open(self) -> None:
        self._opened.set()

    async def accept(self) -> trio.SocketStream:
        while True:
            await self._opened.wait()
            with trio.CancelScope() as self._accepting:
                return await self._listener.accept()

    async def aclose(self) -> None:
        await self._listener.aclose()


class Accepting:
    """Runs `serve` for every connection while `run` is running."""

    def __init__(self, serve: Callable[[trio.SocketStream], Awaitable[object]]) -> None:
        self._serve = serve
        self._nursery: trio.Nursery
        self._doors: dict[socket.socket, _Door] = {}

    async def run(self, sockets: Collection[socket.socket]) -> None:
        """Runs until cancelled; closes the sockets."""
        async with trio.open_nursery() as self._nursery:
            self.listen_on(sockets)
            await trio.sleep_forever()

    def listen_on(self, sockets: Collection[socket.socket]) -> None:
        """On these from now on. Others are closed soon; connections that came in over them go on."""
        for gone in self._doors.keys() - set(sockets):
            self._doors.pop(gone).scope.cancel()
        for new in set(sockets) - self._doors.keys():
            self._doors[new] = _Door(new)
            self._nursery.start_soon(self._accept, self._doors[new])

    def pause(self) -> None:
        """Nobody is let in until `resume`; whoever connects meanwhile waits."""
        for door in self._doors.values():
            door.shut()

    def resume(self) -> None:
        for door in self._doors.values():
            door.open()

    async def _accept(self, door: _Door) -> None:
        with door.scope:
            await trio.serve_listeners(self._serve, [door], handler_nursery=self._nursery)
