"""hastctl check: compares this node and the other one, and says what would not work."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import trio

from hastfs import __version__
from hastfs.cli import output, plain
from hastfs.cli.check import compare, local, peer
from hastfs.cli.check.compare import Here
from hastfs.cli.check.findings import Finding, Level, ok, worst
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ALL, ResourceStatus
from hastfs.protocol.handshake import Refusal

WITHIN = 5.0
"""Seconds that the other node has to answer, unless --timeout says otherwise."""

_AT_ONCE = 16
"""Nodes that are asked at the same time."""

_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.PROBLEM: "1;31"}  # ECMA-48, SGR
_WIDEST_CHECK = 14


def run(options: Options, config: Config) -> int:
    """Ends with 78 (EX_CONFIG) if there is a problem. DataError for a resource that is not in hast.conf."""
    names = list(config.resources) if options.names == (ALL,) else list(dict.fromkeys(options.names))
    for name in names:
        config.resource(name)
    within = WITHIN if options.timeout is None else options.timeout
    hastd, statuses = local.running(config, within)
    common = [*local.node(config), hastd]
    found: dict[str, list[Finding]] = {}
    trio.run(_check_all, config, names, statuses, within, found)
    if options.json:
        output.say(plain.encode(_plain(common, found)))
    else:
        _show(common, found, coloured=_wants_colours(options))
    level = worst([*common, *(finding for findings in found.values() for finding in findings)])
    return os.EX_CONFIG if level is Level.PROBLEM else os.EX_OK


async def _check_all(
    config: Config,
    names: list[str],
    statuses: Mapping[str, ResourceStatus],
    within: float,
    found: dict[str, list[Finding]],
) -> None:
    limit = trio.CapacityLimiter(_AT_ONCE)
    found.update({name: [] for name in names})  # in this order

    async def check(name: str) -> None:
        async with limit:
            found[name] = await _check(config, name, statuses.get(name), within)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(check, name)


async def _check(config: Config, name: str, status: ResourceStatus | None, within: float) -> list[Finding]:
    resource = config.resources[name]
    findings, metadata = local.resource(config, resource, status)
    asked = await peer.ask(resource, within)
    findings += asked.findings
    if isinstance(asked.answer, Refusal):
        return findings + compare.refused(asked.answer, asked.here)
    if asked.answer is None:
        return findings
    here = Here(resource, metadata, local.role(status), __version__)
    reached = ok("peer", "The other node answers, and takes this one for its other node.")
    return [*findings, reached, *compare.compare(here, asked.answer, asked.ahead)]


def _plain(common: list[Finding], found: dict[str, list[Finding]]) -> plain.Plain:
    """docs/check.md has the schema."""
    resources = [{"name": name, "findings": _plain_findings(findings)} for name, findings in found.items()]
    level = worst([*common, *(finding for findings in found.values() for finding in findings)])
    return {
        "version": plain.VERSION,
        "level": level.value,
        "findings": _plain_findings(common),
        "resources": resources,
    }


def _plain_findings(findings: list[Finding]) -> list[plain.Plain]:
    return [finding.as_plain() for finding in findings]


def _wants_colours(options: Options) -> bool:
    return sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")


def _show(common: list[Finding], found: dict[str, list[Finding]], *, coloured: bool) -> None:
    for title, findings in (("this node", common), *found.items()):
        output.say("\n".join((f"{title}:", *(_line(finding, coloured) for finding in findings))))


def _line(finding: Finding, coloured: bool) -> str:
    level = f"{finding.level.value:<8}"
    if coloured:
        level = f"\033[{_COLOURS[finding.level]}m{level}\033[m"
    remedy = f" [{finding.remedy}]" if finding.remedy else ""
    return f"  {level} {finding.check:<{_WIDEST_CHECK}} {finding.text}{remedy}"
