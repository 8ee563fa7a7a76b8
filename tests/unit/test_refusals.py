"""Each refusal of hast(8) as the secondary says it: when, over which connection, and byte for byte."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
import trio
from trio.testing import MockClock

from hastfs.errors import HastError
from hastfs.ondisk.layout import SECOND_COPY
from hastfs.ondisk.metadata import encode
from hastfs.protocol.handshake import Hello, Joining, Welcome
from hastfs.protocol.verdict import ResuidMismatch, SplitBrain
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import RESOURCE
from tests.unit.test_daemon_listener import Client, Node
from tests.unit.test_resource_secondary import PAIR, SIZE, joining, serving

INT32, INT64, UINT8, UINT64, STRING = 5, 7, 2, 8, 17


def entry(kind: int, name: bytes, data: bytes, *, rubbish: bytes = b"\0") -> bytes:
    """One nv entry, put together here once more. `rubbish`: what the original leaves in the padding of a name."""
    named = name + b"\0"
    padded = named + rubbish * (-len(named) % 8) + data + bytes(-len(data) % 8)
    return struct.pack("<BBI", kind, len(named), len(data)) + padded


def refusal(
    text: str, *more: bytes, counters: tuple[int, int, int, int] | None = None, rubbish: bytes = b"\0"
) -> bytes:
    """The whole message. `counters`: data size, extent size, localcnt and remotecnt."""
    nv = b""
    if counters is not None:
        datasize, extentsize, localcnt, remotecnt = counters
        nv += entry(INT64, b"datasize", struct.pack("<q", datasize), rubbish=rubbish)
        nv += entry(INT32, b"extentsize", struct.pack("<i", extentsize), rubbish=rubbish)
        nv += entry(UINT64, b"localcnt", struct.pack("<Q", localcnt), rubbish=rubbish)
        nv += entry(UINT64, b"remotecnt", struct.pack("<Q", remotecnt), rubbish=rubbish)
    nv += entry(STRING, b"errmsg", text.encode() + b"\0", rubbish=rubbish) + b"".join(more)
    return struct.pack("<BI", 2, len(nv)) + nv


WAIT = entry(UINT8, b"wait", b"\1")


def test_the_bytes_expected_here_are_those_captured_from_the_original() -> None:
    assert refusal("Resource not configured.", rubbish=b"\x7f") == bytes.fromhex(
        "022e0000001107190000006572726d7367007f5265736f75726365206e6f7420636f6e666967757265642e0000000000000000"
    )
    assert refusal("Remote node acts as primary for the resource and not as secondary.", WAIT) == bytes.fromhex(
        "026c0000001107430000006572726d7367000052656d6f7465206e6f64652061637473206173207072696d61727920666f722074"
        "6865207265736f7572636520616e64206e6f74206173207365636f6e646172792e000000000000020501000000776169740000000001"
        "00000000000000"
    )
    assert refusal("Split-brain condition!", counters=(1043968, 4096, 1, 0)) == bytes.fromhex(
        "029e0000000709080000006461746173697a65000000000000000000ee0f0000000000050b04000000657874656e7473697a"
        "6500000000000000100000000000000809080000006c6f63616c636e7400000000000000000100000000000000080a080000"
        "0072656d6f7465636e740000000000000000000000000000001107170000006572726d7367000053706c69742d627261696e"
        "20636f6e646974696f6e210000"
    )


# -- before a worker has the link: the listener's ----------------------------------------------------------------------


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Node]:
    with closing(Node()) as made:
        nursery.start_soon(made.listener.run, [made.socket])
        yield made


async def everything(client: Client) -> bytes:
    """What the client is told until the connection is closed."""
    said = bytearray()
    with trio.fail_after(60):
        while data := await client.stream.receive_some():
            said += data
    return bytes(said)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        pytest.param("nope", refusal("Resource not configured."), id="not in the configuration"),
        pytest.param("foreign", refusal("No access to the resource."), id="another node's address is its remote"),
        pytest.param("unknown", refusal("No access to the resource."), id="its remote is none"),
        pytest.param(
            "idle", refusal("Remote node acts as init for the resource and not as secondary."), id="role init"
        ),
        pytest.param(
            "primary",
            refusal("Remote node acts as primary for the resource and not as secondary.", WAIT),
            id="role primary",
        ),
    ],
)
@pytest.mark.parametrize("step", [1, 3])
async def test_a_resource_that_is_not_served_is_refused(
    node: Node, caplog: pytest.LogCaptureFixture, step: int, resource: str, expected: bytes
) -> None:
    client = await node.connect()
    opening = Hello(resource, 2) if step == 1 else Joining(resource, bytes(16), False, 5, 1, 2)
    await client.say(opening.encode())
    assert await everything(client) == expected
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert resource in record.getMessage()


async def test_a_wrong_token_is_refused_over_the_second_connection(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, right = await node.connect(), await node.connect(), await node.connect()
    await first.say(Hello("mine", 2).encode())
    welcome = await first.welcome()
    assert isinstance(welcome, Welcome)
    await second.say(Joining("mine", bytes(16), False, 5, 1, 2).encode())
    assert await everything(second) == refusal("Token doesn't match.")
    assert "token does not match" in caplog.text
    await right.say(Joining("mine", welcome.token, False, 5, 1, 2).encode())
    await node.mine.linked.wait()
    (link,) = node.mine.links
    with pytest.raises(BlockingIOError):  # the first connection is open, and was told nothing
        link.first.recv(1)


async def test_a_token_without_a_first_connection_is_refused(node: Node) -> None:
    client = await node.connect()
    await client.say(Joining("mine", bytes(16), False, 5, 1, 2).encode())
    assert await everything(client) == refusal("Token doesn't match.")


async def test_a_name_with_line_ends_is_refused_and_does_not_forge_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    client = await node.connect()
    await client.say(Hello("x\n[ERROR] forged" + "y" * 10_000, 2).encode())
    assert await everything(client) == refusal("Resource not configured.")
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 500


# -- with a worker: the engine's ---------------------------------------------------------------------------------------


def used(localcnt: int, remotecnt: int) -> SimulatedDisk:
    """A component that has been through something."""
    disk = SimulatedDisk(RESOURCE, SIZE)
    block = encode(dataclasses.replace(disk.metadata, resuid=PAIR, localcnt=localcnt, remotecnt=remotecnt))
    disk.put(0, block)
    disk.put(SECOND_COPY, block)
    disk.flush()
    return disk


@pytest.mark.parametrize(
    ("facts", "localcnt", "remotecnt", "expected", "kind"),
    [
        pytest.param(
            {"localcnt": 1, "remotecnt": 0},
            3,
            0,
            refusal("Split-brain condition!", counters=(SIZE - 4096 - 512, 4096, 3, 0)),
            SplitBrain,
            id="both wrote alone",
        ),
        pytest.param(
            {"resuid": (1 << 64) - 2},
            3,
            1,
            refusal(f"Resource unique ID mismatch (primary={(1 << 64) - 2}, secondary={PAIR})."),
            ResuidMismatch,
            id="another pair",
        ),
    ],
)
async def test_a_primary_that_does_not_fit_is_refused_over_the_first_connection(
    autojump_clock: MockClock,
    facts: dict[str, int],
    localcnt: int,
    remotecnt: int,
    expected: bytes,
    kind: type[HastError],
) -> None:
    disk = used(localcnt, remotecnt)
    before = bytes(disk.content)
    async with serving(disk, step3=joining(virgin=False, generations=None, **facts)) as primary:
        with trio.fail_after(60):
            await primary.ended.wait()
        first, second = primary.requests.peer, primary.replies.peer
        assert first is not None
        assert second is not None
        assert bytes(first.sent) == expected
        assert not second.sent
        assert first.closed
        assert second.closed
        assert isinstance(primary.error, kind)
    assert bytes(disk.content) == before


async def test_a_split_brain_comes_with_what_to_do_and_is_logged_by_hastd_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The primary comes again and again, each time to another worker: only hastd knows what the log says already."""
    step3 = joining(virgin=False, generations=None, localcnt=1, remotecnt=0)
    async with serving(used(3, 0), step3=step3) as primary:
        with trio.fail_after(60):
            await primary.ended.wait()
        assert f"hastctl create -e 4K -k 4 {RESOURCE};" in str(primary.error)
    assert caplog.text == ""
