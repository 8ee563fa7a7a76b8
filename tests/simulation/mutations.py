"""Mistakes that somebody could make in the engines, and what histories say to them.

Each breaks one of the promises of docs/architecture.md, so that a history of some seed has to object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio

from hastfs.model import Consistency, Generations, Replication, SyncSource
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol import verdict
from hastfs.protocol.replication import Request
from hastfs.protocol.verdict import Facts, Scope, SplitBrain, Verdict
from hastfs.resource import alone, replica, synchronizer
from hastfs.resource.link import Link
from hastfs.resource.metastore import Metastore
from hastfs.resource.rangelock import Range, Span
from hastfs.resource.reads import Read
from hastfs.resource.replica import Replica
from hastfs.resource.secondary import Secondary
from hastfs.resource.synchronizer import Synchronizer
from hastfs.resource.writes import Write
from hastfs.volume import Done
from tests.simulation.detach_mutations import DETACH_MUTATIONS
from tests.simulation.history import run
from tests.simulation.model import Violation
from tests.simulation.run import leaf, silence

Change = Callable[..., Any]


@dataclass(frozen=True)
class Mutation:
    """`owner.name` is replaced by what `change` makes of it."""

    owner: Any
    name: str
    change: Change


# -- the map -------------------------------------------------------------------------------------------------------


def _map_after_data(original: Callable[..., bool]) -> Callable[..., bool]:
    def begin_write(self: Activemap, first: int, last: int) -> bool:
        original(self, first, last)
        return True

    return begin_write


def _pretend_map_is_written(_: object) -> Change:
    async def write_pages(self: Metastore) -> int:
        await trio.lowlevel.checkpoint()
        waiting, self._waiting = self._waiting, []
        self.activemap.pages_written(self.activemap.changed_pages())
        for done in waiting:
            done(0)
        return 0

    return write_pages


def _ignore_failed_map(_: object) -> Callable[..., None]:
    def pages_failed(self: Activemap, pages: Iterable[tuple[int, bytes]]) -> None:
        self.pages_written(pages)

    return pages_failed


def _clean_without_flush(original: Callable[..., None]) -> Callable[..., None]:
    def mark_written(self: Activemap, extent: int) -> None:
        original(self, extent)
        self._written.pop(extent, None)
        self._settle(extent)
        self.clean()

    return mark_written


def _clean_what_is_written_again(original: Callable[..., None]) -> Callable[..., None]:
    def flush_done(self: Activemap, token: int) -> None:
        original(self, token + 1)

    return flush_done


def _forget_unflushed(_: object) -> Callable[..., None]:
    def link_lost(self: Activemap) -> None:
        self._copying.clear()
        for extent in list(self._written):
            del self._written[extent]
            self._settle(extent)

    return link_lost


def _all_is_replicated(original: Callable[..., None]) -> Callable[..., None]:
    def end_write(self: Activemap, first: int, last: int, *, replicated: bool) -> None:
        original(self, first, last, replicated=True)

    return end_write


# -- being alone ---------------------------------------------------------------------------------------------------


def _forget_count(_: object) -> Callable[[Metadata], Metadata]:
    return lambda metadata: replace(metadata, resuid=metadata.resuid or alone.random_id())


def _count_without_generation(original: Callable[[Metadata], Metadata]) -> Callable[[Metadata], Metadata]:
    return lambda metadata: replace(original(metadata), generations=metadata.generations)


def _generation_without_count(original: Callable[[Metadata], Metadata]) -> Callable[[Metadata], Metadata]:
    return lambda metadata: replace(original(metadata), localcnt=metadata.localcnt)


def _record_later(_: object) -> Callable[..., None]:
    def when_recorded(self: alone.Alone, done: Done) -> None:
        self._wakeup.set()
        done(0)

    return when_recorded


def _do_not_wait_for_metadata(_: object) -> Change:
    async def write(self: Metastore, pieces: Any, what: str) -> None:
        self._component.write_durable(pieces, lambda error: None, flush=self.metaflush)
        await trio.lowlevel.checkpoint()

    return write


# -- acknowledging -------------------------------------------------------------------------------------------------


def _acknowledge_before_the_peer(_: object) -> Callable[[Write], bool]:
    return lambda self: not self._replica.stale and self._link is not None


def _memsync_without_a_word(_: object) -> Callable[[Write], bool]:
    def may_acknowledge_early(self: Write) -> bool:
        mode = self._replica.replication
        return not self._replica.stale and self._link is not None and mode is not Replication.FULLSYNC

    return may_acknowledge_early


def _answer_for_peer(_: object) -> Callable[..., None]:
    return lambda self, done: done(0)


# -- the secondary -------------------------------------------------------------------------------------------------


def _hide_failures(_: object) -> Callable[..., None]:
    def own_up_to(self: Secondary, request: Request, error: int) -> None:
        self._changed(request, 0)

    return own_up_to


def _reply_before_the_write(_: object) -> Callable[..., None]:
    def locked(self: Secondary, request: Request, start: Callable[[Done], None], kept: int = 0) -> None:
        self._changing += 1

        def granted(held: Range) -> None:
            self._changed(request, 0)
            start(lambda error: self._ranges.release(held))

        self._ranges.acquire(request.offset, request.offset + request.length, granted)

    return locked


def _forget_map_in_the_handshake(original: Change) -> Change:
    async def agree(self: Secondary, joining: Any) -> None:
        await original(self, joining)
        self._map.forget()
        await self._metastore.write_cleaned()

    return agree


# -- the resync ----------------------------------------------------------------------------------------------------


def _without_lock(_: object) -> Change:
    @asynccontextmanager
    async def locked(self: Synchronizer, start: int, end: int) -> AsyncIterator[tuple[int, int]]:
        yield start, end

    return locked


def _read_locally(original: Callable[[Read], bool]) -> Callable[[Read], bool]:
    """Only while linked: without the other node, a local read that fails would be tried again without end."""

    def good_copy_is_remote(self: Read) -> bool:
        return original(self) and (self._replica.detached or self._replica.link is None)

    return good_copy_is_remote


def _count_failed_copies(original: Change) -> Change:
    async def copy_extent(self: Synchronizer, extent: int) -> bool:
        await original(self, extent)
        return True

    return copy_extent


def _copied_before_it_is(original: Callable[..., None]) -> Callable[..., None]:
    """So that a target shows what it had, and only as long as the copy is on its way."""

    def copy_begun(self: Activemap, extent: int) -> None:
        original(self, extent)
        self._out_of_sync.discard(extent)

    return copy_begun


def _flushed_already(_: object) -> Callable[..., None]:
    return lambda replica, done: done(0)


def _without_saying_so(original: Callable[..., None]) -> Callable[..., None]:
    def state(
        self: Link, consistency: Consistency, generations: Generations, done: Done, *, detached: bool = False
    ) -> None:
        if consistency is Consistency.INCONSISTENT:
            done(0)
        else:
            original(self, consistency, generations, done, detached=detached)

    return state


def _state_not_sent(_: object) -> Callable[..., None]:
    return lambda self, consistency, generations, done, **more: done(0)


# -- connecting and serving ----------------------------------------------------------------------------------------


def _primary_wins(original: Callable[[Facts, Facts], Verdict]) -> Callable[[Facts, Facts], Verdict]:
    def between_partners(primary: Facts, secondary: Facts) -> Verdict:
        try:
            return original(primary, secondary)
        except SplitBrain:
            return Verdict(SyncSource.PRIMARY, Scope.EVERYTHING)

    return between_partners


def _never_stale(original: Change) -> Change:
    def init(self: Replica, *arguments: Any, **more: Any) -> None:
        original(self, *arguments, **more)
        self.stale = False

    return init


def _drop_held(_: object) -> Callable[[Replica], None]:
    return lambda self: self._held.clear()


class _NoLock:
    """In place of a RangeLock: everybody gets everything at once."""

    def acquire(self, start: int, end: int, granted: Callable[[Range], None]) -> Range:
        held = Range(start, end, granted)
        self.acquire_span(held)
        return held

    def acquire_span(self, wanted: Span) -> None:
        wanted.granted(wanted)

    def release(self, held: Span) -> None:
        """Nobody waits."""


def _nothing(_: object) -> Callable[..., None]:
    return lambda *arguments, **more: None


def _nothing_async(_: object) -> Change:
    async def nothing(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()

    return nothing


MUTATIONS = {
    "data before map": Mutation(Activemap, "begin_write", _map_after_data),
    "map never written": Mutation(Metastore, "_write_pages", _pretend_map_is_written),
    "failed map update taken for done": Mutation(Activemap, "pages_failed", _ignore_failed_map),
    "clean before flush": Mutation(Activemap, "_mark_written", _clean_without_flush),
    "clean what was written after the flush began": Mutation(Activemap, "flush_done", _clean_what_is_written_again),
    "unflushed forgotten with the link": Mutation(Activemap, "link_lost", _forget_unflushed),
    "a write that the other node missed counts": Mutation(Activemap, "end_write", _all_is_replicated),
    "merged map not durable": Mutation(Metastore, "make_durable", _nothing_async),
    "secondary's map not merged": Mutation(Activemap, "merge", _nothing),
    "writing alone not on record": Mutation(alone, "_diverged", _forget_count),
    "generations never drawn": Mutation(alone, "_diverged", _count_without_generation),
    "localcnt never raised": Mutation(alone, "_diverged", _generation_without_count),
    "acknowledged before it is on record": Mutation(alone.Alone, "when_recorded", _record_later),
    "metadata not waited for": Mutation(Metastore, "_write", _do_not_wait_for_metadata),
    "split brain: the primary wins": Mutation(verdict, "_between_partners", _primary_wins),
    "acknowledged before the other node has it": Mutation(
        Write, "_may_acknowledge_early", _acknowledge_before_the_peer
    ),
    "memsync without a word of the other node": Mutation(Write, "_may_acknowledge_early", _memsync_without_a_word),
    "flush on one node": Mutation(Link, "flush", _answer_for_peer),
    "the secondary's flush overtakes writes": Mutation(Secondary, "_all_changed", _nothing_async),
    "failed write hidden by the secondary": Mutation(Secondary, "_own_up_to", _hide_failures),
    "the secondary replies before it has written": Mutation(Secondary, "_locked", _reply_before_the_write),
    "the secondary forgets its map in the handshake": Mutation(Secondary, "agree", _forget_map_in_the_handshake),
    "resync without range lock": Mutation(Synchronizer, "_locked", _without_lock),
    "overlapping writes overtake each other": Mutation(replica, "RangeLock", lambda _: _NoLock),
    "an extent counts while it is being copied": Mutation(Activemap, "copy_begun", _copied_before_it_is),
    "failed copy counts": Mutation(Synchronizer, "_copy_extent", _count_failed_copies),
    "equal without a flush": Mutation(synchronizer, "flush_now", _flushed_already),
    "the secondary does not hear that it is behind": Mutation(Link, "state", _without_saying_so),
    "the secondary does not hear what it is": Mutation(Link, "state", _state_not_sent),
    "half of a copy is served": Mutation(Replica, "__init__", _never_stale),
    "reads of half of a copy": Mutation(Read, "_good_copy_is_remote", _read_locally),
    "held requests dropped": Mutation(Replica, "_reissue_held", _drop_held),
    **{name: Mutation(*mistake) for name, mistake in DETACH_MUTATIONS.items()},
}


@dataclass(frozen=True)
class Catch:
    """The history that objected: the how-manyth it was, and what it said."""

    histories: int
    reason: str


def caught(name: str, seeds: Iterable[int]) -> Catch | None:
    """Lives with that mistake until one notices. Only a checker's word counts, not an exception of a broken engine."""
    mutation = MUTATIONS[name]
    original = getattr(mutation.owner, mutation.name)
    setattr(mutation.owner, mutation.name, mutation.change(original))
    try:
        for number, seed in enumerate(seeds, 1):
            try:
                with silence():
                    run(seed)
            except Exception as error:
                reason = leaf(error)
                if not isinstance(reason, Violation):
                    raise
                return Catch(number, str(reason))
    finally:
        setattr(mutation.owner, mutation.name, original)
    return None
