"""What hastd refuses to start with although hast.conf may say it."""

from __future__ import annotations

from hastfs.config.schema import Config
from hastfs.errors import ConfigError
from hastfs.model import Checksum, Compression


def check(config: Config) -> None:
    """ConfigError, naming resource and option: nothing that was asked for is silently not done."""
    for resource in config.resources.values():
        where = f"{config.path}: resource {resource.name}"
        if resource.checksum is not Checksum.NONE:
            raise ConfigError(f"{where}: checksum {resource.checksum.value} is not available yet, only none is.")
        if resource.compression is Compression.LZF:
            raise ConfigError(f"{where}: compression lzf is not available yet, only none and hole are.")
