"""A secondary whose primaries lie, flood, trickle and never listen: each loses its link, and nothing else happens.

Node b is secondary all the time; the tests play the primary. Before and after them, the honest primary, node a, is in
sync with b.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hastfs.daemon.listener import MAX_HALF_OPEN
from hastfs.model import ORIGINAL_VERSION, Checksum, Command, Compression, Consistency, Generations
from hastfs.protocol.frame import HEAD, MAX_NV, encode
from hastfs.protocol.handshake import BAD_TOKEN, Hello, Joining
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import pack, pack_zeros
from hastfs.protocol.replication import encode_reply, encode_request, encode_state
from hastfs.volume import Buffer
from tests.kernel import usage
from tests.kernel.caller import BLOCK, PlayedPrimary, call, played_primary
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

TIMEOUT = 5
"""Seconds (hast.conf(5))."""

SIZE = 24 * MIB
"""Bytes of the components."""

EMPTY = 8 * MIB
"""From here on the disks are empty: zeros written there change nothing."""

FLOOD, EXTENT = 5000, 64 * 1024
"""Requests of so many bytes, but on the wire they have none."""

MOST_MEMORY = 16 * MIB
"""Bytes that hastd or a worker may take for what a peer says, in addition to what it takes anyway."""


def message(**fields: tuple[NvType, int | str | bytes]) -> list[Buffer]:
    """Whatever one likes, encoded as it should be."""
    nv = Nv()
    for name, (kind, value) in fields.items():
        nv.add(name, kind, value)
    return encode(nv.encode())


def request(command: int, seq: int, offset: int, length: int, **more: tuple[NvType, int | str | bytes]) -> list[Buffer]:
    return message(
        cmd=(NvType.UINT8, command),
        seq=(NvType.UINT64, seq),
        offset=(NvType.UINT64, offset),
        length=(NvType.UINT64, length),
        **more,
    )


def damaged_write() -> list[Buffer]:
    """Its checksum is another block's."""
    head, _ = encode_request(Command.WRITE, 1, 0, 512, packed=pack(bytes(511) + b"x", Compression.NONE, Checksum.CRC32))
    return [head, b"x" * 512]


LIES: dict[str, list[Buffer]] = {
    "another-protocol": [b"GET / HTTP/1.1\r\n\r\n" * 1000],
    "list-of-4-gigabytes": [b"\x02\xff\xff\xff\xff"],
    "list-that-cannot-be-read": [b"\x02\x18\x00\x00\x00" + b"\xff" * 24],
    "no-command": message(seq=(NvType.UINT64, 1)),
    "unknown-command": request(77, 1, 0, 512),
    "data-of-4-gigabytes": request(Command.WRITE, 1, 0, 4096, size=(NvType.UINT32, (1 << 32) - 1)),
    "less-data-than-announced": encode_request(
        Command.WRITE, 1, 0, 8192, packed=pack(BLOCK, Compression.NONE, Checksum.NONE)
    ),
    "more-data-than-announced": encode_request(
        Command.WRITE, 1, 0, 512, packed=pack(BLOCK, Compression.NONE, Checksum.NONE)
    ),
    "write-without-data": request(Command.WRITE, 1, 0, 512),
    "zeros-of-2-gigabytes": encode_request(Command.WRITE, 1, 0, 512, packed=pack_zeros(1 << 31, Checksum.NONE)),
    "lzf-that-expands-to-3-gigabytes": [
        *request(Command.WRITE, 1, 0, 512, compression=(NvType.STRING, "lzf"), size=(NvType.UINT32, 512)),
        struct.pack("<I", 3 << 30) + b"\xff" * 508,
    ],
    "unknown-compression": [
        *request(Command.WRITE, 1, 0, 512, compression=(NvType.STRING, "zip"), size=(NvType.UINT32, 512)),
        bytes(512),
    ],
    "wrong-checksum": damaged_write(),
    "state-in-an-old-version": encode_state(1, Consistency.INCONSISTENT, Generations(9)),
    "a-reply-instead-of-a-request": encode_reply(1),
}
"""What a primary says over an open link, and must not."""


