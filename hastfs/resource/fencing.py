"""Whether a primary that lost the other node may go on without it: not before that one is fenced (hast.conf, fence).

Between the loss of the link and the answer everything is held: no request begins, and what was under way is not
acknowledged. The answer is one of three: the fence program says that the other node cannot be in the way, the link is
back, or somebody says that it is not to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from hastfs.errors import BusyError

GRACE = 2.0
"""Seconds from the loss of a link to the call of the fence program: a node whose hastd is renewed is back by then, and
is not to be shot for it."""


class Fencing:
    """Of one primary. `ask(wanted)` has the program called, or says that its answer does not matter any more."""

    def __init__(self, ask: Callable[[bool], None] = lambda wanted: None, *, granted: bool = False) -> None:
        """`granted`: this primary, or the one whose place it takes, was allowed already to be without the other."""
        self.held = False
        self.granted = granted
        self.released: Callable[[], None] = lambda: None
        """Is called when nothing is held any more."""
        self._ask = ask
        self._starting = False
        self._refusal: str | None = None
        self._changed = trio.Event()

    def hold(self) -> None:
        """The link is lost, or there was none yet."""
        self.granted = False
        self._set(True)

    def release(self) -> None:
        """There is a link, or nobody who could be fenced."""
        if self.held:
            self._set(False)
            self.released()

    def answer(self, go_on: bool, reason: str) -> None:
        """What came of it; `reason`: why not, in a sentence. If no, whoever serves already goes on waiting."""
        if go_on and self.held:
            self.granted = True
            self.release()
        elif not go_on and self._starting:
            self._refusal = reason
            self._change()

    async def start(self) -> None:
        """Returns when nothing is held. BusyError if this node must not start to write alone."""
        self._starting = True
        try:
            if self.held:
                self._ask(True)
            while self.held:
                if self._refusal is not None:
                    raise BusyError(self._refusal)
                await self._changed.wait()
        finally:
            self._starting = False

    async def run(self) -> None:
        """Asks whenever something is held for longer than GRACE; runs for ever."""
        while True:
            while not self.held:
                await self._changed.wait()
            with trio.move_on_after(GRACE):
                await self._until_released()
            if self.held:
                self._ask(True)
                await self._until_released()
                self._ask(False)

    async def _until_released(self) -> None:
        while self.held:
            await self._changed.wait()

    def _set(self, held: bool) -> None:
        self.held = held
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
