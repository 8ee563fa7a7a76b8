"""hastctl(8): controls hastd, and makes components."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from types import MappingProxyType

from hastfs.cli import options, output
from hastfs.cli.commands import attach, create, dump, reload, role, status, stop, upgrade
from hastfs.cli.commands import list as list_
from hastfs.cli.options import Options, UsageShown
from hastfs.config import files
from hastfs.config.schema import Config
from hastfs.errors import HastError

COMMANDS: MappingProxyType[str, Callable[[Options, Config], int]] = MappingProxyType(
    {
        "create": create.run,
        "role": role.run,
        "list": list_.run,
        "status": status.run,
        "dump": dump.run,
        "attach": attach.run,
        "reload": reload.run,
        "upgrade": upgrade.run,
        "stop": stop.run,
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 or one of sysexits(3), except for HAST's own 1 (no such resource) and 255 (dump).

    As in a shell it is 128 and the signal's number where another program would have died of a signal.
    """
    try:
        given = options.parse_hastctl(sys.argv[1:] if arguments is None else arguments)
        with output.log_shown():
            return COMMANDS[given.command](given, files.load(given.config))
    except UsageShown as error:
        return options.show(error)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
