"""hastctl status: on a terminal a table, anywhere else the original's line per resource."""

from __future__ import annotations

import sys
import time

from hastfs.cli import output
from hastfs.cli.client import Client
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus

ANSWER_WITHIN = 10.0
"""Seconds; hastd gives its workers 2."""

HEADER = "Name\tStatus\t Role\t\tComponents"


def run(options: Options, config: Config) -> int:
    if options.json:
        return _show_json(options, config)
    if sys.stdout.isatty() if options.table is None else options.table:
        return _show_table(options, config)
    resources = ask(options, config)
    output.say("\n".join((HEADER, *(line(resource) for resource in resources))))
    return report_errors(resources)


def _show_json(options: Options, config: Config) -> int:
    from hastfs.cli import plain  # noqa: PLC0415  # as below

    resources = ask(options, config, details=True)
    output.say(plain.document(map(plain.status, resources)))
    return report_errors(resources)


def _show_table(options: Options, config: Config) -> int:
    # Loaded here: scripts, which get the classic text, do not wait for it.
    from rich.console import Console  # noqa: PLC0415

    from hastfs.cli import table  # noqa: PLC0415

    resources = ask(options, config, details=True)
    console = Console(no_color=options.no_color or None, highlight=False)
    looks = [table.look(resource, resource.details) for resource in resources]
    text = table.render(looks, width=console.width, now=time.time(), ascii_only=console.options.ascii_only)
    with console.capture() as drawn:
        console.print(text, soft_wrap=True)
    output.say(drawn.get().rstrip("\n"))
    return next((resource.error for resource in resources if resource.error), 0)


def ask(options: Options, config: Config, *, details: bool = False) -> list[ResourceStatus]:
    """What hastd says of the resources in `options`."""
    with Client(config.control, ANSWER_WITHIN) as client:
        return client.ask(Request(ControlCommand.STATUS, resources=options.names, details=details)).resources


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
