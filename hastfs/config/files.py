"""hast.conf as a file on this machine: who this node is, and reading. The only part of config/ with I/O."""

from __future__ import annotations

import os
import re

from hastfs.config.parser import parse
from hastfs.config.schema import Config
from hastfs.errors import ConfigMissing

MACHINE_ID = "/etc/machine-id"
"""Linux's counterpart of FreeBSD's host UUID (machine-id(5)): 32 hexadecimal digits."""


def node_names(host: str | None = None, machine_id: str = MACHINE_ID) -> tuple[str, ...]:
    """The names by which `on NODE` may call this node: first label of the host name, host name, machine id.

    The host name is the kernel's (`host`, if given, stands in for it). What this machine does not have is left out.
    """
    full = os.uname().nodename if host is None else host
    names = dict.fromkeys((full.partition(".")[0], full, _read_machine_id(machine_id)))
    return tuple(name for name in names if name)


def load(path: str) -> Config:
    """Raises ConfigMissing if the file cannot be read and ConfigError if it cannot be used."""
    return understand(read(path), path)


def read(path: str) -> str:
    """The text of the file. Raises ConfigMissing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigMissing(f"Unable to open configuration file {path}: {error.strerror}.") from error
    # Comments may be in any encoding; anywhere else the replacement character is refused by the lexer.
    return content.decode("utf-8-sig", errors="replace")


def understand(text: str, path: str) -> Config:
    """What the file at `path` means for this machine. Raises ConfigError if it cannot be used."""
    return parse(text, path, node_names())


def _read_machine_id(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except OSError:
        return ""
    return text if re.fullmatch(r"[0-9a-fA-F]{32}", text) else ""