@dataclass
class Stage:
    """The pair, and what is known of its data."""

    pair: Pair
    resuid: int
    digest: str

    @property
    def node(self) -> Node:
        return self.pair.b

    @contextlib.contextmanager
    def primary(self) -> Iterator[PlayedPrimary]:
        with played_primary(self.node, resuid=self.resuid) as primary:
            yield primary

    @contextlib.contextmanager
    def linked(self) -> Iterator[PlayedPrimary]:
        with self.primary() as primary:
            primary.open()
            yield primary

    def supervisor(self) -> int:
        """Its pid."""
        assert self.node.process is not None
        return self.node.process.pid

    def has_worker(self) -> bool:
        return "workerpid" in self.node.fields()

    def worker(self) -> int:
        """Its pid."""
        wait_for(self.has_worker, "there is a worker")
        return int(self.node.fields()["workerpid"])

    def complaints(self) -> list[str]:
        """Warnings and errors in the log."""
        lines = self.node.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(("[WARNING]", "[ERROR]", "[CRIT]"))]

    def assert_serves(self, primary: PlayedPrimary) -> None:
        primary.first.say(encode_request(Command.FLUSH, 1, 0, 0))
        assert primary.reply().error == 0

    def assert_unchanged(self) -> None:
        """Once nobody is linked any more."""
        wait_for(lambda: not self.has_worker(), "the worker is gone", interval=0.02)
        assert self.node.data_area().digest() == self.digest


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    with contextlib.ExitStack() as steps:  # every step is done, also when one fails
        steps.callback(shutil.rmtree, root)
        pair = Pair(root, Options(timeout=TIMEOUT, mediasize=SIZE), own_names=True)
        steps.callback(pair.clean_up)
        pair.start()
        pair.connect()
        with pair.a.image.open("r+b", buffering=0) as image:
            image.write(os.urandom(MIB))
            os.fsync(image.fileno())
        pair.a.role("init")
        resuid = int(pair.a.metadata()["resuid"])
        yield Stage(pair, resuid, pair.b.data_area().digest())
        assert "Traceback" not in pair.b.log.read_text(errors="replace"), pair.logs()


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_the_link_with_one_line_in_the_log(stage: Stage, name: str) -> None:
    with stage.linked() as primary, usage.Watched(stage.worker()) as worker:
        before = len(stage.complaints())
        with contextlib.suppress(ConnectionError):  # it may hang up before it has heard it all
            primary.first.say(LIES[name])
        assert primary.second.is_closed()
        primary.first.drain()
    print(f"{name}: worker +{worker.grown / MIB:.1f} MiB")
    stage.assert_unchanged()
    assert len(stage.complaints()[before:]) == 1, stage.complaints()[before:]
    assert worker.grown < MOST_MEMORY


def test_reads_whose_replies_nobody_fetches_do_not_fill_the_memory(stage: Stage) -> None:
    reads = b"".join(bytes(encode_request(Command.READ, seq, 0, MIB)[0]) for seq in range(1, 1001))
    taken = 0
    with stage.linked() as primary, usage.Watched(stage.worker()) as worker:
        primary.first.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while taken < 1000:  # they ask for a terabyte
                primary.first.say(reads)
                taken += 1
    print(f"{taken} thousand READs went out, worker +{worker.grown / MIB:.1f} MiB")
    assert taken < 1000
    stage.assert_unchanged()
    assert worker.grown < MOST_MEMORY


def test_a_flood_of_requests_that_carry_nothing_does_not_fill_the_memory(stage: Stage) -> None:
    zeros = pack_zeros(EXTENT, Checksum.NONE)
    flood = b"".join(
        bytes(encode_request(Command.WRITE, seq, EMPTY, EXTENT, packed=zeros)[0]) + bytes(zeros.data)
        for seq in range(1, FLOOD + 1)
    )
    with stage.linked() as primary, usage.Watched(stage.worker()) as worker:
        replies = threading.Thread(target=primary.second.drain)
        replies.start()
        primary.first.say(flood)
        primary.first.socket.shutdown(socket.SHUT_WR)
        replies.join()
    print(f"{FLOOD} WRITEs of zeros, worker +{worker.grown / MIB:.1f} MiB")
    stage.assert_unchanged()
    assert worker.grown < 2 * MIB


