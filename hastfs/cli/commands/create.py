"""hastctl create: makes components, without the daemon."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.errors import HastError
from hastfs.ondisk.geometry import DEFAULT_EXTENTSIZE, DEFAULT_KEEPDIRTY
from hastfs.resource import provision


def run(options: Options, config: Config) -> int:
    """Goes on with the other resources after an error; the first error's exit code counts."""
    exit_code = 0
    for name in options.names:
        error = _create(name, options, config)
        exit_code = exit_code or error
    return exit_code


def _create(name: str, options: Options, config: Config) -> int:
    try:
        resource = config.resource(name)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    try:
        provision.create(
            resource,
            extentsize=options.extentsize or DEFAULT_EXTENTSIZE,
            keepdirty=options.keepdirty or DEFAULT_KEEPDIRTY,
            mediasize=options.mediasize,
            force=options.force,
        )
    except HastError as error:
        output.error(str(error), name)
        return error.exit_code
    return 0
