"""hastctl dump: a component's metadata, without the daemon."""

from __future__ import annotations

from hastfs.cli import output, plain
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.errors import HastError, MetadataError
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.control import ALL
from hastfs.resource import provision

UNREADABLE = 255
"""The exit code for metadata that cannot be read (HAST)."""


def run(options: Options, config: Config) -> int:
    """Goes on with the other resources after an error; the first error's exit code counts."""
    exit_code = 0
    found: list[plain.Plain] = []
    for name in config.resources if options.names == (ALL,) else options.names:
        try:
            metadata = provision.read_metadata(config.resource(name))
        except HastError as error:
            code = UNREADABLE if isinstance(error, MetadataError) else error.exit_code
            output.error(str(error))
            exit_code = exit_code or code
            found.append(plain.failed(name, error, code))
        else:
            found.append(plain.dumped(metadata))
            if not options.json:
                output.say(text(metadata))
    if options.json:
        output.say(plain.document(found))
    return exit_code


def text(metadata: Metadata) -> str:
    """In the original's form, which scripts read."""
    fields = (
        f"resource: {metadata.resource}",
        f"datasize: {output.with_size(metadata.datasize)}",
        f"extentsize: {output.with_size(metadata.extentsize)}",
        f"keepdirty: {metadata.keepdirty}",
        f"localoff: {metadata.localoff}",
        f"resuid: {metadata.resuid}",
        f"localcnt: {metadata.localcnt}",
        f"remotecnt: {metadata.remotecnt}",
        f"prevrole: {metadata.prevrole.word}",
    )
    return "\n    ".join(fields)
