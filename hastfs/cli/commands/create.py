"""hastctl create: makes components, whether hastd runs or not."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.errors import BusyError, HastError
from hastfs.model import Role
from hastfs.ondisk.geometry import DEFAULT_EXTENTSIZE, DEFAULT_KEEPDIRTY
from hastfs.protocol.control import ControlCommand, Request
from hastfs.resource import provision

ROLES_WITHIN = 5.0
"""Seconds that hastd has to say which role resources have."""


def run(options: Options, config: Config) -> int:
    """Goes on with the other resources after an error; the first error's exit code counts."""
    exit_code = 0
    secondaries = _secondaries(options, config)
    for name in options.names:
        error = _create(name, options, config, is_secondary=name in secondaries)
        exit_code = exit_code or error
    return exit_code


def _secondaries(options: Options, config: Config) -> set[str]:
    """As hastd says: it has their components open, and so locked, only while a primary is connected."""
    try:
        with Client(config.control, ROLES_WITHIN) as client:
            answer = client.ask(Request(ControlCommand.STATUS, resources=options.names))
    except HastError:  # there is no hastd, or none that could have anything in use
        return set()
    return {resource.resource for resource in answer.resources if resource.role == Role.SECONDARY.word}


def _create(name: str, options: Options, config: Config, *, is_secondary: bool) -> int:
    try:
        resource = config.resource(name)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    try:
        if is_secondary:
            raise BusyError(f"It is in service, as secondary. First: hastctl role init {name}")
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
