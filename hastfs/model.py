"""The words of HAST as values: roles, modes, counters. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SECTOR_SIZE = 512
"""Bytes; the sector size of a regular file (HAST), and the unit of every offset and length on the wire."""

MAX_REQUEST_V2 = 128 * 1024
"""Bytes; the longest READ or WRITE an original peer takes (MAXPHYS of older FreeBSD releases)."""

MAX_REQUEST = 1024 * 1024
"""Bytes; the longest READ or WRITE between two of our own nodes, and from the kernel's FUSE."""

PROTOCOL_VERSION = 3
"""What we offer in step 1. 1 and 2 are the original's; 3 is 2 with our extensions (docs/protocol.md)."""

ORIGINAL_VERSION = 2
"""The highest version an original node speaks, and the version byte in the head of every message we send."""


class Role(enum.IntEnum):
    """What a node does for a resource; the numbers are those of the control protocol."""

    INIT = 1
    PRIMARY = 2
    SECONDARY = 3

    @property
    def word(self) -> str:
        """The role as it is written in commands, metadata, logs and hooks."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Role:
        """Raises ValueError for anything but `init`, `primary` or `secondary`."""
        for role in cls:
            if role.word == word:
                return role
        raise ValueError(f"{word!r} is not a role (init, primary, secondary)")


class Replication(enum.Enum):
    """When a write is acknowledged (hast.conf(5), replication)."""

    FULLSYNC = "fullsync"
    MEMSYNC = "memsync"
    ASYNC = "async"


class LogFormat(enum.Enum):
    """What a line of the log looks like (docs/logs.md)."""

    CLASSIC = "classic"
    """The original's: `[LEVEL] [resource] (role) message`."""
    LOGFMT = "logfmt"
    JSON = "json"


class LogLevel(enum.Enum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """Python's."""
        return 10 * (1 + list(LogLevel).index(self))


class Checksum(enum.Enum):
    """How data on the wire is protected (hast.conf(5), checksum)."""

    NONE = "none"
    CRC32 = "crc32"
    SHA256 = "sha256"


class Compression(enum.Enum):
    """How data on the wire is made smaller (hast.conf(5), compression)."""

    NONE = "none"
    HOLE = "hole"
    LZF = "lzf"


class SyncSource(enum.IntEnum):
    """Whose data a resync copies; the numbers are those of the handshake's `syncsrc`."""

    PRIMARY = 1
    SECONDARY = 2


class Command(enum.IntEnum):
    """What a request on the wire asks for. 1 to 5 are HAST's, STATE is ours (protocol version 3)."""

    READ = 1
    WRITE = 2
    DELETE = 3
    FLUSH = 4
    KEEPALIVE = 5
    STATE = 6


class Consistency(enum.IntEnum):
    """Whether a component's data is one moment of the disk's life (promise 6)."""

    CONSISTENT = 1
    INCONSISTENT = 2


UNRECORDED = 1
"""As the base of a generation: what the other node was left with has none itself, because the original wrote it."""


@dataclass(frozen=True, slots=True)
class Generations:
    """Identities of the histories a component's data has been through, after DRBD's generation identifiers.

    `current` names the data as it is here; 0 means that nothing was ever written. `base` is the generation at which
    the other node was left behind (0: it is not behind), and the activemap holds every difference since then.
    `history` are older generations, newest first. A new `current` is drawn before the first write is acknowledged
    that the other node does not get, so two nodes that went separate ways never carry the same one.
    """

    current: int = 0
    base: int = 0
    history: tuple[int, int] = (0, 0)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """As stored in metadata and sent in handshakes: four u64."""
        return (self.current, self.base, *self.history)

    @classmethod
    def from_tuple(cls, values: tuple[int, ...]) -> Generations:
        """Raises ValueError unless there are exactly four values."""
        if len(values) != 4:
            raise ValueError(f"a set of generations has 4 values, not {len(values)}")
        return cls(values[0], values[1], (values[2], values[3]))

    def diverge(self, fresh: int, *, used: bool) -> Generations:
        """The primary writes alone: the data becomes generation `fresh` (random, neither 0 nor UNRECORDED).

        `used`: there was data before, all of it, that the other node may have too.
        """
        if self.base:
            return Generations(fresh, self.base, (self.current, self.history[0]))
        return Generations(fresh, self.current or (UNRECORDED if used else 0), self.history)

    def rejoined(self) -> Generations:
        """Both nodes have the same data again: nobody is behind."""
        if not self.base:
            return self
        return Generations(self.current, 0, (self.base, self.history[0]))
