"""The application: writes, discards, reads and flushes; and what it is owed for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from tests.simulation.model import CELL, CELLS, Flush, Model, Read, Request, Violation, Write
from tests.simulation.node import Node

if TYPE_CHECKING:
    import random


class Client:
    """All that is asked of the primaries, drawn by `chance`. `violated` hears of what must not be."""

    def __init__(self, chance: random.Random, model: Model, violated: Callable[[Violation], None]) -> None:
        self._chance = chance
        self._model = model
        self._violated = violated
        self._value = 0
        self.waiting: dict[Request, Callable[[], None]] = {}
        """What is not answered yet, in the order it was asked, and how to ask it again."""

    def ask(self, node: Node) -> str:
        """Asks something of the primary `node`; says what."""
        dice = self._chance.random()
        if dice < 0.6:
            return ", ".join(self._write(node) for _ in range(self._chance.randint(1, 4)))
        if dice < 0.85:
            return self.flush(node)
        return self.read(node)

    def forget(self, node: Node) -> list[tuple[Request, Callable[[], None]]]:
        """The primary `node` is gone: nobody answers. Returns what was not answered."""
        left = [(request, again) for request, again in self.waiting.items() if request.node is node]
        for request, _ in left:
            del self.waiting[request]
        return left

    def drop(self, node: Node) -> None:
        """The primary `node` is gone, and what it did not answer, too."""
        for request, _ in self.forget(node):
            if isinstance(request, Write):
                self._model.lost(request)

    def ask_again(self, left: list[tuple[Request, Callable[[], None]]]) -> None:
        """The kernel gives the successor of a dead worker what that one had not answered."""
        for request, again in left:
            request.restart()
            if isinstance(request, Write):
                request.shared = request.shared or request.link is not None
            self._asked(request, again)

    def _asked(self, request: Request, again: Callable[[], None]) -> None:
        request.backed = self._model.is_backed(request.node)
        self.waiting[request] = again
        again()

    def _is_over(self, request: Request, primary: object) -> bool:
        """Whether this is the answer: not if it comes from a worker that is dead."""
        if request not in self.waiting or request.primary is not primary:
            return False
        del self.waiting[request]
        return True

    def _guard(self, check: Callable[[], None]) -> None:
        """Raised from here, it would go to an engine that is in the middle of something."""
        try:
            check()
        except Violation as violation:
            self._violated(violation)

    def _excuse(self, request: Request, error: int, what: str) -> None:
        """An error is only for an application that no node can help: one whose disk is well, and has the good copy."""
        primary = request.primary
        here, there = request.disks_were_well
        if not error or primary.failure is not None:
            return
        if self._model.is_left_held(request.node):
            return
        if here and not request.node.disk.faults and not request.stale and not primary.stale:
            raise Violation(f"a {what} failed ({error}) although nothing is wrong with this node's disk")
        if there and request.backed and request.kept_link:
            raise Violation(f"a {what} failed ({error}) although the other node is well, and has all")

    # -- the four requests -----------------------------------------------------------------------------------------

    def _write(self, node: Node) -> str:
        chance = self._chance
        first = chance.randrange(CELLS)
        count = chance.randint(1, min(20, CELLS - first))
        is_discard = chance.random() < 0.2
        allocated = chance.random() < 0.5
        if not is_discard:
            self._value = self._value % 250 + 1
        write = Write(node, first, count, 0 if is_discard else self._value)
        self._model.begin(write)

        def again() -> None:
            primary = write.primary

            def done(error: int) -> None:
                if self._is_over(write, primary):
                    self._guard(lambda: self._write_ended(write, error))

            if is_discard:
                primary.discard(first * CELL, count * CELL, done, allocated=allocated)
            else:
                primary.write(first * CELL, bytes([write.value]) * (count * CELL), done)
            primary.submit()

        self._asked(write, again)
        return f"{'discard' if is_discard else f'write {write.value} to'} {first}..{first + count - 1}"

    def _write_ended(self, write: Write, error: int) -> None:
        """It is done on both nodes not before news of it can have been there and back."""
        self._model.ended(write, error)
        self._excuse(write, error, "write")
        if not error and write.kept_link and not write.waits_for_nobody:
            took = trio.current_time() - write.since
            if took < write.round_trip - 1e-6:
                raise Violation(f"acknowledged after {took} s, the other node is {write.round_trip} s away")

    def flush(self, node: Node) -> str:
        """Asks the primary for a flush; says so."""
        busy = {cell for write in self._model.writes for cell in write.cells}
        flush = Flush(node, self._model.number, self._model.lost_cache[node.name].reads, busy)

        def again() -> None:
            primary = flush.primary

            def done(error: int) -> None:
                if self._is_over(flush, primary):
                    self._guard(lambda: self._flush_ended(flush, error))

            primary.flush(done)
            primary.submit()

        self._asked(flush, again)
        return "flush"

    def _flush_ended(self, flush: Flush, error: int) -> None:
        if not error:
            self._model.flushed(flush)
            return
        self._model.lost_cache[flush.node.name].told()
        try:
            self._excuse(flush, error, "flush")
        except Violation:
            if not self._model.told_of_lost_cache(flush.node):
                raise

    def read(self, node: Node) -> str:
        """Asks for some of the primary's data; says which."""
        first = self._chance.randrange(CELLS)
        count = self._chance.randint(1, CELLS - first)
        model = self._model
        allowed = [model.readable(node, cell) for cell in range(first, first + count)]
        read = Read(node, first, count, model.number, allowed)

        def again() -> None:
            primary = read.primary

            def done(error: int, data: object) -> None:
                if self._is_over(read, primary):
                    content = bytes(data)  # type: ignore[call-overload]
                    self._guard(lambda: self._read_ended(read, error, content))

            primary.read(first * CELL, count * CELL, done)
            primary.submit()

        self._asked(read, again)
        return f"read {first}..{first + count - 1}"

    def _read_ended(self, read: Read, error: int, content: bytes) -> None:
        self._excuse(read, error, "read")
        if error:
            return
        self._model.check_allowed(read)
        values: dict[int, int] = {}
        for at, allowed in enumerate(read.allowed):
            cell, found = read.first + at, content[at * CELL : (at + 1) * CELL]
            if self._model.touched[cell] > read.number:
                continue  # written meanwhile
            if found[0] not in allowed and found[0] not in self._model.readable(read.node, cell):
                raise Violation(f"a read of cell {cell} of {read.node.name} found {found[0]}, not one of {allowed}")
            if len(set(found)) != 1:
                raise Violation(f"a read found cell {cell} of {read.node.name} torn")
            values[cell] = found[0]
        self._model.was_read(read, values)