def test_requests_outside_the_disk_get_an_error_and_one_line_in_the_log(stage: Stage) -> None:
    data = pack(BLOCK, Compression.NONE, Checksum.NONE)
    with stage.linked() as primary:
        before = len(stage.complaints())
        for seq, offset in enumerate((SIZE, SIZE - 4096, (1 << 64) - 4096, 100, (1 << 63) - 4096), 1):
            for command in (Command.READ, Command.WRITE, Command.DELETE):
                packed = data if command is Command.WRITE else None
                primary.first.say(encode_request(command, seq, offset, len(BLOCK), packed=packed))
                assert primary.reply().error == errno.EINVAL
        assert len(stage.complaints()[before:]) == 1, stage.complaints()[before:]
    stage.assert_unchanged()


def test_a_message_that_never_ends_keeps_nobody_away(stage: Stage) -> None:
    with stage.linked() as endless, stage.primary() as next_one:
        for byte in HEAD.pack(ORIGINAL_VERSION, MAX_NV) + bytes(100):
            endless.first.say(bytes([byte]))
        next_one.open()
        assert endless.first.is_closed()
        stage.assert_serves(next_one)
    stage.assert_unchanged()


def test_a_token_opens_one_link(stage: Stage) -> None:
    with stage.primary() as primary, call(stage.node) as thief:
        token = primary.first.token()
        primary.join(token)
        before = len(stage.complaints())
        answer = thief.refusal(Joining(RESOURCE, token, False, stage.resuid, 0, 0, None).encode())
        assert answer.errmsg == BAD_TOKEN
        stage.assert_serves(primary)
        assert len(stage.complaints()[before:]) == 1, stage.complaints()[before:]
    stage.assert_unchanged()


@pytest.mark.parametrize("step", ["hello", "token"])
def test_a_flood_during_the_handshake_ends_it_with_one_line_in_the_log(stage: Stage, step: str) -> None:
    flood = b"".join(bytes(piece) for piece in Hello(RESOURCE, ORIGINAL_VERSION).encode()) * 20_000
    with call(stage.node) as first, call(stage.node) as second, usage.Watched(stage.supervisor()) as supervisor:
        if step == "token":
            first.token()
        flooded = first if step == "hello" else second
        before = len(stage.complaints())
        with contextlib.suppress(ConnectionError):
            flooded.say(flood)
        flooded.drain()
        wait_for(lambda: len(stage.complaints()) > before, "the log says so")
        assert len(stage.complaints()[before:]) == 1, stage.complaints()[before:]
    print(f"supervisor +{supervisor.grown / MIB:.1f} MiB")
    assert supervisor.grown < MOST_MEMORY
    stage.assert_unchanged()


def test_500_connections_at_once_are_closed_and_keep_nobody_away_for_long(stage: Stage) -> None:
    before, descriptors = len(stage.complaints()), usage.descriptors(stage.supervisor())
    hello = b"".join(bytes(piece) for piece in Hello(RESOURCE, ORIGINAL_VERSION).encode())
    with contextlib.ExitStack() as callers, usage.Watched(stage.supervisor()) as supervisor:
        for number in range(500):
            caller = callers.enter_context(call(stage.node))
            with contextlib.suppress(ConnectionError):  # it was one too many
                caller.say(hello[: number % len(hello)])
        most = descriptors + MAX_HALF_OPEN
        wait_for(lambda: usage.descriptors(stage.supervisor()) <= most, "most of them are closed")
    wait_for(lambda: usage.descriptors(stage.supervisor()) == descriptors, "the others are gone, too")
    print(f"supervisor +{supervisor.grown / MIB:.1f} MiB")
    assert 0 < len(stage.complaints()) - before < 10, "told, and then counted"
    assert supervisor.grown < MOST_MEMORY
    with stage.linked() as primary:
        stage.assert_serves(primary)
    stage.assert_unchanged()


def test_after_all_that_the_honest_primary_gets_in_and_finds_nothing_to_mend(stage: Stage) -> None:
    stage.pair.a.become_primary()
    stage.pair.a.until_status("complete")
    assert stage.pair.a.dirty() == 0
    assert stage.pair.a.count("syncstart") == 0
    stage.pair.a.role("init")
    stage.pair.assert_equal()
