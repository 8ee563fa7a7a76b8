"""What one hastd leaves to the program that takes its place in the same process (docs/upgrading.md). Pure.

It is one JSON object. Descriptors are in it by number: they stay open, under that number, when the program changes.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hastfs.config.schema import Config
from hastfs.errors import DataError
from hastfs.model import Role
from hastfs.resource.remotecache import Risk

FORMAT = 1
"""Raised when something changes that a program which does not know of it would get wrong. What may be missing has a
default here, and what is not known is ignored: so much can change within a format."""

CAN_INHERIT = "--can-inherit"
"""Option of hastd, with the number of a descriptor: print the version and end with 0 if it can take over what is
described there."""

INHERIT = "--inherit"
"""Option of hastd, with the number of a descriptor: take over what is described there."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class InheritedWorker:
    """A worker that goes on meanwhile. Its link is a `workerlink`, of which it has to understand HandOver and Stop."""

    pid: int
    pidfd: int
    link: int
    ready: bool
    connected: bool
    """By what it told of events: it has not told yet of the link's end."""
    syncing: bool
    asked: int
    """The highest number of a question that it was asked."""


@dataclass(frozen=True, slots=True)
class InheritedImage:
    """What applications see of a primary."""

    fuse: int
    device: str | None
    """The loop device, if there is one."""


@dataclass(frozen=True, slots=True)
class InheritedResource:
    """One that has a role. What cannot change while it has: provider, local and device, as hast.conf(5) has them."""

    name: str
    role: str
    provider: str
    local: str
    device: bool
    split_brain: bool
    """It was told to the hooks already."""
    image: InheritedImage | None
    worker: InheritedWorker | None
    in_order: bool
    """Without a worker: the one before left no request unanswered."""
    detached: str | None = None
    """Of a primary whose component failed: the metadata that it needs to go on without, in hexadecimal digits."""
    risk: Risk | None = None
    """Of a primary: what its worker said last of what only the other node's cache may have."""
    fenced: bool = False
    """Of a primary: it was allowed to be without the other node."""


@dataclass(frozen=True, slots=True)
class InheritedDoors:
    """The descriptors, and what hast.conf says that they were opened for."""

    pidfile: str
    control: str
    listen: tuple[str, ...]
    pidfile_fd: int
    control_fd: int
    listener_fds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inheritance:
    """All of it."""

    version: str
    """Of the program that leaves it."""
    command: tuple[str, ...]
    """What hastd was started with; its first word is the path of the interpreter."""
    directory: str
    """Where it was started."""
    config: str
    """What hast.conf says: the successor goes by it, whatever becomes of the file."""
    mountdir: str
    doors: InheritedDoors
    client: int
    """The control connection of whoever asked for the successor, and waits for its answer."""
    resources: tuple[InheritedResource, ...]
    helpers: tuple[int, ...] = ()
    """Processes that end when `kept` is closed, to be waited for (waitpid(2))."""
    kept: tuple[int, ...] = ()
    """Descriptors to be closed when none of the inherited workers is left."""

    @property
    def descriptors(self) -> list[int]:
        """Every one of them."""
        found = [self.doors.pidfile_fd, self.doors.control_fd, *self.doors.listener_fds, self.client, *self.kept]
        for resource in self.resources:
            if resource.image is not None:
                found.append(resource.image.fuse)
            if resource.worker is not None:
                found += (resource.worker.pidfd, resource.worker.link)
        return found

    def encode(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()


def decode(data: bytes) -> Inheritance:
    """Raises DataError."""
    try:
        plain = json.loads(data)
        found = plain.pop("format")
        before = plain.get("version", "unknown")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"This is not what a hastd leaves to its successor: {data[:80]!r}.") from error
    if found != FORMAT:
        raise DataError(
            f"This version of hastd cannot take over from version {before}: it does not know what that leaves "
            f"(format {found}, not {FORMAT}). Stop hastd, and start it again."
        )
    try:
        inheritance = _build(Inheritance, plain)
        for resource in inheritance.resources:
            Role.from_word(resource.role)
            bytes.fromhex(resource.detached or "")
    except (TypeError, ValueError) as error:
        raise DataError(f"What hastd leaves to its successor is damaged: {error}.") from error
    return inheritance


def refuse_changes(inheritance: Inheritance, config: Config) -> None:
    """DataError if `config` has other doors than those that are inherited, or not the resources as they are inherited:
    that is for a reload, which knows how to get from one to the other.
    """
    doors = inheritance.doors
    changed = [
        word
        for word, before, now in (
            ("mountdir", inheritance.mountdir, config.mountdir),
            ("pidfile", doors.pidfile, config.pidfile),
            ("control", doors.control, config.control),
            ("listen", doors.listen, tuple(address.text for address in config.listen)),
        )
        if before != now
    ]
    for resource in inheritance.resources:
        now = config.resources.get(resource.name)
        if now is None or (now.provider, now.local, now.device) != (resource.provider, resource.local, resource.device):
            changed.append(f"resource {resource.name}")
    if changed:
        raise DataError(f"hast.conf has changes that are not yet in force ({', '.join(changed)}): reload it first.")


def _build(kind: type[_T], plain: Any) -> _T:
    """A value of the type `kind`, out of what `asdict` and JSON made of one. TypeError if it is none."""
    if is_dataclass(kind):
        if not isinstance(plain, dict):
            raise TypeError(f"{kind.__name__} is no object")
        hints = get_type_hints(kind)
        values: dict[str, Any] = {}
        for field in fields(kind):
            if field.name in plain:
                values[field.name] = _build(hints[field.name], plain[field.name])
            elif field.default is MISSING:
                raise TypeError(f"{kind.__name__} has no {field.name}")
        return kind(**values)
    if get_origin(kind) is tuple:
        if not isinstance(plain, list):
            raise TypeError(f"{plain!r} is no list")
        return tuple(_build(get_args(kind)[0], item) for item in plain)  # type: ignore[return-value]
    if get_origin(kind) in (types.UnionType, Union):
        (wanted,) = (each for each in get_args(kind) if each is not type(None))
        return None if plain is None else _build(wanted, plain)  # type: ignore[return-value]
    if type(plain) is not kind:
        raise TypeError(f"{plain!r} is not of type {kind.__name__}")
    return plain
