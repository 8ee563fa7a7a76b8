"""The control socket: one request per connection, answered in bounded time, each by a task of its own."""

from __future__ import annotations

import logging
import socket
from typing import Protocol

import trio

from hastfs.daemon import messages
from hastfs.daemon.accepting import Accepting
from hastfs.errors import HastError, ProtocolError, plain
from hastfs.protocol.control import ControlCommand, ControlError, Reply, Request
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

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._orders = {
            ControlCommand.SETROLE: controlled.set_role,
            ControlCommand.STATUS: controlled.status,
            ControlCommand.RELOAD: controlled.reload,
            ControlCommand.ATTACH: controlled.attach,
            ControlCommand.STOP: controlled.stop,
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

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            self._clients += 1
            try:
                async with self._places:
                    await self._serve_one(stream)
            finally:
                self._clients -= 1
                self._one_less.set()
                self._one_less = trio.Event()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        try:
            with trio.fail_after(REQUEST_WITHIN):
                frame = await messages.receive_only(stream.socket, MAX_REQUEST)
            await self._answer(stream.socket, frame)
        except trio.TooSlowError:
            log.warning("Control connection closed: the client is too slow.")
        except (ProtocolError, OSError) as error:
            log.warning("Control connection closed: %s", plain(error))

    async def _answer(self, sock: trio.socket.SocketType, frame: Frame) -> None:
        request: Request | None = None
        try:
            request = Request.decode(frame)
            reply = await self._carry_out(request, sock.fileno())
        except ControlError as error:
            reply = Reply(error.code, str(error))
        stopped = request is not None and request.command is ControlCommand.STOP and not reply.error
        try:
            await messages.send(sock, reply.encode(), REQUEST_WITHIN)
        finally:
            if stopped:
                self._controlled.end()

    async def _carry_out(self, request: Request, client: int) -> Reply:
        try:
            if request.command is ControlCommand.UPGRADE:
                return await self._controlled.upgrade(client)
            return await self._orders[request.command](request)
        except ControlError:
            raise
        except HastError as error:
            return Reply(error.exit_code, str(error))
