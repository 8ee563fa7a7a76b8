"""Runs the `fence` program for a primary that has lost the other node, and says whether it may go on (docs/fencing.md).

The program is called as DRBD calls a fence-peer handler under `fencing resource-and-stonith`, and answers with the same
exit codes. One that fails, or hangs, is called again and again: meanwhile I/O is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from hastfs.config.schema import FENCE_WITHIN, ResourceConfig
from hastfs.daemon.hooks import PATIENCE, Hooks
from hastfs.daemon.logs import ResourceLog

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two calls of a program that fails: doubled each time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    go_on: bool
    what: str
    """What the exit code says, or what went wrong; the rest of a sentence."""
    final: bool = False
    """Whatever the program would say later, this node's data is not to be used without the other one."""


_VERDICTS: dict[int | None, Verdict] = {
    3: Verdict(True, "the other node's data is inconsistent"),
    4: Verdict(True, "the other node is marked as outdated"),
    5: Verdict(True, "the other node cannot be reached, and is taken to be down"),
    6: Verdict(False, "the other node is primary", final=True),
    7: Verdict(True, "the other node was fenced off"),
    None: Verdict(False, "the fence program did not do its work"),
}
_AT_START: dict[int | None, Verdict] = {
    5: Verdict(False, "the other node cannot be reached, and may have been primary last")
}


def judge(code: int | None, *, starting: bool) -> Verdict:
    """What the exit code `code` means (None: the program did not say); `starting`: nobody uses the disk yet.

    5 is not enough for a start, as in DRBD: who knows which of the two nodes was primary last.
    """
    known = _VERDICTS | _AT_START if starting else _VERDICTS
    return known.get(code, Verdict(False, f"the fence program failed with exit code {code}"))


class Fencer:
    """For one time of being primary. `run` must be running."""

    remedy = ""
    """The command that ends the `problem`."""

    def __init__(self, config: Callable[[], ResourceConfig], hooks: Hooks, log: ResourceLog) -> None:
        self.granted = False
        """This node may be without the other one, until there is a link again."""
        self.problem = ""
        """Why I/O is held, in a sentence; empty if it is not, or not yet known."""
        self.tell: Callable[[bool, str], None] = lambda go_on, reason: None
        """Says to the worker whether it may go on, or why not."""
        self.starting = True
        """Nobody uses the disk yet."""
        self._config = config
        self._hooks = hooks
        self._log = log
        self._asked = 0
        self._wanted = False
        self._final = False
        self._changed = trio.Event()

    @property
    def trouble(self) -> tuple[str, str]:
        """Why I/O is held, in a sentence, and the command that helps; both empty if it is not."""
        if self.problem:
            return self.problem, self.remedy
        if self._wanted:
            return "I/O is held until the other node is fenced: the fence program is running.", ""
        return "", ""

    def want(self, wanted: bool) -> None:
        """The worker asks, or there is a link again and it does not any more."""
        self._asked += 1
        if wanted and self.granted:  # it does not know yet
            self._go_on()
            return
        self._wanted = wanted
        if not wanted:
            self._final = False
            self.problem = ""
        self._change()

    def linked(self) -> None:
        """There is a link: the next time that it is lost, everything is asked anew.

        Who had asked may have been another worker, or does not say any more that it is over: the other node must not
        be shot while it is needed.
        """
        self.granted = False
        self.want(False)

    def allow(self) -> None:
        """An administrator takes the responsibility."""
        self._log.warning("Told to go on without the other node, which is not fenced.")
        self._asked += 1
        self._go_on()

    async def run(self) -> None:
        """Calls the program as long as there is a question; runs for ever."""
        pause = FIRST_PAUSE
        while True:
            while not self._wanted or self._final:
                pause = FIRST_PAUSE
                await self._changed.wait()
            asked = self._asked
            verdict = await self._ask()
            if asked != self._asked:
                continue  # it was an answer to something else
            self._take(verdict)
            with trio.move_on_after(pause):
                while self._wanted and asked == self._asked:
                    await self._changed.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _ask(self) -> Verdict:
        config = self._config()
        if config.fence is None or config.remote is None:
            return Verdict(True, "there is nobody to be fenced any more")
        peer, reason = config.remote.host, "start" if self.starting else "lost"
        self._log.warning("I/O is held until the other node (%s) is fenced by %s.", peer, config.fence)
        environment = {
            "HAST_RESOURCE": config.name,
            "HAST_PEER": peer,
            "HAST_REASON": reason,
            "DRBD_RESOURCE": config.name,
            "DRBD_PEER": peer,
        }
        words = "fence", config.name, peer, reason
        with trio.move_on_after(PATIENCE):  # a program may undo with an event what it did when it was asked last
            await self._hooks.finished()
        code = await self._hooks.ask(config.fence, words, environment, within=FENCE_WITHIN)
        return judge(code, starting=self.starting)

    def _take(self, verdict: Verdict) -> None:
        name = self._config().name
        if verdict.go_on:
            self._log.warning("Going on without the other node: %s.", verdict.what)
            self._go_on()
        elif self.starting:
            self._wanted = False
            self.tell(False, f"Not primary without the other node: {verdict.what} (-f to be it nevertheless).")
        else:
            self._final = verdict.final
            self.problem = f"I/O is held: {verdict.what}."
            self.remedy = f"hastctl role -f {'secondary' if verdict.final else 'primary'} {name}"
            self._log.error("%s It goes on when the other node is back, or after `%s`.", self.problem, self.remedy)
            self.tell(False, self.problem)

    def _go_on(self) -> None:
        self.granted, self._wanted, self._final, self.problem = True, False, False, ""
        self.tell(True, "")
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
