"""Control messages come back; whatever a client sends is understood or refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from hastfs.details import Details
from hastfs.errors import ProtocolError
from hastfs.model import Role
from hastfs.protocol.control import STATISTICS, ControlCommand, Reply, Request, ResourceStatus
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.nv import Nv
from hastfs.volume import Buffer
from tests.property.test_nv import ENTRIES, Entry

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_/:", min_size=1, max_size=20)
U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
MAYBE_NAME = st.none() | NAMES

STATUSES = st.builds(
    ResourceStatus,
    resource=NAMES,
    error=st.integers(0, 255),
    errmsg=MAYBE_NAME,
    provname=MAYBE_NAME,
    localpath=MAYBE_NAME,
    remoteaddr=MAYBE_NAME,
    sourceaddr=MAYBE_NAME,
    replication=MAYBE_NAME,
    checksum=MAYBE_NAME,
    compression=MAYBE_NAME,
    role=MAYBE_NAME,
    workerpid=st.none() | st.integers(0, (1 << 31) - 1),
    status=MAYBE_NAME,
    dirty=st.none() | U64,
    extentsize=st.none() | U32,
    keepdirty=st.none() | U32,
    stats=st.dictionaries(st.sampled_from(STATISTICS), U64),
    details=st.none()
    | st.builds(Details, role=NAMES, problem=st.text(max_size=20).filter(str.isprintable), behind=U64),
)


def received(buffers: list[Buffer]) -> Frame:
    raw = b"".join(bytes(part) for part in buffers)
    reader = FrameReader(1 << 16, 0)
    room = reader.buffer()
    room[: len(raw)] = raw
    reader.received(len(raw))
    frame = reader.next()
    assert frame is not None
    return frame


@given(st.booleans(), st.sampled_from(Role), st.lists(NAMES, min_size=1, max_size=12))
def test_requests_come_back(force: bool, role: Role, names: list[str]) -> None:
    request = Request(ControlCommand.SETROLE, role, force, tuple(names))
    assert Request.decode(received(request.encode())) == request


@given(st.integers(0, 255), MAYBE_NAME, st.lists(STATUSES, max_size=12))
def test_replies_come_back(error: int, errmsg: str | None, statuses: list[ResourceStatus]) -> None:
    reply = Reply(error, errmsg, statuses)
    assert Reply.decode(received(reply.encode())) == reply


@given(ENTRIES)
def test_any_list_is_understood_or_refused(entries: list[Entry]) -> None:
    nv = Nv()
    for entry in entries:
        nv.add(*entry)
    for decode in (Request.decode, Reply.decode):
        with contextlib.suppress(ProtocolError):
            decode(Frame(2, nv, memoryview(b"")))
