"""The control socket: one request per connection, answered in bounded time, each by a task of its own.

Only who asks for events is told for as long as it listens.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
from functools import partial
from typing import Protocol

import trio

from hastfs.daemon import messages
from hastfs.daemon.accepting import Accepting
from hastfs.daemon.newsroom import Listener, Newsroom
from hastfs.daemon.workers import first
from hastfs.errors import BusyError, HastError, ProtocolError, plain
from hastfs.news import Kind
from hastfs.protocol.control import ALL, ControlCommand, ControlError, Reply, Request
from hastfs.protocol.frame import Frame

log = logging.getLogger(__name__)

REQUEST_WITHIN = 5.0
"""Seconds a client has to send its request, and to take the reply."""

MAX_REQUEST = 1024 * 1024
"""Bytes of a request: some thousand resources by name."""

MAX_CLIENTS = 64
"""At once; the socket is only open to root."""


class Controlled(Protocol):
    """What a request can ask for; `Supervisor` does it. HastErrors become the reply's error."""

    async def set_role(self, request: Request) -> Reply: ...

    async def status(self, request: Request) -> Reply: ...

    async def log_level(self, request: Request) -> Reply:
        """Says, or changes, what is logged."""

    async def reload(self, request: Request) -> Reply:
        """Reads the configuration again."""

    async def attach(self, request: Request) -> Reply:
        """Uses components again that failed."""

    async def upgrade(self, client: int) -> Reply:
        """Goes on as the program that is installed now, which answers on the descriptor `client`: returns never."""

    async def stop(self, request: Request) -> Reply:
        """Puts all resources out of service; the daemon ends when `end` is called."""

    def end(self) -> None:
        """Called when the client knows the answer to its stop."""


class ControlServer:
    """Serves hastctl while `run` is running."""

    def __init__(self, controlled: Controlled, newsroom: Newsroom) -> None:
        self._controlled = controlled
        self._newsroom = newsroom
        self._orders = {
            ControlCommand.SETROLE: controlled.set_role,
            ControlCommand.STATUS: controlled.status,
            ControlCommand.RELOAD: controlled.reload,
            ControlCommand.ATTACH: controlled.attach,
            ControlCommand.STOP: controlled.stop,
            ControlCommand.LOGLEVEL: controlled.log_level,
        }
        self._accepting = Accepting(self._serve)
        self._places = trio.Semaphore(MAX_CLIENTS)
        self._clients = 0
        self._one_less = trio.Event()

    async def run(self, listener: socket.socket) -> None:
        """Runs until cancelled; closes the socket."""
        await self._accepting.run([listener])

    def listen_on(self, listener: socket.socket) -> None:
        """On this one from now on; who came over the one before still gets an answer."""
        self._accepting.listen_on([listener])

    def pause(self) -> None:
        """Nobody is let in until `resume`; whoever connects meanwhile waits."""
        self._accepting.pause()

    def resume(self) -> None:
        self._accepting.resume()

    async def alone(self) -> None:
        """For the request of one client: returns when there are no others."""
        while self._clients > 1:
            await self._one_less.wait()

    async def dismiss(self, reason: str) -> None:
        """Who listens is told why there is no more to come; returns when all know it, or do not want to."""
        await self._newsroom.end(reason)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            self._clients += 1
            try:
                async with self._places:
                    listens = await self._serve_one(stream)
            finally:
                self._clients -= 1
                self._one_less.set()
                self._one_less = trio.Event()
            if listens is not None:  # For as long as it likes: nobody waits for it, and its place is free.
                await self._tell(stream.socket, listens.resources)

    async def _serve_one(self, stream: trio.SocketStream) -> Request | None:
        """The request if its client wants to listen; all others are done with."""
        try:
            with trio.fail_after(REQUEST_WITHIN):
                frame = await messages.receive_only(stream.socket, MAX_REQUEST)
            return await self._answer(stream.socket, frame)
        except trio.TooSlowError:
            log.warning("Control connection closed: the client is too slow.")
        except (ProtocolError, OSError) as error:
            log.warning("Control connection closed: %s", plain(error))
        return None

    async def _tell(self, sock: trio.socket.SocketType, names: tuple[str, ...]) -> None:
        """Until the client leaves, or until there is no more to come."""
        try:
            async with self._newsroom.listening(() if names == (ALL,) else names) as listener:
                await first(partial(self._pass_on, listener, sock), partial(_left, sock))
        except BusyError as error:
            with contextlib.suppress(trio.TooSlowError, OSError):
                await messages.send(sock, Reply(error.exit_code, str(error)).encode(), REQUEST_WITHIN)

    async def _pass_on(self, listener: Listener, sock: trio.socket.SocketType) -> None:
        with contextlib.suppress(OSError):
            while True:
                await listener.wait()
                for news in self._newsroom.take(listener):
                    await messages.send(sock, Reply(news=news).encode(), math.inf)
                    if news.kind is Kind.END:
                        return

    async def _answer(self, sock: trio.socket.SocketType, frame: Frame) -> Request | None:
        """As `_serve_one`."""
        request: Request | None = None
        try:
            request = Request.decode(frame)
            if request.command is ControlCommand.EVENTS:
                return request
            reply = await self._carry_out(request, sock.fileno())
        except ControlError as error:
            reply = Reply(error.code, str(error))
        stopped = request is not None and request.command is ControlCommand.STOP and not reply.error
        try:
            await messages.send(sock, reply.encode(), REQUEST_WITHIN)
        finally:
            if stopped:
                self._controlled.end()
        return None

    async def _carry_out(self, request: Request, client: int) -> Reply:
        try:
            if request.command is ControlCommand.UPGRADE:
                return await self._controlled.upgrade(client)
            return await self._orders[request.command](request)
        except ControlError:
            raise
        except HastError as error:
            return Reply(error.exit_code, str(error))


async def _left(sock: trio.socket.SocketType) -> None:
    """Returns when the client is gone; it has nothing to say any more."""
    with contextlib.suppress(OSError):
        await sock.recv(1)
