"""hastctl attach: has a resource use its component again, after that failed and was repaired."""

from __future__ import annotations

import os

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.commands.role import answer_within
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus


def run(options: Options, config: Config) -> int:
    """Returns when the component is in use; what it lacks comes by a resync after that."""
    with Client(config.control, 2 * answer_within(config)) as client:
        resources = client.ask(Request(ControlCommand.ATTACH, resources=options.names)).resources
    errors = [_report(resource, options) for resource in resources]
    return next((error for error in errors if error), 0)


def _report(resource: ResourceStatus, options: Options) -> int:
    if resource.error >= os.EX_USAGE and resource.errmsg:
        output.error(resource.errmsg, resource.resource)
    elif resource.error:
        output.warning(f"Received error {resource.error} from hastd.", resource.resource)
    else:
        output.debug(1, options.debug, f"Component attached ({resource.role}).", resource.resource)
    return resource.error
