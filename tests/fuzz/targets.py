"""What is fuzzed: each decoder of bytes from outside, and what must be true whatever the bytes are.

A target is plain Python. A fuzzer calls `check` with bytes of its own making; the kept inputs go through `check` and
`price` as ordinary tests (test_corpus.py). What must be true: a refusal is the documented error, on one line; the price
is bounded; and what is understood, encoded again, is understood as the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from unittest import mock

from hastfs.cli import plain, table
from hastfs.cli.monitor import view
from hastfs.cli.monitor.chronicle import happening
from hastfs.cli.monitor.scene import Scene
from hastfs.config import files
from hastfs.config.complaint import PLACES
from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon import workerlink
from hastfs.daemon.diagnosis import diagnosed, unanswered
from hastfs.daemon.metrics.catalogue import STATES
from hastfs.daemon.metrics.exposition import exposition
from hastfs.daemon.workerlink import Configure, Failed, Happened, LinkError, StatusAnswer
from hastfs.details import Details, Sync
from hastfs.errors import ConfigError, DataError, MetadataError, ProtocolError
from hastfs.goal import Goal
from hastfs.model import Checksum, Command, Compression, Consistency
from hastfs.news import Kind, News, Picture, facts
from hastfs.ondisk import metadata
from hastfs.ondisk.layout import COPY_SIZE
from hastfs.protocol import control, handshake, replication
from hastfs.protocol import frame as framing
from hastfs.protocol.control import ResourceStatus
from hastfs.protocol.frame import HEAD, Frame, FrameReader, for_version
from hastfs.protocol.handshake import Hello, Joining, Refusal, Terms, Welcome
from hastfs.protocol.nv import Nv, NvType, encode_entry
from hastfs.protocol.payload import Payload, pack, unpack, zeros
from hastfs.protocol.probe import Answer, Probe
from hastfs.volume import Buffer
from tests.property.test_decoders import (
    KINDS,
    LIMIT,
    LONGEST_REFUSAL,
    MAX_NV,
    ROOM_FOR_FRAMES,
    frames,
    joined,
    priced,
    understood,
)

AT_ONCE: Final = [1 << 20]
"""How a stream is received when that does not matter."""


@dataclass(frozen=True)
class Target:
    """`allowed`: bytes that `decode` may need besides those that follow from the input's length."""

    name: str
    decode: Callable[[bytes], object]
    refusal: type[Exception] | tuple[type[Exception], ...]
    words: tuple[bytes, ...] = ()
    """What inputs may be made of: a fuzzer finds these by itself only after a long time."""
    allowed: int = 0
    expansion: int = 0
    """Bytes that a byte of the input may cost, beyond what test_decoders.py allows."""
    longest: Callable[[bytes], int] = lambda raw: LONGEST_REFUSAL
    """Characters of a refusal."""

    def check(self, raw: bytes) -> None:
        """Raises whatever is wrong; AssertionError if nobody noticed."""
        understood(self.decode, self.refusal, raw, self.longest(raw))

    def price(self, raw: bytes) -> None:
        """As `check`, and AssertionError for one that takes too much time or memory."""
        priced(self.decode, self.refusal, raw, self.allowed + self.expansion * len(raw), longest=self.longest(raw))


# -- nv lists, messages, data ------------------------------------------------------------------------------------------


def nv(raw: bytes) -> None:
    found = Nv.decode(raw)
    again = Nv.decode(found.encode())
    assert list(again) == list(found)
    for name, kind, _ in found:
        assert again.get(name, kind) == found.get(name, kind)


def stream(raw: bytes) -> None:
    """The first two bytes say how long the pieces are in which the others come; the messages are the same in any case.

    The receive buffer is a small one: moving what is pending, and growing, is most of what can go wrong.
    """
    cuts, raw = [1 + cut for cut in raw[:2]] or [1], raw[2:]
    expected, refused = _cut_by_hand(raw)
    with mock.patch.multiple(framing, _ROOM=16, _FIRST_SIZE=64):
        for how in (AT_ONCE, cuts):
            found, refusal = _received(raw, how)
            assert (found, refusal is not None) == (expected, refused)
    if refusal is not None:
        raise refusal


