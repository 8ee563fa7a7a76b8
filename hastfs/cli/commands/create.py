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
"""Seconds that hastd has to say which resources are in service."""


def run(options: Options, config: Config) -> int:
    """Goes on with the other resources after an error; the first error's exit code counts."""
    exit_code = 0
    in_service = _in_service(options, config)
    for name in options.names:
        error = _create(name, options, config, in_service.get(name))
        exit_code = exit_code or error
    return exit_code


def _in_service(options: Options, config: Config) -> dict[str, str]:
    """Names and roles, as hastd says: it has a secondary's component open only while a primary is connected."""
    try:
        with Client(config.control, ROLES_WITHIN) as client:
            answer = client.ask(Request(ControlCommand.STATUS, resources=options.names))
    except HastError:  # there is no hastd, or none that could have anything in use
        return {}
    init = Role.INIT.word
    return {resource.resource: resource.role for resource in answer.resources if resource.role not in (None, init)}


def _create(name: str, options: Options, config: Config, role: str | None) -> int:
    try:
        resource = config.resource(name)
    except HastError as error:
        output.error(str(error))
        return error.exit_code
    try:
        if role is not None:
            raise BusyError(f"It is in service, as {role}. First: hastctl role init {name}")
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
