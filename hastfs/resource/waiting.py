"""For tasks among callbacks: wait for what is answered by a callback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import outcome
import trio

from hastfs.errors import HastError
from hastfs.poller import attend
from hastfs.volume import Buffer, Done, ReadDone

T = TypeVar("T")


async def answer(start: Callable[[Callable[[T], None]], None], *, withdraw: Callable[[], None] | None = None) -> T:
    """Starts something and waits for its answer. Cancellable only if `withdraw` takes back what was started."""
    task = trio.lowlevel.current_task()
    answers: list[T] = []
    asleep = False

    def answered(value: T) -> None:
        answers.append(value)
        if asleep:
            trio.lowlevel.reschedule(task)
            attend()

    def abort(_: object) -> trio.lowlevel.Abort:
        if withdraw is None:
            return trio.lowlevel.Abort.FAILED
        withdraw()
        return trio.lowlevel.Abort.SUCCEEDED

    start(answered)
    if not answers:
        asleep = True
        await trio.lowlevel.wait_task_rescheduled(abort)
    return answers[0]


async def finished(start: Callable[[Done], None]) -> int:
    """The errno (0: success) that `start`'s callback is called with."""
    return await answer(start)


async def data_of(start: Callable[[ReadDone], None]) -> tuple[int, Buffer]:
    """The errno and a copy of the data that `start`'s callback is called with."""
    return await answer(lambda answered: start(lambda error, data: answered((error, bytes(data)))))


def all_done(done: Done, parts: int) -> Done:
    """A callback for each of `parts` parts: when all of them are done, `done` is called with the first error."""
    if parts == 1:
        return done
    errors: list[int] = []

    def part_done(error: int) -> None:
        errors.append(error)
        if len(errors) == parts:
            done(next((error for error in errors if error), 0))

    return part_done


class Wakeup:
    """A task sleeps until somebody has something for it; a wake-up before the sleep is not lost."""

    def __init__(self) -> None:
        self._set = False
        self._task: trio.lowlevel.Task | None = None

    def set(self) -> None:
        """Wakes the task, now or when it next wants to sleep."""
        self._set = True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, outcome.Value(None))
            attend()

    async def wait(self) -> None:
        """Sleeps until `set` was called since the last `wait`."""
        if not self._set:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint()
        self._set = False

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


@contextmanager
def plain_errors() -> Iterator[None]:
    """Lets the first HastError, or else OSError, out of whatever groups trio's nurseries wrapped it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        for kind in (HastError, OSError):
            for error in _leaves(group):
                if isinstance(error, kind):
                    raise error from None
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
