"""hastctl list: everything hastd knows of a resource."""

from __future__ import annotations

from collections.abc import Iterator

from hastfs.cli import output, plain
from hastfs.cli.commands import status
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.protocol.control import ResourceStatus


def run(options: Options, config: Config) -> int:
    resources = status.ask(options, config, details=options.json)
    if options.json:
        output.say(plain.document(map(plain.listed, resources)))
    else:
        for resource in resources:
            output.say(text(resource))
    return status.report_errors(resources)


def text(resource: ResourceStatus) -> str:
    """In the original's form, which scripts read."""
    if resource.error:
        return f"{resource.resource}:\n  error: {resource.error}"
    return "\n".join((f"{resource.resource}:", *_fields(resource), *_statistics(resource.stats)))


def _fields(resource: ResourceStatus) -> Iterator[str]:
    yield f"  role: {resource.role}"
    yield f"  provname: {resource.provname}"
    yield f"  localpath: {resource.localpath}"
    yield f"  extentsize: {output.with_size(resource.extentsize or 0)}"
    yield f"  keepdirty: {resource.keepdirty or 0}"
    yield f"  remoteaddr: {resource.remoteaddr}"
    if resource.sourceaddr:
        yield f"  sourceaddr: {resource.sourceaddr}"
    yield f"  replication: {resource.replication}"
    if resource.status:
        yield f"  status: {resource.status}"
    if resource.workerpid:
        yield f"  workerpid: {resource.workerpid}"
    yield f"  dirty: {output.with_size(resource.dirty or 0)}"


def _statistics(stats: dict[str, int]) -> Iterator[str]:
    def count(name: str) -> int:
        return stats.get(name, 0)

    yield "  statistics:"
    yield f"    reads: {count('stat_read')}"
    yield f"    writes: {count('stat_write')}"
    yield f"    deletes: {count('stat_delete')}"
    yield f"    flushes: {count('stat_flush')}"
    yield f"    activemap updates: {count('stat_activemap_update')}"
    errors = (f"{what}: {count(f'stat_{what}_error')}" for what in ("read", "write", "delete", "flush"))
    yield f"    local errors: {', '.join(errors)}"
    queues = (f"{what}: {count(f'{what}_queue_size')}" for what in ("local", "send", "recv", "done", "idle"))
    yield f"    queues: {', '.join(queues)}"
