"""What supervisor and worker say to each other: JSON objects over a SOCK_SEQPACKET socket pair, one per packet.

The end of the link means that the other process is gone: a worker then ends by itself, whatever killed its supervisor.
"""

from __future__ import annotations

import json
import logging
import socket
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

import trio

from hastfs.checks import check_text
from hastfs.config.schema import ResourceConfig
from hastfs.errors import HastError
from hastfs.model import LogFormat, LogLevel
from hastfs.resource.events import Event
from hastfs.resource.remotecache import Risk
from hastfs.resource.status import Status

log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Messages that a process has not read, beyond what its socket has room for. There are some few in an hour."""

_LARGEST = 64 * 1024  # bytes of a packet; a status has 3 KiB, with a map up to 28 KiB


@dataclass(frozen=True, slots=True)
class AskStatus:
    """To the worker: answer with a `StatusAnswer` of the same number."""

    number: int
    cells: int = 0
    """Of the map of what is dirty (`Details.dirty_map`). A worker of an older program knows no such field: it is sent
    none."""


@dataclass(frozen=True, slots=True)
class Configure:
    """To the worker: do as this configuration says from now on, and answer with `Configured` of the same number."""

    number: int
    config: dict[str, Any]

    @property
    def as_config(self) -> ResourceConfig:
        """Raises TypeError, KeyError or ValueError if this is no configuration."""
        return ResourceConfig.from_plain(self.config)


@dataclass(frozen=True, slots=True)
class Log:
    """To the worker: log in this form (`LogFormat`) and from this level on (`LogLevel`)."""

    form: str
    level: str

    @property
    def as_words(self) -> tuple[LogFormat, LogLevel]:
        """Raises ValueError for words that are none of ours."""
        return LogFormat(self.form), LogLevel(self.level)


@dataclass(frozen=True, slots=True)
class Stop:
    """To the worker: end in order."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """To a primary's worker: leave the image to a successor. It takes no more requests, answers those that it took,
    says `HandedOver`, and ends in order. Nobody who uses the image sees anything but a pause.
    """


@dataclass(frozen=True, slots=True)
class Fenced:
    """To a primary's worker: what came of fencing the other node. `reason`, if it must not go on: a sentence."""

    go_on: bool
    reason: str


@dataclass(frozen=True, slots=True)
class WantFenced:
    """From a primary's worker: it must not go on before the other node is fenced; or (`wanted` is false) the link is
    back, and it does not matter any more.
    """

    wanted: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: it serves."""


@dataclass(frozen=True, slots=True)
class Happened:
    """From the worker: something for the hooks."""

    event: str

    @property
    def as_event(self) -> Event:
        """Raises ValueError for a word that is none of ours."""
        return Event(self.event)


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """From the worker."""

    number: int
    status: dict[str, Any]

    @property
    def as_status(self) -> Status:
        """Raises TypeError or ValueError if these are not the fields of a status."""
        return Status.from_dict(self.status)


@dataclass(frozen=True, slots=True)
class Configured:
    """From the worker: what it does next, it does as `Configure` said."""

    number: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """From the worker: every request that it took from the kernel is answered."""


@dataclass(frozen=True, slots=True)
class Detached:
    """From the worker: the component failed, the resource goes on with the other node's copy. A successor needs
    `metadata`, a block in hexadecimal digits, to do so.
    """

    metadata: str

    @property
    def as_metadata(self) -> bytes:
        """Raises ValueError for other digits."""
        return bytes.fromhex(self.metadata)


@dataclass(frozen=True, slots=True)
class AtRisk:
    """From the worker: what its successor has to know of what only the other node's cache may have (`Risk`)."""

    boot: int
    lost: bool

    @property
    def as_risk(self) -> Risk:
        return Risk(self.boot, self.lost)


@dataclass(frozen=True, slots=True)
class Failed:
    """From the worker, last: why it ends."""

    message: str
    exit_code: int
    temporary: bool
    """A new worker may do better."""


Order: TypeAlias = AskStatus | Configure | Log | Stop | HandOver | Fenced
Report: TypeAlias = Ready | Happened | StatusAnswer | Configured | HandedOver | Detached | AtRisk | WantFenced | Failed

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Order), *get_args(Report))}
_PLAIN = (int, str, bool, dict)


class LinkError(HastError):
    """The other process sent what is no message of ours."""


def encode(message: Order | Report) -> bytes:
    """One packet."""
    fields = asdict(message)
    if isinstance(message, AskStatus) and not message.cells:
        del fields["cells"]
    return json.dumps({"kind": type(message).__name__, **fields}).encode()


def decode(packet: bytes) -> Order | Report:
    """Raises LinkError."""
    try:
        fields = json.loads(packet)
        kind = _KINDS[fields.pop("kind")]
        message: Order | Report = kind(**fields)
        _check(message)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LinkError(f"not a message between supervisor and worker: {packet[:80]!r}") from error
    return message


def _check(message: Order | Report) -> None:
    """TypeError or ValueError if a field is not what it is declared to be, or cannot be passed on to hastctl: readers
    take that for granted.
    """
    for name, hint in get_type_hints(type(message)).items():
        wanted = get_origin(hint) or hint
        if wanted in _PLAIN and type(getattr(message, name)) is not wanted:
            raise TypeError(f"{name} is not of type {wanted.__name__}")
    if isinstance(message, Failed):
        check_text(message.message)
        if not 0 <= message.exit_code <= 255:
            raise ValueError(f"{message.exit_code} is no exit code")


class LinkEnd:
    """One end of the link, for one reader and any number of senders."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._waiting: deque[bytes] = deque()
        self._more = trio.Event()
        sock.setblocking(False)

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._socket.fileno()

    async def receive(self) -> Order | Report | None:
        """The next message; None when the other process is gone."""
        while True:
            await trio.lowlevel.checkpoint()
            try:
                packet = self._socket.recv(_LARGEST)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except OSError:
                return None
            else:
                return decode(packet) if packet else None

    def send(self, message: Order | Report) -> None:
        """Never waits. What a process that does not read has no room for is kept for `deliver`, but for questions how
        it is and their answers: whoever asks waits with a bound, and asks again.
        """
        packet = encode(message)
        if not self._waiting and self._sent(packet):
            return
        if isinstance(message, AskStatus | StatusAnswer) or len(self._waiting) >= MAX_WAITING:
            log.warning("The other process does not read its messages; %s is lost.", type(message).__name__)
            return
        self._waiting.append(packet)
        self._more.set()

    @property
    def waiting(self) -> int:
        """Messages that `deliver` has to send."""
        return len(self._waiting)

    async def deliver(self) -> None:
        """Sends what was kept, in order, when it is read again; runs for ever."""
        while True:
            await self._more.wait()
            await trio.lowlevel.wait_writable(self._socket)
            while self._waiting and self._sent(self._waiting[0]):
                self._waiting.popleft()
            if not self._waiting:
                self._more = trio.Event()

    def _sent(self, packet: bytes) -> bool:
        """False if there is no room."""
        try:
            self._socket.send(packet)
        except BlockingIOError:
            return False
        except OSError:
            pass  # Gone: its reader sees the end of the link.
        return True

    def close(self) -> None:
        """The other process sees the end of the link."""
        self._socket.close()


def socketpair() -> tuple[socket.socket, socket.socket]:
    """(the supervisor's, the worker's)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
