"""What hastctl and hastd say to each other over the control socket: the original's messages, and a little of ours.

A request is `cmd` u8, [`role` u8], [`force` u8, `details` u8, `cells` u32, `level` str: ours], then `resource0`,
`resource1`, ... (or `all` alone). A reply is `error` i16 alone, or the fields of each resource, each name followed by
the resource's number; to UPGRADE also `before` str and `version` str, to a STATUS with `details` also `details` str of
each resource (JSON of `hastfs.details`). EVENTS has a reply for each of the `news` str (JSON of `hastfs.news`), without
end. A field that is not known is ignored on both sides, so either side may be the original's.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, field
from typing import Final

from hastfs.details import MAX_CELLS, Details
from hastfs.errors import ProtocolError
from hastfs.model import LogLevel, Role
from hastfs.news import News
from hastfs.protocol.frame import Frame, encode
from hastfs.protocol.nv import Nv, NvType, Value
from hastfs.volume import Buffer

MAX_NV: Final = 4 * 1024 * 1024
"""Bytes; the largest nv list on the control socket: status of some 4000 resources."""

ERROR_NO_RESOURCE: Final = 1
ERROR_INVALID: Final = 2
ERROR_UNIMPLEMENTED: Final = 4

ALL: Final = "all"
"""As the only resource of a request: every one that is configured."""

STATISTICS: Final = (
    "stat_read",
    "stat_write",
    "stat_delete",
    "stat_flush",
    "stat_activemap_update",
    "stat_read_error",
    "stat_write_error",
    "stat_delete_error",
    "stat_flush_error",
    "idle_queue_size",
    "local_queue_size",
    "send_queue_size",
    "recv_queue_size",
    "done_queue_size",
)
"""The original's statistics, in the order in which it sends them."""

_NUMBERED = re.compile(r"(.*\D)(\d{1,9})")
_STATISTIC = re.compile(r"stat_.+|.+_queue_size")


class ControlCommand(enum.IntEnum):
    """What hastctl asks for. 1 and 2 are HAST's, all others ours (newer releases of the original have STOP too)."""

    SETROLE = 1
    STATUS = 2
    STOP = 16
    RELOAD = 17
    ATTACH = 18
    UPGRADE = 19
    EVENTS = 20
    LOGLEVEL = 21


_OF_THE_DAEMON: Final = (ControlCommand.STOP, ControlCommand.RELOAD, ControlCommand.UPGRADE)  # and of no resource


