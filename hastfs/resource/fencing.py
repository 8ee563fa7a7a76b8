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
        self._time = 0  # how often something was held: the link may come and go before anybody looks
        self._asked = 0  # the last time for which the program was asked
        self._starting = False
        self._refusal: str | None = None
        self._changed = trio.Event()

    def hold(self) -> None:
        """The link is lost, or there was none yet."""
        self.granted = False
        if not self.held:
            self._time += 1
        self._set(True)

    def release(self) -> None:
        """There is a link, or nobody who could be fenced."""
        if self.held:
            self._set(False)
            self.released()

    def answer(self, go_on: bool, reason: str) -> None:
        """What came of it; `reason`: why not, in a sentence. If no, whoever serves already goes on waiting.

        A yes to what was asked before the link came and went again is none: the other node was there meanwhile.
        """
        if go_on and self.held and self._asked == self._time:
            self.granted = True
            self.release()
        elif not go_on and self._starting:
            self._refusal = reason
            self._change()

    def ask_no_more(self) -> None:
        """This worker has no use for an answer any more, whatever is held. (Its successor may have: a question that was
        asked stays.)
        """
        self._ask = lambda wanted: None

    async def start(self) -> None:
        """Returns when nothing is held. BusyError if this node must not start to write alone."""
        self._starting = True
        try:
            if self.held:
                self._want()
            time = self._time
            while self.held and self._time == time:
                if self._refusal is not None:
                    raise BusyError(self._refusal)
                await self._changed.wait()
            if self._asked:
                self._ask(False)
        finally:
            self._starting = False

    async def run(self) -> None:
        """Asks whenever something is held for longer than GRACE; runs for ever."""
        while True:
            while not self.held:
                await self._changed.wait()
            time = self._time
            with trio.move_on_after(GRACE):
                await self._until_over(time)
            if self._is_held(time):
                self._want()
                await self._until_over(time)
                self._ask(False)

    def _want(self) -> None:
        self._asked = self._time
        self._ask(True)

    def _is_held(self, time: int) -> bool:
        """Still, and not again."""
        return self.held and self._time == time

    async def _until_over(self, time: int) -> None:
        while self._is_held(time):
            await self._changed.wait()

    def _set(self, held: bool) -> None:
        self.held = held
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
