"""hastctl status: one line per resource."""

from __future__ import annotations

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus

ANSWER_WITHIN = 10.0
"""Seconds; hastd gives its workers 2."""

HEADER = "Name\tStatus\t Role\t\tComponents"


def run(options: Options, config: Config) -> int:
    resources = ask(options, config)
    if options.json:
        from hastfs.cli import plain  # noqa: PLC0415  # nobody else needs it

        output.say(plain.document(map(plain.status, resources)))
        return report_errors(resources)
    output.say("\n".join((HEADER, *(line(resource) for resource in resources))))
    return report_errors(resources)


def ask(options: Options, config: Config) -> list[ResourceStatus]:
    """What hastd says of the resources in `options`."""
    with Client(config.control, ANSWER_WITHIN) as client:
        return client.ask(Request(ControlCommand.STATUS, resources=options.names, details=options.json)).resources


def line(resource: ResourceStatus) -> str:
    """In the original's form, tabs and all, which scripts read."""
    if resource.error:
        return f"{resource.resource}\tERR{resource.error}"
    components = f"{resource.localpath}\t{resource.remoteaddr}"
    return f"{resource.resource}\t{resource.status or '-':<9}{resource.role:<15}{components}"


def report_errors(resources: list[ResourceStatus]) -> int:
    """Says what is behind the errors, as far as hastd tells; the first one is the exit code."""
    for resource in resources:
        if resource.error and resource.errmsg:
            output.error(resource.errmsg, resource.resource)
    return next((resource.error for resource in resources if resource.error), 0)
