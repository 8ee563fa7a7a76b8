"""Do the checkers of the random histories bite? Each of these mutations of the engine has to be caught by some of them.

A mutation is a mistake that somebody could make; what it breaks is one of the promises of docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.replication import Request
from hastfs.resource import alone, replica
from hastfs.resource.link import Link
from hastfs.resource.metastore import Metastore
from hastfs.resource.rangelock import Range
from hastfs.resource.secondary import Secondary
from hastfs.resource.synchronizer import Synchronizer
from hastfs.volume import Done
from tests.simulation.test_random_histories import live, run

SEEDS = 200
"""Histories within which each has to be caught. Most are by one of the first twenty, the slowest by the 101st."""

LONGEST = 24 * 3600.0
"""Simulated seconds; a mutated engine may wait for ever."""


@dataclass(frozen=True)
class Mutation:
    """`owner.name` is replaced by what `change` makes of it."""

    owner: Any
    name: str
    change: Callable[[Any], Any]


def _map_after_data(original: Callable[..., bool]) -> Callable[..., bool]:
    def begin_write(self: Activemap, first: int, last: int) -> bool:
        original(self, first, last)
        return True

    return begin_write


def _clean_without_flush(original: Callable[..., None]) -> Callable[..., None]:
    def mark_written(self: Activemap, extent: int) -> None:
        original(self, extent)
        self._written.pop(extent, None)
        self._settle(extent)
        self.clean()

    return mark_written


def _forget_count(_: object) -> Callable[..., Metadata]:
    def diverged(metadata: Metadata) -> Metadata:
        return replace(metadata, resuid=metadata.resuid or alone.random_id())

    return diverged


def _without_lock(_: object) -> Callable[..., Any]:
    @asynccontextmanager
    async def locked(self: Synchronizer, start: int, end: int) -> AsyncIterator[tuple[int, int]]:
        yield start, end

    return locked


def _forget_unflushed(_: object) -> Callable[..., None]:
    def link_lost(self: Activemap) -> None:
        self._copying.clear()
        for extent in list(self._written):
            del self._written[extent]
            self._settle(extent)

    return link_lost


def _count_failed_copies(original: Callable[..., Any]) -> Callable[..., Any]:
    async def copy_extent(self: Synchronizer, extent: int) -> bool:
        await original(self, extent)
        return True

    return copy_extent


def _answer_for_peer(_: object) -> Callable[..., None]:
    def flush(self: Link, done: Done) -> None:
        done(0)

    return flush


def _hide_failures(_: object) -> Callable[..., None]:
    def own_up_to(self: Secondary, request: Request, error: int) -> None:
        self._changed(request, 0)

    return own_up_to


class _NoLock:
    """In place of a RangeLock: everybody gets everything at once."""

    def acquire(self, start: int, end: int, granted: Callable[[Range], None]) -> Range:
        held = Range(start, end, granted)
        granted(held)
        return held

    def release(self, held: Range) -> None:
        """Nobody waits."""


def _nothing(_: object) -> Callable[..., None]:
    return lambda *arguments, **more: None


def _nothing_async(_: object) -> Callable[..., Any]:
    async def nothing(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    return nothing


MUTATIONS = {
    "data before map": Mutation(Activemap, "begin_write", _map_after_data),
    "clean before flush": Mutation(Activemap, "_mark_written", _clean_without_flush),
    "writing alone not on record": Mutation(alone, "_diverged", _forget_count),
    "resync without range lock": Mutation(Synchronizer, "_locked", _without_lock),
    "unflushed forgotten with the link": Mutation(Activemap, "link_lost", _forget_unflushed),
    "failed copy counts": Mutation(Synchronizer, "_copy_extent", _count_failed_copies),
    "flush on one node": Mutation(Link, "flush", _answer_for_peer),
    "failed write hidden by the secondary": Mutation(Secondary, "_own_up_to", _hide_failures),
    "merged map not durable": Mutation(Metastore, "make_durable", _nothing_async),
    "secondary's map not merged": Mutation(Activemap, "merge", _nothing),
    "overlapping writes overtake each other": Mutation(replica, "RangeLock", lambda _: _NoLock),
}


def caught_by(seeds: range) -> int | None:
    """The first seed whose history a checker objects to. Any other error would be a mistake in the mutation."""
    for seed in seeds:

        async def main(seed: int = seed) -> None:
            with trio.fail_after(LONGEST):
                await live(seed)

        try:
            run(main, seed)
        except* (AssertionError, trio.TooSlowError):
            caught = True
        else:
            caught = False
        if caught:
            return seed
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutation = MUTATIONS[name]
    original = getattr(mutation.owner, mutation.name)
    monkeypatch.setattr(mutation.owner, mutation.name, mutation.change(original))
    assert caught_by(range(SEEDS)) is not None, f"{SEEDS} histories did not notice"


def test_without_a_mutation_the_same_histories_are_clean() -> None:
    assert caught_by(range(20)) is None
