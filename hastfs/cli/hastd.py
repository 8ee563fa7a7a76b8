"""hastd(8): the daemon. Everything that can be refused is refused before it goes into the background."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

import trio

from hastfs import __version__
from hastfs.cli import options, output
from hastfs.cli.options import DaemonOptions, HelpWanted, UsageShown, VersionWanted
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.daemon import inheritance, jobs, leftovers, logs, privileges, program
from hastfs.daemon.daemonize import detach
from hastfs.daemon.doors import Doors
from hastfs.daemon.inheritance import Inheritance
from hastfs.daemon.launcher import ProcessLauncher
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.managed import check_component
from hastfs.daemon.process import ProcessStarter
from hastfs.daemon.program import Program
from hastfs.daemon.supervisor import Supervisor
from hastfs.errors import HastError
from hastfs.facts import about

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, in the foreground when the daemon has ended."""
    try:
        return _obey(sys.argv[1:] if arguments is None else arguments)
    except UsageShown as error:
        return options.show(error)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE


def _obey(arguments: Sequence[str]) -> int:
    try:
        given = options.parse_hastd(arguments)
    except HelpWanted as wanted:
        output.say(importlib.import_module("hastfs.cli.help").hastd_text())
        return wanted.exit_code
    except VersionWanted as wanted:
        output.say(str(wanted))
        return wanted.exit_code
    if given.can_inherit is not None:
        return _check(given, given.can_inherit)
    if given.inherit is not None:
        return _take_over(given, given.inherit)
    return _start(given)


def _start(given: DaemonOptions) -> int:
    start = _Start(given)
    config = start.understand(files.read(given.config), given.config)
    with contextlib.closing(Doors(config)) as doors:
        start.logs = dataclasses.replace(start.logs, form=config.logformat)
        serving = _settle(start.logs)
        for warning in config.warnings:
            log.warning("%s", warning)
        doors.settle()
        return _serve(start, config, doors, serving)


class _Start:
    """What hastd was started with. Paths are used again later, when the working directory is another."""

    def __init__(self, given: DaemonOptions) -> None:
        self.logs = LogSettings(given.foreground, given.debug)
        self.program = Program.of_this_process(given.config)
        self._pidfile = given.pidfile and os.path.abspath(given.pidfile)

    def read(self) -> Config:
        """What hast.conf says now. ConfigMissing or ConfigError."""
        return self.understand(files.read(self.program.config), self.program.config)

    def understand(self, text: str, path: str) -> Config:
        """The command line's pidfile counts more than the file's. ConfigError."""
        config = files.understand(text, path)
        return config if self._pidfile is None else dataclasses.replace(config, pidfile=self._pidfile)


def _check(given: DaemonOptions, fd: int) -> int:
    """Says the version if all goes well that can be tried while another program is hastd. HastError."""
    start = _Start(given)
    left = program.read(fd)
    config = start.understand(left.config, start.program.config)
    inheritance.refuse_changes(left, config)
    for resource in left.resources:
        # Without either the component may be gone, which is no reason to stay.
        if resource.worker is not None and resource.detached is None:
            check_component(config.resources[resource.name])
    importlib.import_module(jobs.WORKER_MODULE)
    output.say(__version__)
    return os.EX_OK


def _take_over(given: DaemonOptions, fd: int) -> int:
    """Goes on in the process of another hastd, after a `_check`."""
    left = program.read(fd)
    program.own(left, fd)
    start = _Start(given)
    logs.setup(start.logs)
    try:
        start.program = dataclasses.replace(start.program, command=left.command, directory=left.directory)
        config = start.understand(left.config, start.program.config)
        start.logs = dataclasses.replace(start.logs, form=config.logformat)
        logs.change(start.logs)
        doors = Doors(config, left.doors)
    except Exception:
        log.critical("hastd cannot take over.", exc_info=True)
        return os.EX_SOFTWARE
    if not given.foreground:
        os.chdir("/")
    with contextlib.closing(doors):
        return _serve(start, config, doors, lambda: None, left)


def _settle(settings: LogSettings) -> Callable[[], None]:
    """Into the background, if wanted. Returns what is to be called when the daemon can be reached."""
    if not logs.setup(settings):
        output.error(f"There is no syslog at {logs.SYSLOG_SOCKET}: messages of hastd will be lost.")
    if settings.foreground:
        return lambda: None
    detached = detach()
    logs.setup(settings)  # Again: the process's number has changed.
    return detached.serving


async def _run(supervisor: Supervisor, serving: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logs.keep_telling_repeats)
        await supervisor.run(serving)
        nursery.cancel_scope.cancel()


def _serve(
    start: _Start, config: Config, doors: Doors, serving: Callable[[], None], left: Inheritance | None = None
) -> int:
    try:
        if left is None:
            log.info("hastd %s starts.", __version__, extra=about("start", version=__version__))
        log.info("%s", privileges.outlook())
        with contextlib.closing(ProcessStarter()) as starter:
            if left is None:
                leftovers.clear(config)
            launcher = ProcessLauncher(starter)
            supervisor = Supervisor(config, start.read, doors, launcher, start.logs, program=start.program, left=left)
            trio.run(_run, supervisor, serving)
    except Exception:
        log.critical("hastd failed.", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