Messages: TypeAlias = list[tuple[int, bytes, bytes]]
"""Version, list (encoded again) and data of each."""


def _received(raw: bytes, cuts: list[int]) -> tuple[Messages, ProtocolError | None]:
    found: Messages = []
    try:
        for frame in frames(raw, cuts):
            found.append((frame.version, frame.nv.encode(), bytes(frame.data)))
    except ProtocolError as error:
        return found, error
    return found, None


def _cut_by_hand(raw: bytes) -> tuple[Messages, bool]:
    """The messages, and whether what comes then cannot be one."""
    found: Messages = []
    while len(raw) >= HEAD.size:
        version, size = HEAD.unpack_from(raw)
        if version > 2 or size > MAX_NV:
            return found, True
        if len(raw) < HEAD.size + size:
            break
        try:
            listed = Nv.decode(raw[HEAD.size : HEAD.size + size])
        except ProtocolError:
            return found, True
        end = HEAD.size + size + (listed.get_int("size", NvType.UINT32) or 0)
        if end - HEAD.size - size > LIMIT:
            return found, True
        if len(raw) < end:
            break
        found.append((version, listed.encode(), raw[HEAD.size + size : end]))
        raw = raw[end:]
    return found, False


COMPRESSIONS: Final = (None, "none", "hole", "lzf", "")
CHECKSUMS: Final = (None, "none", "crc32", "sha256", "")


