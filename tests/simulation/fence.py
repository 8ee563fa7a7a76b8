"""A node's fence program, called by the supervisor's own `Fencer`: it says yes, or no, or hangs, as chance has it."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

import trio

from hastfs.daemon.fencing import Fencer, judge
from hastfs.daemon.hooks import Hooks
from hastfs.daemon.logs import ResourceLog
from hastfs.model import Role
from tests.simulation.node import Node

_CODES = (4, 5, 5, 7, 1, None)  # None: it hangs


class Program(Hooks):
    """Of one node. `allowed` is what was said, whatever engine and supervisor make of it."""

    def __init__(self, node: Node, chance: random.Random, nursery: trio.Nursery) -> None:
        super().__init__()
        self.allowed = False
        """It may have data that the other node has not."""
        self.at_peace = False
        """It fences, and says so."""
        self._node = node
        self._chance = chance
        self._nursery = nursery
        self._links = 0
        self._fencer: Fencer | None = None
        self._running = trio.CancelScope()

    def begin(self, *, force: bool) -> None:
        """The node is to become primary."""
        self._running.cancel()
        node = self._node
        log = ResourceLog(logging.getLogger("fence"), node.config.name, lambda: Role.PRIMARY)
        self._fencer = fencer = Fencer(lambda: node.config, self, log)
        fencer.granted = force
        self.allowed = force or node.config.remote is None
        fencer.tell = self._pass_on
        node.asks_fence = fencer.want
        node.may_be_alone = lambda: fencer.granted
        self._running = trio.CancelScope()
        self._nursery.start_soon(self._supervise, fencer, self._running)

    def _pass_on(self, go_on: bool, reason: str) -> None:
        self._node.fencing.answer(go_on, reason)  # of the present worker

    async def _supervise(self, fencer: Fencer, running: trio.CancelScope) -> None:
        with running:
            await fencer.run()

    def promoted(self) -> None:
        """It is primary."""
        assert self._fencer is not None
        self._fencer.starting = False

    def linked(self) -> None:
        """It is connected: whatever was said until now is over."""
        assert self._fencer is not None
        self._fencer.linked()
        self.allowed = False
        self._links += 1

    async def ask(
        self, path: str, words: Sequence[str], environment: Mapping[str, str], *, within: float
    ) -> int | None:
        links = self._links
        await trio.sleep(self._chance.choice((0.0, 0.1, 3.0)))
        code = 7 if self.at_peace else self._chance.choice(_CODES)
        if code is None:
            await trio.sleep(within)
        elif links == self._links and judge(code, starting=words[3] == "start").go_on:
            self.allowed = True
        return code
