"""hastctl(8): controls hastd, and makes components."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Sequence

from hastfs.cli import options, output
from hastfs.cli.options import HelpWanted, Options, UsageShown, VersionWanted
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.errors import HastError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 or one of sysexits(3), except for HAST's own 1 (no such resource) and 255 (dump).

    As in a shell it is 128 and the signal's number where another program would have died of a signal.
    """
    output.open_standard()
    try:
        return _obey(sys.argv[1:] if arguments is None else arguments)
    except UsageShown as error:
        return options.show(error)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _obey(arguments: Sequence[str]) -> int:
    try:
        given = options.parse_hastctl(arguments)
    except HelpWanted as wanted:
        output.say(_help(wanted.command))
        return wanted.exit_code
    except VersionWanted as wanted:
        output.say(str(wanted))
        return wanted.exit_code
    with output.log_shown():
        run = _command(given.command)
        return run(given, files.load(given.config) if options.COMMANDS[given.command].config else None)


def _help(command: str) -> str:
    texts = importlib.import_module("hastfs.cli.help")
    text: str = texts.command_text(command) if command else texts.hastctl_text()
    return text


def _command(name: str) -> Callable[[Options, Config | None], int]:
    """The module of that name does it. Only that one is loaded: applications wait for `role primary` after a failure,
    and what `create` needs takes longer to import than all the rest to be done.
    """
    run: Callable[[Options, Config | None], int] = importlib.import_module(_module(name)).run
    return run


def _module(command: str) -> str:
    return f"hastfs.cli.commands.{command.replace('-', '_')}"


if __name__ == "__main__":
    sys.exit(main())
