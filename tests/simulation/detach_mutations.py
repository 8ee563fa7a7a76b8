"""Mistakes that somebody could make in parting with a component: each breaks promise 8 of docs/architecture.md, or 1.

By name: the owner, what of it is replaced, and what makes the mistake of the original.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import trio

from hastfs.model import Consistency, Generations
from hastfs.protocol.replication import Request
from hastfs.resource.detaching import Detacher
from hastfs.resource.link import Link
from hastfs.resource.remotecache import RemoteCache
from hastfs.resource.secondary import Secondary
from hastfs.resource.writes import Write
from hastfs.volume import Done


def _do_not_tell(original: Callable[..., None]) -> Callable[..., None]:
    def state(
        self: Link, consistency: Consistency, generations: Generations, done: Done, *, detached: bool = False
    ) -> None:
        if detached:
            done(0)
        else:
            original(self, consistency, generations, done)

    return state


def _keep_no_map(_: object) -> Callable[..., None]:
    def mapped(self: Secondary, request: Request, start: Callable[[Done], None], done: Done) -> None:
        start(done)

    return mapped


def _acknowledge_without_a_copy(_: object) -> Callable[..., None]:
    def held_too_long(self: Write) -> None:
        self._replica.map.end_write(self._first, self._last, replicated=False)
        self._give_up(0)

    return held_too_long


def _overlook_failure(original: Callable[..., None]) -> Callable[..., None]:
    def local_done(self: Write, error: int) -> None:
        original(self, 0)

    return local_done


def _look_as_before(_: object) -> Callable[..., Generations]:
    """Neither the component nor the other node's generation tells which of the two is older."""

    async def mark_nothing() -> None:
        await trio.lowlevel.checkpoint()
        detacher._marked.set()

    detacher: Any = None

    def line(self: Any, link: Link) -> Generations:
        nonlocal detacher
        detacher = self
        self._mark_outdated = mark_nothing
        metadata = self._replica.metastore.metadata
        return link.generations or metadata.generations if self._replica.stale else metadata.generations.rejoined()

    return line


def _say_nothing(_: object) -> Callable[[RemoteCache], int]:
    return lambda self: 0


def _say_it_twice(original: Callable[[RemoteCache], int]) -> Callable[[RemoteCache], int]:
    said: set[RemoteCache] = set()

    def report(self: RemoteCache) -> int:
        error = original(self)
        again = self in said
        if error:
            said.add(self)
        else:
            said.discard(self)
        return errno.EIO if again else error

    return report


def _forget_the_worker_before(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, left=None: original(self)


DETACH_MUTATIONS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "the other node is not told that it is the only copy": (Link, "state", _do_not_tell),
    "no map of what only the other node has": (Secondary, "_mapped", _keep_no_map),
    "a write is acknowledged that no node has": (Write, "held_too_long", _acknowledge_without_a_copy),
    "a local write that failed counts as done": (Write, "_local_done", _overlook_failure),
    "a component that was parted with looks as before": (Detacher, "_line", _look_as_before),
    "nobody hears that the only good copy lost its cache": (RemoteCache, "report", _say_nothing),
    "two flushes fail for one lost cache": (RemoteCache, "report", _say_it_twice),
    "a worker does not know what the one before left in a cache": (
        RemoteCache,
        "__init__",
        _forget_the_worker_before,
    ),
}
