"""Requests to hastd over its control socket. Each has a connection of its own, and a bound in time."""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import trio

from hastfs.config import files
from hastfs.config.schema import DEFAULT_PATH, Config
from hastfs.details import Details
from hastfs.errors import DataError, NotYet, ProtocolError, SystemFailure, plain
from hastfs.frontend import usable
from hastfs.goal import READY_WITHIN, Goal
from hastfs.model import Role
from hastfs.news import Kind, News, Picture
from hastfs.protocol.answer import check_each, refusal
from hastfs.protocol.control import ALL, MAX_NV, ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import FrameReader

STATUS_WITHIN = 10.0
"""Seconds; hastd gives its workers 2."""

STATE_WITHIN = 30.0
"""Seconds until the first events: another version may just be taking over."""

CHANGE_WITHIN = 200.0
"""Seconds until a request that changes something must be answered. hastd has its own bounds below, which depend on
the `timeout` of the resources; this one is for a hastd that hangs.
"""

ENDS_WITHIN = 30.0
"""Seconds from hastd's answer to its end: hooks may still be running."""

_CREDENTIALS = struct.Struct("=3i")  # struct ucred (unix(7), SO_PEERCRED)


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
    if control is None:
        config = await trio.to_thread.run_sync(files.load, path)
        yield Client(config.control, path)
    else:
        yield Client(control, path)