class ControlError(ProtocolError):
    """A request that is answered with `code` (ERROR_INVALID, ERROR_UNIMPLEMENTED) instead of being carried out."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """`role` belongs to SETROLE. `force` (ours): leave or take a role although that is refused otherwise."""

    command: ControlCommand
    role: Role | None = None
    force: bool = False
    resources: tuple[str, ...] = ()
    details: bool = False
    """STATUS: with all that there is to know."""
    cells: int = 0
    """STATUS with details: parts of `Details.dirty_map`."""
    level: LogLevel | None = None
    """LOGLEVEL: from now on; None: only say it."""

    def encode(self) -> list[Buffer]:
        nv = Nv()
        nv.add("cmd", NvType.UINT8, self.command)
        if self.role is not None:
            nv.add("role", NvType.UINT8, self.role)
        if self.force:
            nv.add("force", NvType.UINT8, 1)
        if self.details:
            nv.add("details", NvType.UINT8, 1)
        if self.cells:
            nv.add("cells", NvType.UINT32, self.cells)
        if self.level is not None:
            nv.add("level", NvType.STRING, self.level.value)
        for number, resource in enumerate(self.resources):
            nv.add(f"resource{number}", NvType.STRING, resource)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Request:
        """ControlError: answer with its code. ProtocolError: close without an answer, as the original does."""
        nv = frame.nv
        number = nv.get_int("cmd", NvType.UINT8)
        if number is None:
            raise ProtocolError("control request without a command")
        try:
            command = ControlCommand(number)
        except ValueError:
            raise ControlError(ERROR_UNIMPLEMENTED, f"control request with the unknown command {number}") from None
        resources: list[str] = []
        while (resource := nv.get_str(f"resource{len(resources)}")) is not None:
            resources.append(resource)
        if not resources and command not in _OF_THE_DAEMON:
            raise ControlError(ERROR_INVALID, "control request without a resource")
        role = _role(nv) if command is ControlCommand.SETROLE else None
        force, details = (bool(nv.get_int(name, NvType.UINT8)) for name in ("force", "details"))
        cells = min(nv.get_int("cells", NvType.UINT32) or 0, MAX_CELLS)
        return cls(command, role, force, tuple(resources), details, cells, _level(nv))


def _role(nv: Nv) -> Role:
    number = nv.get_int("role", NvType.UINT8) or 0
    try:
        return Role(number)
    except ValueError:
        raise ControlError(ERROR_INVALID, f"control request with the unknown role {number}") from None


def _level(nv: Nv) -> LogLevel | None:
    word = nv.get_str("level")
    try:
        return None if word is None else LogLevel(word)
    except ValueError:
        raise ControlError(ERROR_INVALID, f"control request with the unknown log level {word}") from None


@dataclass(slots=True)
class ResourceStatus:
    """What a reply says of one resource; None: not said. `error` 0 is no error, `errmsg` (ours) explains another.

    In the answer to SETROLE `role` is the one the resource had before. `dirty` in bytes.
    """

    resource: str
    error: int = 0
    errmsg: str | None = None
    provname: str | None = None
    localpath: str | None = None
    remoteaddr: str | None = None
    sourceaddr: str | None = None
    replication: str | None = None
    checksum: str | None = None
    compression: str | None = None
    role: str | None = None
    workerpid: int | None = None
    status: str | None = None
    dirty: int | None = None
    extentsize: int | None = None
    keepdirty: int | None = None
    loglevel: str | None = None
    """LOGLEVEL only."""
    stats: dict[str, int] = field(default_factory=dict)
    """By the names of STATISTICS; others may be there too if they are called `stat_...` or `..._queue_size`."""
    details: Details | None = None
    """Only if they were asked for."""


# In the original's order, ours where a reader of the original's fields does not mind.
_FIELDS: Final = (
    ("error", NvType.INT16),
    ("errmsg", NvType.STRING),
    ("provname", NvType.STRING),
    ("localpath", NvType.STRING),
    ("remoteaddr", NvType.STRING),
    ("sourceaddr", NvType.STRING),
    ("replication", NvType.STRING),
    ("checksum", NvType.STRING),
    ("compression", NvType.STRING),
    ("role", NvType.STRING),
    ("workerpid", NvType.INT32),
    ("status", NvType.STRING),
    ("dirty", NvType.UINT64),
    ("extentsize", NvType.UINT32),
    ("keepdirty", NvType.UINT32),
    ("loglevel", NvType.STRING),
)


_WORDS: Final = ("errmsg", "before", "version", "loglevel")
"""Of a `Reply`."""


@dataclass(slots=True)
class Reply:
    """`error` of the whole request (then there are no resources), or what there is to say of each resource."""

    error: int = 0
    errmsg: str | None = None
    resources: list[ResourceStatus] = field(default_factory=list)
    before: str | None = None
    """UPGRADE: hastd's version until then."""
    version: str | None = None
    """UPGRADE: and from then on."""
    loglevel: str | None = None
    """LOGLEVEL: of what is about no resource."""
    news: News | None = None
    """EVENTS: of each reply."""

    def encode(self) -> list[Buffer]:
        nv = Nv()
        if self.error:
            nv.add("error", NvType.INT16, self.error)
        for name in _WORDS:
            if (text := getattr(self, name)) is not None:
                nv.add(name, NvType.STRING, text)
        if self.news is not None:
            nv.add("news", NvType.STRING, json.dumps(self.news.as_plain()))
        for number, status in enumerate(self.resources):
            _add_status(nv, number, status)
        return encode(nv.encode())

    @classmethod
    def decode(cls, frame: Frame) -> Reply:
        """Every field but the resources' names may be missing; one of a wrong type counts as missing."""
        numbered = _by_number(frame.nv)
        resources: list[ResourceStatus] = []
        while (fields := numbered.get(len(resources))) is not None and "resource" in fields:
            resources.append(_status(fields))
        nv = frame.nv
        error = nv.get_int("error", NvType.INT16) or 0
        return cls(error, resources=resources, news=_news(nv), **{name: nv.get_str(name) for name in _WORDS})


_Fields = dict[str, tuple[NvType, Value]]


def _add_status(nv: Nv, number: int, status: ResourceStatus) -> None:
    nv.add(f"resource{number}", NvType.STRING, status.resource)
    for name, kind in _FIELDS:
        value = getattr(status, name)
        if value is not None and (name != "error" or value):
            nv.add(f"{name}{number}", kind, value)
    known = [name for name in STATISTICS if name in status.stats]
    for name in [*known, *(name for name in status.stats if name not in STATISTICS)]:
        nv.add(f"{name}{number}", NvType.UINT64, status.stats[name])
    if status.details is not None:
        nv.add(f"details{number}", NvType.STRING, json.dumps(status.details.as_plain()))


def _by_number(nv: Nv) -> dict[int, _Fields]:
    """The list's entries by the number their names end with."""
    numbered: dict[int, _Fields] = {}
    for name, kind, value in nv:
        if match := _NUMBERED.fullmatch(name):
            numbered.setdefault(int(match[2]), {}).setdefault(match[1], (kind, value))
    return numbered


def _status(fields: _Fields) -> ResourceStatus:
    kind, resource = fields["resource"]
    if kind is not NvType.STRING:
        raise ProtocolError("control reply with a resource that has no name")
    status = ResourceStatus(str(resource))
    for name, wanted in _FIELDS:
        found = fields.get(name)
        if found is not None and found[0] is wanted:
            setattr(status, name, found[1])
    for name, (kind, value) in fields.items():
        if kind is NvType.UINT64 and isinstance(value, int) and _STATISTIC.fullmatch(name):
            status.stats[name] = value
    kind, value = fields.get("details", (NvType.STRING, ""))
    status.details = _details(str(value)) if kind is NvType.STRING else None
    return status


def _news(nv: Nv) -> News | None:
    """None for anything else."""
    try:
        return News.from_plain(json.loads(nv.get_str("news") or "null"))
    except (ValueError, RecursionError):
        return None


def _details(text: str) -> Details | None:
    """None for anything else."""
    try:
        plain = json.loads(text)
        return Details.from_plain(plain) if isinstance(plain, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
