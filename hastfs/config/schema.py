"""What a hast.conf means for one node: everything inherited, every default filled in. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from hastfs.address import Address
from hastfs.errors import DataError
from hastfs.model import Checksum, Compression, LogFormat, Replication

DEFAULT_PATH = "/etc/hast.conf"
DEFAULT_CONTROL = "/var/run/hastctl"
DEFAULT_PIDFILE = "/var/run/hastd.pid"
DEFAULT_MOUNTDIR = "/run/hast"
DEFAULT_REPLICATION = Replication.MEMSYNC
DEFAULT_CHECKSUM = Checksum.NONE
DEFAULT_COMPRESSION = Compression.HOLE
DEFAULT_STATEDIR = "/var/lib/hast"
DEFAULT_TIMEOUT = 20
"""Seconds."""

FENCE_WITHIN = 60
"""Seconds that a fence program has; one that takes longer is killed, and has failed."""


@dataclass(frozen=True, slots=True)
class ResourceConfig:
    """One resource as this node sees it."""

    name: str
    provider: str
    """The file below `mountdir` and the link below /dev/hast."""
    local: str
    """Absolute path of this node's component."""
    remote: Address | None
    """The other node; None when it is not known yet (`remote none`)."""
    source: Address | None
    """What to bind to before connecting; port 0: any free port."""
    replication: Replication
    checksum: Checksum
    compression: Compression
    timeout: int
    """Seconds, at least 1."""
    exec: str | None
    """Absolute path of the hook program."""
    metaflush: bool
    device: bool
    """Whether a primary also gets a loop device and /dev/hast/PROVIDER."""
    fence: str | None = None
    """Absolute path of the program that makes sure that the other node is not in the way of one that goes on alone."""
    autorole: bool = False
    """Whether hastd gives it the role that it had when hastd ended."""

    def as_plain(self) -> dict[str, Any]:
        """In values that JSON has."""
        return asdict(self) | {
            "replication": self.replication.value,
            "checksum": self.checksum.value,
            "compression": self.compression.value,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """The reverse of `as_plain`; raises TypeError, KeyError or ValueError for anything else."""
        return cls(
            **plain
            | {
                "remote": None if plain["remote"] is None else Address(**plain["remote"]),
                "source": None if plain["source"] is None else Address(**plain["source"]),
                "replication": Replication(plain["replication"]),
                "checksum": Checksum(plain["checksum"]),
                "compression": Compression(plain["compression"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Config:
    """A whole hast.conf as one node sees it."""

    path: str
    """The file it was read from, as it was named."""
    control: str
    """Path of the control socket."""
    pidfile: str
    listen: tuple[Address, ...]
    """Empty: the defaults, port 8457 of every IPv4 and IPv6 address."""
    mountdir: str
    resources: dict[str, ResourceConfig]
    """By resource name, in the order of the file."""
    logformat: LogFormat = LogFormat.CLASSIC
    metrics: Address | None = None
    """Where Prometheus gets its metrics; None: nowhere."""
    warnings: tuple[str, ...] = ()
    """`PATH:LINE: ...`: what may be a mistake. hastd logs it, hastctl does not say it with every command."""
    statedir: str = DEFAULT_STATEDIR
    """Where hastd keeps what it has to know at its next start."""

    def resource(self, name: str) -> ResourceConfig:
        """Raises DataError for a name the file does not have."""
        if name not in self.resources:
            raise DataError(f"Unknown resource {name}.")
        return self.resources[name]
