"""hastd(8): the daemon. Everything that can be refused is refused before it goes into the background."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

import trio

from hastfs.cli import options, output
from hastfs.cli.options import DaemonOptions, UsageShown
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.daemon import leftovers, logs, privileges
from hastfs.daemon.daemonize import detach
from hastfs.daemon.doors import Doors
from hastfs.daemon.launcher import ProcessLauncher
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.process import ProcessStarter
from hastfs.daemon.supervisor import Supervisor
from hastfs.errors import HastError

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, in the foreground when the daemon has ended."""
    try:
        given = options.parse_hastd(sys.argv[1:] if arguments is None else arguments)
        return _start(given)
    except UsageShown as error:
        return options.show(error)
    except HastError as error:
        output.error(str(error))
        return error.exit_code


def _start(given: DaemonOptions) -> int:
    # Paths are used again later, when the working directory is another.
    pidfile = given.pidfile and os.path.abspath(given.pidfile)
    config = _read(given.config, pidfile)
    read = partial(_read, os.path.abspath(given.config), pidfile)
    with contextlib.closing(Doors(config)) as doors:
        settings = LogSettings(given.foreground, given.debug)
        serving = _settle(settings)
        for warning in config.warnings:
            log.warning("%s", warning)
        doors.settle()
        return _serve(config, read, doors, settings, serving)


def _read(path: str, pidfile: str | None) -> Config:
    """`pidfile`: the command line's, which counts more than the file's. ConfigMissing or ConfigError."""
    config = files.load(path)
    return config if pidfile is None else dataclasses.replace(config, pidfile=pidfile)


def _settle(settings: LogSettings) -> Callable[[], None]:
    """Into the background, if wanted. Returns what is to be called when the daemon can be reached."""
    if not logs.setup(settings):
        output.error(f"There is no syslog at {logs.SYSLOG_SOCKET}: messages of hastd will be lost.")
    if settings.foreground:
        return lambda: None
    detached = detach()
    logs.setup(settings)  # Again: the process's number has changed.
    return detached.serving


def _serve(
    config: Config, read: Callable[[], Config], doors: Doors, settings: LogSettings, serving: Callable[[], None]
) -> int:
    try:
        log.info("%s", privileges.outlook())
        with contextlib.closing(ProcessStarter()) as starter:
            leftovers.clear(config)
            trio.run(Supervisor(config, read, doors, ProcessLauncher(starter), settings).run, serving)
    except Exception:
        log.critical("hastd failed.", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
