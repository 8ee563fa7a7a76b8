"""Tells whoever listens what is new of the resources (`hastctl events`), as long as somebody does.

Resources are looked at when they say that something happened, and once a second besides for what nobody says: progress
of a resync, bytes behind. What a listener has not taken waits here, up to a bound: beyond that all of it is forgotten,
and the listener is told so and gets the state anew.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio

from hastfs.details import Details
from hastfs.errors import BusyError
from hastfs.news import Fact, Kind, News, differences, facts
from hastfs.resource.events import Event

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at a resource of which nothing is heard, and between two news of mere progress."""

MAX_WAITING: Final = 1000
"""News of a listener who does not take them; the state of all resources, once, is not counted."""

MAX_LISTENERS: Final = 64
"""At once."""

ENDS_WITHIN: Final = 1.0
"""Seconds that listeners have to take what is left for them when there will be no more."""

_PROGRESS: Final = frozenset({"behind", "sync_total", "sync_left", "sync_rate", "sync_eta"})


class Watched(Protocol):
    """What is needed of a `ManagedResource`."""

    async def details(self, cells: int = 0) -> Details:
        """In bounded time; never raises."""


class Listener:
    """One that is told, by calls of `take`."""

    def __init__(self, names: Collection[str]) -> None:
        """`names`: empty for all, also for those to come."""
        self.missed = False
        """Something was forgotten: the state is due."""
        self.gone = trio.Event()
        self._names = frozenset(names)
        self._begun = False
        self._waiting: list[News] = []
        self._more = trio.Event()

    def concerns(self, name: str) -> bool:
        return not self._names or name in self._names

    def tell(self, news: News) -> None:
        """Never waits. What is too much is forgotten, with all that waits."""
        if not self._begun or self.missed:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(news)
        else:
            self._waiting.clear()
            self.missed = True
        self._more.set()

    def show(self, state: Iterable[News]) -> None:
        """However much it is."""
        self._begun, self.missed = True, False
        self._waiting.extend(state)
        self._more.set()

    async def wait(self) -> None:
        """Returns when there is something to take."""
        await self._more.wait()

    def take(self) -> list[News]:
        """All that waits."""
        taken, self._waiting, self._more = self._waiting, [], trio.Event()
        return taken


class Newsroom:
    """Works while `run` is running."""

    def __init__(self, resources: Callable[[], Mapping[str, Watched]]) -> None:
        """`resources`: those that there are at the time, by name."""
        self._get_resources = resources
        self._listeners: set[Listener] = set()
        self._known: dict[str, dict[str, Fact]] = {}
        self._told_at: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._newest: dict[str, int] = {}  # The number of the look that `_known` comes from.
        self._touched: set[str] = set()
        self._looking: set[str] = set()
        self._wake = trio.Event()

    @property
    def _resources(self) -> Mapping[str, Watched]:
        return self._get_resources()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            next_look = math.inf
            while True:
                with trio.move_on_at(next_look):
                    await self._wake.wait()
                self._wake = trio.Event()
                if not self._listeners:
                    next_look = math.inf
                    continue
                if trio.current_time() >= next_look or next_look == math.inf:
                    next_look = trio.current_time() + LOOK_EVERY
                    self._touched.update(self._resources)
                self._say_what_was_removed()
                # Those that are being looked at stay touched: their turn comes again.
                for name in self._touched - self._looking:
                    self._looking.add(name)
                    nursery.start_soon(self._look_while_touched, name)

    # -- what resources and supervisor say ---------------------------------------------------------------------------

    def happened(self, name: str, event: Event | None = None) -> None:
        """Something has a name that people know, or just may have changed."""
        if not self._listeners:
            return
        if event is not None:
            self._publish(News(time.time(), Kind.CALL, name, {"happening": event.value}))
        self._touched.add(name)
        self._wake.set()

    def configured(self) -> None:
        """There may be other resources than before."""
        self._touched.update(self._resources)
        self._wake.set()

    async def end(self, reason: str) -> None:
        """Tells all that there will be no more, and returns when they know it, or after `ENDS_WITHIN`."""
        for listener in self._listeners:
            listener.show([News(time.time(), Kind.END, None, {"reason": reason})])
        with trio.move_on_after(ENDS_WITHIN):
            for listener in tuple(self._listeners):
                await listener.gone.wait()

    # -- listeners -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def listening(self, names: Collection[str]) -> AsyncIterator[Listener]:
        """The first it takes is the state, as it is now. `names`: as for `Listener`. BusyError if too many listen."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise BusyError(f"{MAX_LISTENERS} programs listen to hastd already.")
        listener = Listener(names)
        self._listeners.add(listener)
        self._wake.set()
        try:
            async with trio.open_nursery() as nursery:
                for name in filter(listener.concerns, self._resources):
                    nursery.start_soon(self._look, name)
            listener.show(self._state(listener))
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.gone.set()
            if not self._listeners:
                self._known.clear()
                self._touched.clear()

    def take(self, listener: Listener) -> Sequence[News]:
        """What is new to it."""
        if listener.missed:
            listener.show([News(time.time(), Kind.MISSED), *self._state(listener)])
        return listener.take()

    def _state(self, listener: Listener) -> list[News]:
        now = time.time()
        known = ((name, self._known[name]) for name in self._resources if name in self._known)
        state = [News(now, Kind.EXISTS, name, dict(about)) for name, about in known if listener.concerns(name)]
        return [*state, News(now, Kind.EXISTS)]

    def _publish(self, news: News) -> None:
        for listener in self._listeners:
            if news.resource is None or listener.concerns(news.resource):
                listener.tell(news)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _look_while_touched(self, name: str) -> None:
        try:
            while name in self._touched:
                self._touched.discard(name)
                await self._look(name)
        finally:
            self._looking.discard(name)

    async def _look(self, name: str) -> None:
        """Returns when what is known is not older than this call."""
        resource = self._resources.get(name)
        if resource is None or not any(listener.concerns(name) for listener in self._listeners):
            return
        number = next(self._numbers)
        details = await resource.details()
        if self._resources.get(name) is resource and number > self._newest.get(name, 0):
            self._newest[name] = number
            self._note(name, facts(details))

    def _note(self, name: str, after: dict[str, Fact]) -> None:
        before = self._known.get(name)
        now = trio.current_time()
        changed = after if before is None else differences(before, after)
        if not changed:
            return
        if before is not None and changed.keys() <= _PROGRESS and now < self._told_at.get(name, -math.inf) + LOOK_EVERY:
            return  # A later look tells it.
        self._known[name], self._told_at[name] = after, now
        self._publish(News(time.time(), Kind.CREATE if before is None else Kind.CHANGE, name, changed))

    def _say_what_was_removed(self) -> None:
        for name in self._known.keys() - self._resources.keys():
            del self._known[name], self._newest[name], self._told_at[name]
            self._publish(News(time.time(), Kind.DESTROY, name))
