"""hastctl dump: a component's metadata, without the daemon."""

from __future__ import annotations

from hastfs.cli import output
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
    for name in config.resources if options.names == (ALL,) else options.names:
        try:
            output.say(text(provision.read_metadata(config.resource(name))))
        except HastError as error:
            output.error(str(error))
            exit_code = exit_code or (UNREADABLE if isinstance(error, MetadataError) else error.exit_code)
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