class Client:
    """Made by `connect`. Names are those of resources; none means all of them.

    Every request raises SystemFailure if there is no hastd, or no answer from it in time, and DaemonError if hastd
    refuses it: ResourcesRefused if that is for some resources' sake, after the others did as they were told.
    """

    def __init__(self, control: str, path: str) -> None:
        self._control = control
        self._path = path

    async def status(self, *names: str, cells: int = 0) -> list[Resource]:
        """One look at each. What is wrong with one of them is in its `error`, and is not raised.

        `cells`: how many parts `Details.dirty_map` is wanted in.
        """
        request = Request(ControlCommand.STATUS, resources=names or (ALL,), details=True, cells=cells)
        return [_resource(status) for status in (await self._ask(request, STATUS_WITHIN)).resources]

    async def set_role(
        self, role: Role | str, *names: str, force: bool = False, wait: bool = False, timeout: float = READY_WITHIN
    ) -> dict[str, Role]:
        """Returns the roles before, by name, when the new one is had. At least one name; `all` is one.

        `force`: even if the disk is in use. `wait`: returns only when applications can use a primary's disk, and when
        a secondary has met its primary; NotYet if that is not so after `timeout` more seconds. DataError for a word
        that is no role.
        """
        wanted = _role(role) if isinstance(role, str) else role
        reply = await self._ask(Request(ControlCommand.SETROLE, wanted, force, names), CHANGE_WITHIN)
        check_each(reply)
        before = {resource.resource: Role.from_word(resource.role or "init") for resource in reply.resources}
        goal = Goal.of_role(wanted)
        if wait and goal is not None and before:
            until = trio.current_time() + timeout
            await self.wait(goal, *before, timeout=timeout)
            if goal is Goal.USABLE:
                await self._check_usable(list(before), until)
        return before

    async def wait(self, goal: Goal | str, *names: str, timeout: float | None = None) -> None:
        """Returns when it is so of all of them at the same time.

        Raises NotYet after `timeout` seconds (0: only the state of now counts), DataError for a word that is no goal or
        a name that hast.conf does not have, SystemFailure if hastd ends.
        """
        wanted = _goal(goal) if isinstance(goal, str) else goal
        names = () if names == (ALL,) else names
        picture = Picture(names)
        limit = trio.CancelScope()
        with limit:
            async with aclosing(self.events(*names)) as events:
                async for news in events:
                    whole = picture.whole
                    picture.take(news)
                    if picture.unknown():
                        raise DataError(f"Unknown resource {picture.unknown()[0]}.")
                    if picture.whole and not wanted.missing(picture):
                        return
                    if picture.whole and not whole and timeout is not None and limit.deadline == math.inf:
                        limit.deadline = trio.current_time() + timeout
            raise SystemFailure("hastd has stopped.")
        raise NotYet(f"Not {wanted.value} within {timeout:g} s: {', '.join(wanted.missing(picture))}.")

    async def events(self, *names: str, now: bool = False) -> AsyncGenerator[News, None]:
        """The state (`Kind.EXISTS`, one for each resource, and one without a resource as its end), and then whatever is
        new, until hastd ends in order. After `Kind.MISSED` comes the state again: hastd was upgraded, or we were slow.

        `now`: only the state. SystemFailure if hastd vanishes without a word.
        """
        again = True
        first = True
        while again:
            if not first:
                yield News(time.time(), Kind.MISSED)
            first = again = False
            last: News | None = None
            async with aclosing(self._listen(names)) as stream:
                async for last in stream:
                    if last.kind is Kind.END:
                        again = last.facts.get("reason") == "upgrade"
                        break
                    yield last
                    if now and last.kind is Kind.EXISTS and last.resource is None:
                        return
            if last is None or last.kind is not Kind.END:
                raise SystemFailure(f"hastd behind {self._control} is gone.")

    async def attach(self, *names: str) -> None:
        """Has resources use their components again, after these failed and were repaired. At least one name."""
        check_each(await self._ask(Request(ControlCommand.ATTACH, resources=names), CHANGE_WITHIN))

    async def reload(self, *, force: bool = False) -> None:
        """Has hastd read its hast.conf again; returns when that is in force."""
        await self._ask(Request(ControlCommand.RELOAD, force=force), CHANGE_WITHIN)

    async def stop(self, *, force: bool = False) -> None:
        """Ends hastd in order, and returns when it is gone."""
        async with await self._open() as stream:
            pidfd = _pidfd_of_peer(stream)
            try:
                await self._ask_over(stream, Request(ControlCommand.STOP, force=force), CHANGE_WITHIN)
                with trio.move_on_after(ENDS_WITHIN):
                    await trio.lowlevel.wait_readable(pidfd)
                    return
            finally:
                os.close(pidfd)
        raise SystemFailure(f"hastd is out of service, but does not end within {ENDS_WITHIN:g} s.")

    async def _check_usable(self, names: list[str], until: float) -> None:
        config: Config = await trio.to_thread.run_sync(files.load, self._path)
        for name in names:
            within = max(0.0, until - trio.current_time())
            await trio.to_thread.run_sync(usable.check, config.resource(name), config.mountdir, within)

    async def _ask(self, request: Request, within: float) -> Reply:
        async with await self._open() as stream:
            return await self._ask_over(stream, request, within)

    async def _ask_over(self, stream: trio.SocketStream, request: Request, within: float) -> Reply:
        with trio.move_on_after(within):
            async with aclosing(self._replies(stream, request)) as replies:
                async for reply in replies:
                    if reply.error:
                        raise refusal(reply)
                    return reply
            raise SystemFailure(f"No usable answer from hastd via {self._control}: the connection was closed.")
        raise SystemFailure(f"No answer from hastd via {self._control} within {within:g} s.")

    async def _listen(self, names: tuple[str, ...]) -> AsyncGenerator[News, None]:
        """What comes over one connection."""
        request = Request(ControlCommand.EVENTS, resources=names or (ALL,))
        async with await self._open() as stream, aclosing(self._replies(stream, request)) as replies:
            with trio.move_on_after(STATE_WITHIN) as patience:
                reply = await anext(replies, None)
            if patience.cancelled_caught:
                raise SystemFailure(f"No answer from hastd via {self._control} within {STATE_WITHIN:g} s.")
            while reply is not None:
                if reply.error:
                    raise refusal(reply)
                if reply.news is not None:  # otherwise of a kind that is newer than we are
                    yield reply.news
                reply = await anext(replies, None)

    async def _replies(self, stream: trio.SocketStream, request: Request) -> AsyncGenerator[Reply, None]:
        """Until hastd closes the connection."""
        reader = FrameReader(MAX_NV, 0)
        try:
            await stream.send_all(b"".join(request.encode()))
            while True:
                while (frame := reader.next()) is not None:
                    yield Reply.decode(frame)
                count = await stream.socket.recv_into(reader.buffer())
                if not count:
                    return
                reader.received(count)
        except (OSError, trio.BrokenResourceError, ProtocolError) as error:
            raise SystemFailure(f"No usable answer from hastd via {self._control}: {plain(error)}.") from error

    async def _open(self) -> trio.SocketStream:
        try:
            return await trio.open_unix_socket(self._control)
        except OSError as error:
            raise SystemFailure(f"Unable to connect to hastd via {self._control}: {plain(error)}.") from error


def _role(word: str) -> Role:
    try:
        return Role.from_word(word)
    except ValueError:
        raise DataError(f"Unknown role {word}: init, primary or secondary.") from None


def _goal(word: str) -> Goal:
    if word not in Goal.words():
        raise DataError(f"Unknown goal {word}: {', '.join(Goal.words())}.")
    return Goal(word)


def _pidfd_of_peer(stream: trio.SocketStream) -> int:
    data = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    try:
        return os.pidfd_open(_CREDENTIALS.unpack(data)[0])
    except OSError as error:
        raise SystemFailure("hastd is gone.") from error


def _resource(status: ResourceStatus) -> Resource:
    return Resource(status.resource, status.error, status.errmsg, status, status.details or Details())
