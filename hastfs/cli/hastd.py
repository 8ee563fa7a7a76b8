"""hastd(8): the daemon. Everything that can be refused is refused before it goes into the background."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence

import trio

from hastfs.cli import options, output
from hastfs.cli.options import DaemonOptions, UsageShown
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.daemon import leftovers, logs, privileges, sockets
from hastfs.daemon.daemonize import detach
from hastfs.daemon.launcher import ProcessLauncher
from hastfs.daemon.logs import LogSettings
from hastfs.daemon.pidfile import Pidfile
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
    config = files.load(given.config)
    with contextlib.ExitStack() as held:
        # The pidfile's lock comes first: only its owner may touch the control socket, and what is mounted.
        pidfile = Pidfile(given.pidfile or config.pidfile)
        held.callback(pidfile.remove)
        listeners = sockets.listen_tcp(config.listen)
        for listener in listeners:
            held.callback(listener.close)
        control = held.enter_context(sockets.listen_control(config.control))
        held.callback(_unlink, config.control)
        settings = LogSettings(given.foreground, given.debug)
        serving = _settle(settings)
        for warning in config.warnings:
            log.warning("%s", warning)
        pidfile.write()
        sockets.own_control(control)
        return _serve(config, settings, listeners, control, serving)


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
    config: Config,
    settings: LogSettings,
    listeners: list[socket.socket],
    control: socket.socket,
    serving: Callable[[], None],
) -> int:
    try:
        log.info("%s", privileges.outlook())
        launcher = ProcessLauncher(ProcessStarter())
        leftovers.clear(config)
        trio.run(Supervisor(config, launcher, settings).run, listeners, control, serving)
    except Exception:
        log.critical("hastd failed.", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
