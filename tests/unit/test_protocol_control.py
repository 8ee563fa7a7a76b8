from __future__ import annotations

from dataclasses import replace

import pytest

from hastfs.details import MAX_CELLS, Details, Sync
from hastfs.errors import ProtocolError
from hastfs.model import Role
from hastfs.protocol.control import (
    ALL,
    ERROR_INVALID,
    ERROR_NO_RESOURCE,
    MAX_NV,
    STATISTICS,
    ControlCommand,
    ControlError,
    Reply,
    Request,
    ResourceStatus,
)
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.protocol.nv import Nv, NvType, Value
from hastfs.volume import Buffer

STATUS = ResourceStatus(
    "disk",
    provname="disk",
    localpath="/dev/sda5",
    remoteaddr="tcp4://192.0.2.2",
    sourceaddr="tcp4://192.0.2.1",
    replication="memsync",
    checksum="none",
    compression="hole",
    role="primary",
    workerpid=4711,
    status="complete",
    dirty=1 << 40,
    extentsize=1 << 21,
    keepdirty=64,
    stats=dict.fromkeys(STATISTICS, 5),
)


def received(buffers: list[Buffer]) -> Frame:
    raw = b"".join(bytes(part) for part in buffers)
    reader = FrameReader(MAX_NV, 0)
    at = 0
    while at < len(raw):
        room = reader.buffer()
        count = min(len(room), len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at += count
        frame = reader.next()
    assert frame is not None
    return frame


def frame_of(*fields: tuple[str, NvType, Value]) -> Frame:
    nv = Nv()
    for field in fields:
        nv.add(*field)
    return Frame(2, nv, memoryview(b""))


@pytest.mark.parametrize(
    "request_",
    [
        Request(ControlCommand.STATUS, resources=(ALL,)),
        Request(ControlCommand.SETROLE, Role.SECONDARY, force=True, resources=("a", "b", "c")),
        Request(ControlCommand.STOP),
        Request(ControlCommand.UPGRADE),
        Request(ControlCommand.STATUS, resources=(ALL,), details=True, cells=200),
    ],
)
def test_requests_arrive_as_they_were_sent(request_: Request) -> None:
    assert Request.decode(received(request_.encode())) == request_


def test_force_is_only_mentioned_when_it_is_meant() -> None:
    names = [name for name, _, _ in received(Request(ControlCommand.SETROLE, Role.INIT, False, ("a",)).encode()).nv]
    assert names == ["cmd", "role", "resource0"]


def test_a_role_change_needs_a_role() -> None:
    with pytest.raises(ControlError) as refused:
        Request.decode(received(Request(ControlCommand.SETROLE, resources=("a",)).encode()))
    assert refused.value.code == ERROR_INVALID


def test_everything_that_is_said_of_a_resource_arrives() -> None:
    reply = Reply(resources=[STATUS, ResourceStatus("nope", error=ERROR_NO_RESOURCE, errmsg="No such resource.")])
    assert Reply.decode(received(reply.encode())) == reply


def test_our_own_statistics_follow_the_original_s() -> None:
    status = ResourceStatus("disk", stats={"stat_ours": 1, "stat_write": 2})
    frame = received(Reply(resources=[status]).encode())
    assert [name for name, _, _ in frame.nv] == ["resource0", "stat_write0", "stat_ours0"]
    assert Reply.decode(frame).resources == [status]


def test_an_error_of_the_whole_request_comes_with_its_reason() -> None:
    reply = Reply(error=75, errmsg="The daemon is stopping.")
    assert Reply.decode(received(reply.encode())) == reply


def test_the_versions_before_and_after_an_upgrade_arrive() -> None:
    reply = Reply(resources=[ResourceStatus("disk", role="primary")], before="0.1.0", version="0.2.0")
    assert Reply.decode(received(reply.encode())) == reply


def test_a_thousand_resources_fit_and_are_not_mixed_up() -> None:
    resources = [ResourceStatus(f"disk{n}", dirty=n, stats={"stat_read": n * 7}) for n in range(1000)]
    assert Reply.decode(received(Reply(resources=resources).encode())).resources == resources


def test_what_is_not_known_or_of_another_type_is_ignored() -> None:
    frame = frame_of(
        ("resource0", NvType.STRING, "disk"),
        ("colour0", NvType.STRING, "red"),
        ("weight0", NvType.UINT64, 5),
        ("dirty0", NvType.UINT32, 5),
        ("stat_read0", NvType.STRING, "many"),
    )
    assert Reply.decode(frame).resources == [ResourceStatus("disk")]


def test_a_resource_needs_a_name() -> None:
    with pytest.raises(ProtocolError, match="no name"):
        Reply.decode(frame_of(("resource0", NvType.UINT8, 1)))


def test_details_arrive_as_they_were_sent() -> None:
    status = replace(STATUS, details=Details("primary", sync=Sync("to-peer", 9, 4, 0.5, 1.0), problem='quite "bad"'))
    assert Reply.decode(received(Reply(resources=[status]).encode())).resources == [status]


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"latency": {"total": {}}}', '{"sync": {}}', "[" * 10_000])
def test_details_that_are_none_count_as_missing(text: str) -> None:
    frame = frame_of(("resource0", NvType.STRING, "disk"), ("details0", NvType.STRING, text))
    assert Reply.decode(frame).resources == [ResourceStatus("disk")]


def test_nobody_gets_more_cells_than_a_picture_can_have() -> None:
    request = Request(ControlCommand.STATUS, resources=(ALL,), details=True, cells=(1 << 32) - 1)
    assert Request.decode(received(request.encode())).cells == MAX_CELLS
