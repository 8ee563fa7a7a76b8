"""hastctl completion: what a shell needs to complete command lines."""

from __future__ import annotations

import os

from hastfs.cli import completion, output
from hastfs.cli.options import HASTCTL_USAGE, Options, UsageShown


def run(options: Options, _: object = None) -> int:
    """Raises UsageShown unless it is one shell that is known."""
    if len(options.names) != 1 or options.names[0] not in completion.SHELLS:
        raise UsageShown(HASTCTL_USAGE)
    output.say(completion.SHELLS[options.names[0]]().rstrip("\n"))
    return os.EX_OK