def payload(raw: bytes) -> None:
    """The first byte says how the others are packed, and whether their hash is right."""
    how, data = (raw[0], raw[1:]) if raw else (0, b"")
    head = Nv()
    if (compression := COMPRESSIONS[how % 5]) is not None:
        head.add("compression", NvType.STRING, compression)
    if (checksum := CHECKSUMS[how // 5 % 5]) is not None:
        head.add("checksum", NvType.STRING, checksum)
        if how < 125 and checksum in ("crc32", "sha256") and data:
            head.add(*pack(data, Compression.NONE, Checksum(checksum)).fields[1])
        elif how < 200:
            head.add("hash", NvType.UINT8_ARRAY, data[:32] or b"\0")
    found = unpack(head, data, LIMIT)
    assert found.length <= LIMIT
    _unpacks_as(found, Compression.LZF, Checksum.SHA256)
    _unpacks_as(found, Compression.HOLE, Checksum.CRC32)
    _unpacks_as(found, Compression.NONE, Checksum.NONE)


def content(found: Payload | None) -> bytes:
    """The bytes, whether they came as bytes or as a hole."""
    if found is None:
        return b""
    if found.data is None:
        return bytes(zeros(found.length))
    assert len(found.data) == found.length
    return bytes(found.data)


def _unpacks_as(found: Payload, compression: Compression, checksum: Checksum) -> None:
    packed = pack(content(found), compression, checksum)
    head = Nv()
    for name, kind, value in packed.fields:
        head.add(name, kind, value)
    assert content(unpack(head, packed.data, LIMIT)) == content(found)


def only(message: list[Buffer]) -> Frame:
    """The message as the other side gets it; not even one of ours is too long for it."""
    reader = FrameReader(control.MAX_NV, LIMIT)
    raw = joined(message)
    at = 0
    while at < len(raw):
        room = reader.buffer()
        count = min(len(room), len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at += count
        if at < len(raw):
            assert reader.next() is None
    frame = reader.next()
    assert frame is not None
    return frame


def of_messages(decode: Callable[[Frame], None]) -> Callable[[bytes], None]:
    """For a stream of messages: all are tried, the last refusal counts.

    The first byte says how the others are a stream: as they are (even), or (odd) as a list, a zero and data, for which
    the head and `size` are made here: changing either is then no more than a change.
    """

    def decode_all(raw: bytes) -> None:
        refusal: ProtocolError | None = None
        for frame in frames(_message(raw) if raw[:1] and raw[0] & 1 else raw[1:], AT_ONCE):
            try:
                decode(frame)
            except ProtocolError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    return decode_all


def _message(raw: bytes) -> bytes:
    version, body = raw[0] >> 1 & 3, raw[1:]
    try:
        end = Nv.decode(body).encoded_size
    except ProtocolError:
        end = len(body)
    listed, data = body[:end], body[end + 1 :]
    if data:
        listed += encode_entry("size", NvType.UINT32, len(data))
    return HEAD.pack(version, len(listed)) + listed + data


# -- what the messages say ---------------------------------------------------------------------------------------------


def _terms(frame: Frame) -> Terms | Refusal:
    return Terms.decode(frame, max_map=LIMIT)


HANDSHAKE: Final[tuple[Callable[[Frame], Hello | Joining | Welcome | Refusal | Terms], ...]] = (
    handshake.decode_opening,
    Hello.decode,
    Joining.decode,
    Welcome.decode,
    Refusal.decode,
    _terms,
)


def opening(frame: Frame) -> None:
    """Every message is tried as each of those of the handshake."""
    refusal: ProtocolError | None = None
    for decode in HANDSHAKE:
        try:
            found = decode(frame)
        except ProtocolError as error:
            refusal = error
        else:
            # The head tells version 0 from 1, and the list does not say either.
            sent = for_version(found.encode(), found.version) if isinstance(found, Hello | Welcome) else found.encode()
            if isinstance(found, Joining | Terms) and found.generations is None:
                found = replace(found, consistency=Consistency.CONSISTENT)  # the one is not sent without the other
            assert decode(only(sent)) == found
            if isinstance(found, Terms):
                assert decode(only(found.encode(Compression.HOLE, Checksum.CRC32))) == found
    if refusal is not None:
        raise refusal


def question(frame: Frame) -> None:
    """What `check` asks another node, and is answered."""
    try:
        answer = Answer.decode(frame)
    except ProtocolError as error:
        refusal: ProtocolError | None = error
    else:
        refusal = None
        if isinstance(answer, Answer):
            assert answer.program.isprintable()
            again = Answer.decode(only(answer.encode()))
            assert isinstance(again, Answer)
            assert replace(again, time=answer.time) == answer  # microseconds of a time that is far away are lost
    asked = Probe.decode(frame)
    if asked is not None:
        assert not asked.token or Probe.decode(only(asked.encode())) == asked
    elif refusal is not None:
        raise refusal


def request(frame: Frame) -> None:
    found = replication.decode_request(frame, LIMIT)
    errno = replication.validate_request(found, 1 << 20, LIMIT)
    assert errno >= 0
    if found.command is Command.WRITE and not errno:
        assert len(_written(found)) == found.length
    if found.offset < 0 or found.length < 0:
        assert errno, "a request lacks what it needs"
        return
    again = replication.decode_request(only(_request_again(found)), LIMIT)
    assert _written(again) == _written(found)
    again.data = found.data
    assert again == found


def _written(found: replication.Request) -> bytes:
    if found.command is not Command.WRITE or not 0 < found.length <= LIMIT:
        return b""
    return bytes(found.length) if found.data is None else bytes(found.data)


def _request_again(found: replication.Request) -> list[Buffer]:
    if found.command is Command.KEEPALIVE:
        return replication.encode_keepalive()
    if found.state is not None:
        return replication.encode_state(found.seq, found.state.consistency, found.state.generations)
    is_write = found.command is Command.WRITE and 0 < found.length <= LIMIT
    packed = pack(_written(found), Compression.LZF, Checksum.CRC32) if is_write else None
    return replication.encode_request(
        found.command, found.seq, found.offset, found.length, memsync=found.memsync, packed=packed
    )


def reply(frame: Frame) -> None:
    found = replication.decode_reply(frame, LIMIT)
    packed = pack(content(found.payload), Compression.HOLE, Checksum.SHA256) if found.payload else None
    sent = replication.encode_reply(found.seq, received=found.received, error=found.error, packed=packed)
    again = replication.decode_reply(only(sent), LIMIT)
    assert content(again.payload) == content(found.payload)
    again.payload = found.payload
    assert again == found


def control_request(frame: Frame) -> None:
    found = control.Request.decode(frame)
    assert control.Request.decode(only(found.encode())) == found


def control_reply(frame: Frame) -> None:
    found = control.Reply.decode(frame)
    assert control.Reply.decode(only(found.encode())) == found


# -- disk --------------------------------------------------------------------------------------------------------------

_CRC: Final = encode_entry("crc", NvType.UINT32, 0)[:-8]


def copies(raw: bytes) -> None:
    """The first byte says of which of the two copies the checksum is made right."""
    how, first, second = raw[:1], raw[1 : 1 + COPY_SIZE], raw[1 + COPY_SIZE : 1 + 2 * COPY_SIZE]
    found, warning = metadata.choose(
        *(_sector(copy, bool(how and how[0] & bit)) for copy, bit in ((first, 1), (second, 2)))
    )
    assert warning is None or warning.isprintable()
    assert found.nextents <= 8 * found.mapsize
    assert found.localoff + found.datasize < 1 << 64
    try:
        again = metadata.encode(found)
    except DataError as error:
        assert found.resource in str(error)  # a name that is not too long for the original is for us
        assert len(found.resource.encode()) > 100
    else:
        assert metadata.decode_copy(again) == found
        assert metadata.choose(again, again) == (found, None)


def _sector(copy: bytes, sealed: bool) -> bytes:
    if sealed:
        try:
            body = copy[: Nv.decode(copy).encoded_size]
        except ProtocolError:
            body = copy
        at = body.rfind(_CRC)
        body = (body if at < 0 else body[:at])[: COPY_SIZE - len(_CRC) - 8]
        copy = body + encode_entry("crc", NvType.UINT32, metadata.crc32c(body))
    return copy.ljust(COPY_SIZE, b"\0")


# -- text --------------------------------------------------------------------------------------------------------------

NODE: Final = ("me", "me.example.org", "0123456789abcdef0123456789abcdef")


def config_file(raw: bytes) -> None:
    """As a file, on a machine with these names."""
    fd = os.memfd_create("hast.conf")
    try:
        os.write(fd, raw)
        path = f"/proc/self/fd/{fd}"
        with mock.patch.object(files, "node_names", lambda: NODE):
            try:
                found = files.load(path)
            except ConfigError as error:
                assert re.match(rf"{path}:[1-9][0-9]*: .", str(error)), str(error)
                raise
    finally:
        os.close(fd)
    _usable(found)


def _usable(found: Config) -> None:
    """What the daemon takes for granted."""
    assert found.control.startswith("/")
    for name, resource in found.resources.items():
        assert name == resource.name
        assert resource.local.startswith("/")
        assert "/" not in resource.provider
        assert resource.timeout > 0
        assert ResourceConfig.from_plain(resource.as_plain()) == resource
    assert all(warning.isprintable() for warning in found.warnings)


def packet(raw: bytes) -> None:
    """Between supervisor and worker; neither believes the other, since a worker has to do with strangers."""
    found = workerlink.decode(raw)
    assert repr(workerlink.decode(workerlink.encode(found))) == repr(found)  # what is no number is not equal to itself
    try:
        if isinstance(found, StatusAnswer):
            _told_to_users(_status(found))
        elif isinstance(found, Failed):
            _told_to_users(ResourceStatus("test", error=found.exit_code, errmsg=found.message))
        elif isinstance(found, Happened):
            assert found.as_event.value == found.event
        elif isinstance(found, Configure):
            assert ResourceConfig.from_plain(found.as_config.as_plain()) == found.as_config
    except (TypeError, KeyError, ValueError) as error:
        raise LinkError("refused at the second look") from error


def _status(found: StatusAnswer) -> ResourceStatus:
    status = found.as_status
    return ResourceStatus(
        "test",
        status=status.status or None,
        dirty=status.dirty,
        extentsize=status.extentsize,
        keepdirty=status.keepdirty,
        stats=status.stats,
        details=status.details,
    )


def _told_to_users(status: ResourceStatus) -> None:
    try:
        control.Reply(resources=[status]).encode()
    except (ValueError, TypeError) as error:
        raise AssertionError(f"what a worker says stops hastd from answering hastctl: {error}") from error


def details(raw: bytes) -> None:
    """JSON from a worker, that is from whoever has broken into one: all that is made of it has to be possible."""
    found = Details.from_plain(_object(raw))
    with _no_refusal():
        _shown(found)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _shown(found: Details) -> None:
    """On its way to metrics, events, and people."""
    assert Details.from_plain(json.loads(json.dumps(found.as_plain()))) == found
    for one in (diagnosed(found, "disk", 1 << 21, 64), unanswered(found, 7)):
        reply = control.Reply.decode(only(control.Reply(resources=[ResourceStatus("disk", details=one)]).encode()))
        assert reply.resources[0].details == one
        event = News(1.0, Kind.CHANGE, "disk", facts(one))
        assert News.from_plain(json.loads(json.dumps(event.as_plain()))) == event
        assert event.line().isprintable()
        json.loads(plain.encode(plain.listed(reply.resources[0])), parse_constant=_no_json)
        look = table.look(reply.resources[0], one)
        drawn = Scene("node")
        for moment in (1.0, 2.0):
            drawn.looked([look], now=moment, at=moment)
        drawn.mapped("disk", one.dirty_map)
        for width in (20, 100):
            lines = [table.render([look], width=width, now=1e9), *view.render(drawn, width=width, height=30)]
            assert all(line.isprintable() for text in lines for line in text.plain.split("\n"))
    for accept in ("", "application/openmetrics-text"):
        assert exposition({"disk": found}, 0.1, accept)[0].count(b"\n") < 1000


@contextmanager
def _no_refusal() -> Iterator[None]:
    """It comes too late."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise AssertionError(f"understood, and of no use: {error!r}") from error


def _no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def news(raw: bytes) -> None:
    """From another version of hastd."""
    found = News.from_plain(_object(raw))
    with _no_refusal():
        _heard(found)


def _heard(found: News) -> None:
    assert News.from_plain(json.loads(json.dumps(found.as_plain()))) == found
    assert found.line().isprintable()
    json.loads(plain.encode(plain.news(found)), parse_constant=_no_json)
    picture = Picture()
    picture.take(found)
    assert all(goal.missing(picture) is not None for goal in Goal)
    happened = happening(found)
    if happened is not None:
        scene = Scene("node")
        scene.happened(happened)
        assert all(line.plain.isprintable() for line in view.render(scene, width=80, height=30))


# -- all of them -------------------------------------------------------------------------------------------------------


def _example(name: str, kind: NvType) -> bytes:
    """An entry of the kind; it need not mean anything."""
    if kind is NvType.STRING:
        return encode_entry(name, kind, "test")
    if kind is NvType.UINT8_ARRAY:
        return encode_entry(name, kind, bytes(range(16)))
    return encode_entry(name, kind, (1, 2, 3, 4) if kind >= NvType.INT8_ARRAY else 1)


def _entries(*names: str) -> tuple[bytes, ...]:
    return tuple(_example(name, KINDS[name]) for name in names)


_PACKING = (*_entries("compression", "checksum", "hash", "size"), b"hole\0", b"lzf\0", b"crc32\0", b"sha256\0")
_OPENING = _entries(
    *("resource", "version", "token", "errmsg", "wait", "virgin", "resuid", "datasize", "extentsize", "localcnt"),
    *("remotecnt", "syncsrc", "mapsize", "generation", "state"),
)
_REPLIED = tuple(
    _example(f"{name}{number}", kind)
    for number in (0, 1)
    for name, kind in (
        *((name, NvType.STRING) for name in ("resource", "errmsg", "provname", "remoteaddr", "role", "status")),
        *((name, NvType.UINT64) for name in ("dirty", "stat_read", "stat_other", "idle_queue_size")),
        *((name, NvType.UINT32) for name in ("extentsize", "keepdirty")),
        ("error", NvType.INT16),
        ("workerpid", NvType.INT32),
    )
)
_METADATA = (
    *_entries("resource", "extentsize", "resuid", "localcnt", "remotecnt", "generation", "state"),
    *(_example(name, NvType.UINT64) for name in ("datasize", "offset", "serial")),
    *(_example(name, NvType.UINT32) for name in ("keepdirty", "extentsize", "crc")),
    *(encode_entry("prevrole", NvType.STRING, word) for word in ("init", "primary", "secondary")),
)
_KEYWORDS = tuple(
    word.encode()
    for word in (
        *PLACES,
        *("fullsync", "memsync", "async", "none", "crc32", "sha256", "hole", "lzf", "off"),
        *("me", "{", "}", "/disk", "tcp4://192.0.2.1:8457", "tcp6://[::1]", "unix:///c", "other.example.org", "#"),
    )
)
_PACKETS = tuple(
    word.encode()
    for word in (
        *(
            f'"{kind}"'
            for kind in ("AskStatus", "Configure", "Stop", "Ready", "Happened", "StatusAnswer", "Configured")
        ),
        *(f'"{field}"' for field in ("Failed", "kind", "number", "config", "event", "status", "message", "exit_code")),
        *(f'"{field}"' for field in ("temporary", "dirty", "extentsize", "keepdirty", "stats", "stat_read")),
        *(f'"{field}": ' for field in ResourceConfig.__dataclass_fields__),
        *("connect", "null", "true", "NaN", "1e999", "18446744073709551616", "-1", "\\ud800", "\\u0000", "{}", "[]"),
    )
)


_PROBED = (
    *_entries("resource", "token", "errmsg", "datasize", "extentsize", "resuid"),
    *(_example(name, NvType.UINT8) for name in ("probe", "version", "role")),
    *(_example(name, NvType.STRING) for name in ("program", "replication", "checksum", "compression", "component")),
    *(_example(name, NvType.UINT64) for name in ("time", "localcnt", "remotecnt")),
    *(_example("timeout", NvType.UINT32), b"fullsync", b"memsync", b"none\0", b"crc32", b"hole\0", b"usable"),
)
_DETAILS = tuple(
    word.encode()
    for word in (
        *(f'"{name}": ' for name in (*Details.__dataclass_fields__, *Sync.__dataclass_fields__, "counts")),
        *(f'"{word}"' for words in STATES.values() for word in words),
        *(f'"{word}": ' for word in ("writes", "requests", "held", "total", "local", "read", "dirty_bytes")),
        *("null", "true", "1e308", "5e-324", "NaN", "1e999", "9" * 400, "-1", "\\ud800", "\\u001b", "{}", "[]"),
    )
)
_NEWS = tuple(
    word.encode()
    for word in (
        *(f'"{kind.value}"' for kind in Kind),
        *('"time": ', '"event": ', '"resource": ', '"facts": ', '"happening": ', '"problem": ', '"role": '),
        *("null", "true", "1e308", "253402300799", "NaN", "9" * 400, "-1", "\\ud800", "\\u001b", "{}", "[]"),
    )
)


def _messages(name: str, decode: Callable[[Frame], None], words: tuple[bytes, ...]) -> Target:
    return Target(name, of_messages(decode), ProtocolError, words, 4 * ROOM_FOR_FRAMES)


TARGETS: Final = {
    target.name: target
    for target in (
        Target("nv", nv, ProtocolError, tuple(_example("x", kind) for kind in NvType), expansion=64),
        Target("frames", stream, ProtocolError, _entries("size", "seq"), 2 * ROOM_FOR_FRAMES, expansion=64),
        Target("payload", payload, ProtocolError, (), 8 * LIMIT),
        _messages("handshake", opening, _OPENING + _PACKING),
        _messages("probe", question, _PROBED),
        _messages("request", request, _entries("cmd", "seq", "offset", "length", "memsync", "state") + _PACKING),
        _messages("reply", reply, _entries("seq", "received", "error", "errmsg") + _PACKING),
        _messages("control-request", control_request, _entries("cmd", "role", "resource0", "resource1")),
        _messages("control-reply", control_reply, _REPLIED),
        Target("metadata", copies, MetadataError, _METADATA),
        Target(
            *("config", config_file, ConfigError, _KEYWORDS),
            allowed=256 * 1024,
            expansion=2000,
            longest=lambda raw: LONGEST_REFUSAL + 2 * len(raw),
        ),
        Target("workerlink", packet, LinkError, _PACKETS),
        Target("details", details, (TypeError, ValueError), _DETAILS, 4 << 20, 4000, lambda raw: 400 + 4 * len(raw)),
        Target("news", news, (TypeError, ValueError), _NEWS, 4 << 20, 1000, lambda raw: 400 + 4 * len(raw)),
    )
}
"""By name. Each has a file of kept inputs in tests/fuzz/corpus."""
