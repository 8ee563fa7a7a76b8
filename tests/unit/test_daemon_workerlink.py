"""Messages between supervisor and worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from hastfs.daemon import workerlink
from hastfs.daemon.workerlink import (
    MAX_WAITING,
    AskStatus,
    AtRisk,
    Configure,
    Configured,
    Failed,
    Fenced,
    HandedOver,
    HandOver,
    Happened,
    LinkEnd,
    LinkError,
    Order,
    Ready,
    Report,
    StatusAnswer,
    Stop,
    decode,
    encode,
)
from hastfs.resource.events import Event
from hastfs.resource.status import Status
from tests.daemon_fakes import CONFIG

STATUS = Status("complete", 2097152, 2097152, 64, {"stat_read": 7})


@pytest.fixture
def ends() -> Iterator[tuple[LinkEnd, LinkEnd]]:
    supervisors, workers = (LinkEnd(sock) for sock in workerlink.socketpair())
    yield supervisors, workers
    supervisors.close()
    workers.close()


@pytest.mark.parametrize(
    "message",
    [
        AskStatus(3),
        Configure(4, CONFIG.as_plain()),
        Stop(),
        HandOver(),
        Ready(),
        HandedOver(),
        AtRisk((1 << 64) - 1, True),
        Configured(4),
        Happened("split-brain"),
        StatusAnswer(3, STATUS.as_dict()),
        Failed("Component /x is locked.", 75, True),
    ],
)
def test_every_message_comes_back_as_it_was(message: Order | Report) -> None:
    assert decode(encode(message)) == message


def test_events_status_and_configuration_come_back_as_values() -> None:
    assert Happened("syncdone").as_event is Event.SYNCDONE
    answer = decode(encode(StatusAnswer(1, STATUS.as_dict())))
    assert isinstance(answer, StatusAnswer)
    assert answer.as_status == STATUS
    order = decode(encode(Configure(1, CONFIG.as_plain())))
    assert isinstance(order, Configure)
    assert order.as_config == CONFIG


@pytest.mark.parametrize(
    "packet",
    [b"", b"\xff", b"[]", b"7", b"{}", b'{"kind": "Nonsense"}', b'{"kind": "AskStatus"}', b'{"kind": "Stop", "x": 1}'],
)
def test_anything_else_is_refused(packet: bytes) -> None:
    with pytest.raises(LinkError):
        decode(packet)


@pytest.mark.parametrize(
    "failed",
    [
        Failed("a\0b", 71, True),
        Failed("\ud800", 71, True),
        Failed("no such exit code", 256, True),
        Failed("no such exit code", -1, True),
    ],
)
def test_a_failure_that_hastctl_could_not_be_told_of_is_refused(failed: Failed) -> None:
    with pytest.raises(LinkError):
        decode(encode(failed))


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 7},
        {"status": "a\0b"},
        {"status": "\ud800"},
        {"dirty": "much"},
        {"dirty": -1},
        {"dirty": 1 << 64},
        {"dirty": 1.5},
        {"dirty": True},
        {"extentsize": 1 << 32},
        {"keepdirty": 1 << 32},
        {"stats": [1]},
        {"stats": {"stat_read": "often"}},
        {"stats": {"stat_read": -1}},
        {"stats": {"": 1}},
        {"stats": {"stat_\0": 1}},
        {"stats": {"x" * 200: 1}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_status_that_hastctl_could_not_be_told_is_none(wrong: dict[str, object]) -> None:
    answer = decode(encode(StatusAnswer(1, STATUS.as_dict() | wrong)))
    assert isinstance(answer, StatusAnswer)
    with pytest.raises((TypeError, ValueError)):
        _ = answer.as_status


async def test_messages_arrive_in_order_and_then_the_end(ends: tuple[LinkEnd, LinkEnd]) -> None:
    supervisors, workers = ends
    workers.send(Ready())
    workers.send(Happened("connect"))
    workers.close()
    assert [await supervisors.receive() for _ in range(3)] == [Ready(), Happened("connect"), None]


async def test_sending_never_waits_for_a_process_that_does_not_read(
    ends: tuple[LinkEnd, LinkEnd], caplog: pytest.LogCaptureFixture
) -> None:
    supervisors, _ = ends
    while not caplog.records:
        supervisors.send(AskStatus(1))
    assert "AskStatus is lost" in caplog.text


async def test_what_nobody_asks_for_again_arrives_however_late_it_is_read(ends: tuple[LinkEnd, LinkEnd]) -> None:
    """Without its `Fenced` a worker would hold the applications for ever; without `Detached` one goes on with a disk
    that failed."""
    supervisors, workers = ends
    while not supervisors.waiting:
        supervisors.send(Fenced(True, ""))
    late: list[Order] = [Fenced(False, "why"), AskStatus(1), Stop()]
    for order in late:
        supervisors.send(order)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisors.deliver)
        heard: list[Order | Report | None] = []
        with trio.fail_after(10):
            while Stop() not in heard:
                heard.append(await workers.receive())
        assert heard[-2:] == [Fenced(False, "why"), Stop()]
        supervisors.send(HandOver())
        assert await workers.receive() == HandOver()
        nursery.cancel_scope.cancel()


async def test_what_waits_for_a_process_that_does_not_read_is_bounded(
    ends: tuple[LinkEnd, LinkEnd], caplog: pytest.LogCaptureFixture
) -> None:
    supervisors, _ = ends
    while not caplog.records:
        supervisors.send(Stop())
    assert supervisors.waiting == MAX_WAITING
    assert "Stop is lost" in caplog.text


async def test_what_waits_is_forgotten_with_the_process(ends: tuple[LinkEnd, LinkEnd]) -> None:
    supervisors, workers = ends
    while not supervisors.waiting:
        supervisors.send(Stop())
    workers.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisors.deliver)
        with trio.fail_after(10):
            while supervisors.waiting:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_sending_to_a_process_that_is_gone_is_no_error(ends: tuple[LinkEnd, LinkEnd]) -> None:
    supervisors, workers = ends
    workers.close()
    supervisors.send(Stop())
    assert await supervisors.receive() is None
