"""The program that hastd is: what it was started with, whether what is installed there now can go on, and going on.

What goes on is the same process: pid, parent, and every descriptor that is handed down stay (execve(2)).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from hastfs.daemon import inheritance, notify
from hastfs.daemon.inheritance import CAN_INHERIT, INHERIT, Inheritance
from hastfs.errors import SystemFailure, one_line

_CHECKED_WITHIN = 20.0  # Seconds; on a quiet machine it takes half of one.


@dataclass(frozen=True, slots=True)
class Program:
    command: tuple[str, ...]
    """The absolute path of the interpreter first."""
    directory: str
    """Where paths in the command begin."""
    config: str
    """Absolute path of hast.conf."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are for hastd itself, and not for what it starts."""

    @classmethod
    def of_this_process(cls, config: str) -> Program:
        """To be called before the working directory is changed. Takes its variables out of the environment."""
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            directory = "/"
        # Not the path that a symbolic link to the interpreter leads to: it is what makes a virtual environment.
        command = sys.executable, *sys.orig_argv[1:]
        return cls(command, directory, os.path.join(directory, config), notify.take(os.environ))

    async def check(self, left: Inheritance) -> str:
        """The version of the program that is installed now. SystemFailure, with the reason, if it cannot take over."""
        with _described(left) as fd, trio.move_on_after(_CHECKED_WITHIN):
            try:
                done = await trio.run_process(
                    [*self.command, f"{CAN_INHERIT}={fd}"],
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    cwd=self.directory,
                    pass_fds=[fd],
                )
            except OSError as error:
                raise _cannot(f"{error.filename or self.command[0]}: {error.strerror}") from error
            return _version(done)
        raise _cannot(f"it does not say within {_CHECKED_WITHIN:g} s whether it can")

    def become(self, left: Inheritance) -> None:
        """Does not return. SystemFailure, with everything as it was, if the program cannot be started."""
        sys.stdout.flush()
        sys.stderr.flush()
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with _described(left) as fd:
            handed_down = [*left.descriptors, fd]
            try:
                for each in handed_down:
                    os.set_inheritable(each, True)
                os.chdir(self.directory)
                arguments = [*self.command, f"{INHERIT}={fd}"]
                os.execve(self.command[0], arguments, {**os.environ, **self.environment})
            except OSError as error:
                raise _cannot(f"{error.filename or self.command[0]}: {error.strerror}") from error
            finally:
                for each in handed_down:
                    os.set_inheritable(each, False)
                os.chdir(before)
                os.close(before)


def read(fd: int) -> Inheritance:
    """What the descriptor that an option names describes. DataError if it cannot be understood."""
    try:
        data = os.pread(fd, os.fstat(fd).st_size, 0)
    except OSError:
        data = b""
    return inheritance.decode(data)


def own(left: Inheritance, fd: int) -> None:
    """The descriptors are this process's from now on, and not its children's. The one of the description is closed."""
    os.close(fd)
    for each in left.descriptors:
        os.set_inheritable(each, False)


@contextmanager
def _described(left: Inheritance) -> Iterator[int]:
    """A descriptor of a file in memory that describes it."""
    with os.fdopen(os.memfd_create("hastd"), "w+b", buffering=0) as file:
        file.write(left.encode())
        yield file.fileno()


def _version(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == 0:
        return one_line(done.stdout.decode(errors="replace").strip())
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
    # The last line of a traceback says what is wrong; after a wrong option comes the usage.
    reason = lines[0] if done.returncode == os.EX_USAGE else lines[-1]
    places = [line.strip() for line in lines if line.startswith("  File ")]
    where = f" ({places[-1]})" if places else ""
    raise _cannot(f"{reason.removeprefix('[ERROR] ').removesuffix('.')}{where}")


def _cannot(reason: str) -> SystemFailure:
    return SystemFailure(
        f"hastd goes on as it is: the program that is installed now cannot take over: {one_line(reason)}."
    )
