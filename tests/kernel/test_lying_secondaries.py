"""A primary whose secondary lies, floods and trickles: the link ends, and applications notice no more than a pause.

Node a is primary all the time, and its application writes; the tests play the secondary. In the end the real one, node
b, gets in.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hastfs.model import ORIGINAL_VERSION, Checksum, Command, Compression, SyncSource
from hastfs.protocol.frame import HEAD, encode
from hastfs.protocol.handshake import TOKEN_SIZE, Hello, Joining, Refusal, Terms, Welcome
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.payload import pack, pack_zeros
from hastfs.protocol.replication import Request, decode_request, encode_reply
from hastfs.volume import Buffer
from tests.kernel import usage
from tests.kernel.caller import BLOCK, Talk
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

SHORT, LONG = 2, 3
"""Seconds (timeout in hast.conf(5)): it changes from one to the other, which makes the primary dial at once."""

SLACK = 5.0
"""Seconds that a write may take beyond the timeout on a busy machine."""

MOST_MEMORY = 16 * MIB
"""Bytes that the primary's worker may take for what the peer says, in addition to what it takes anyway."""

SIZE = 24 * MIB
TOKEN = bytes(range(TOKEN_SIZE))


class PlayedSecondary:
    """Listens where the primary dials. `first` and `second` are there after `meet`, `joining` too."""

    first: Talk
    second: Talk
    joining: Joining

    def __init__(self, port: int, steps: contextlib.ExitStack) -> None:
        self._steps = steps
        self._listener = steps.enter_context(socket.create_server(("127.0.0.1", port)))
        self._listener.settimeout(30)

    def accept(self) -> Talk:
        sock = self._steps.enter_context(self._listener.accept()[0])
        sock.settimeout(30)
        return Talk(sock)

    def hear_hello(self) -> None:
        """Of an attempt that the primary has not given up yet."""
        while True:
            self.first = self.accept()
            with contextlib.suppress(ConnectionError):
                Hello.decode(self.first.hear())
                return

    def meet(self) -> None:
        """Steps 1 to 3."""
        self.hear_hello()
        self.first.say(Welcome(ORIGINAL_VERSION, TOKEN).encode())
        self.second = self.accept()
        self.joining = Joining.decode(self.second.hear())

    def next(self) -> Request:
        return decode_request(self.first.hear(), MIB)

    def answer_until(self, offset: int) -> Request:
        """Does nothing, but says so politely, until there is a WRITE at `offset`; returns that one."""
        while True:
            request = self.next()
            if request.command is Command.WRITE and request.offset == offset:
                return request
            if request.command is not Command.KEEPALIVE:
                self.second.say(encode_reply(request.seq))


def terms(node: Node, joining: Joining, **changes: object) -> Terms:
    """Of a secondary that is in sync, but for `changes`."""
    metadata = node.metadata()
    honest: dict[str, object] = {
        "datasize": int(metadata["datasize"].split()[0]),
        "extentsize": int(metadata["extentsize"].split()[0]),
        "localcnt": joining.remotecnt,
        "remotecnt": joining.localcnt,
        "virgin": False,
        "syncsrc": SyncSource.PRIMARY,
        "map": b"",
    }
    return Terms(**(honest | changes))  # type: ignore[arg-type]


def message(**fields: tuple[NvType, int | str | bytes]) -> list[Buffer]:
    """Whatever one likes, encoded as it should be."""
    nv = Nv()
    for name, (kind, value) in fields.items():
        nv.add(name, kind, value)
    return encode(nv.encode())


def with_map(terms: Terms, *, mapsize: int, size: int, data: bytes = b"", compression: str = "") -> list[Buffer]:
    """Terms with a map of which nothing has to be true."""
    more: dict[str, tuple[NvType, int | str | bytes]] = {}
    if compression:
        more["compression"] = (NvType.STRING, compression)
    said = message(
        datasize=(NvType.INT64, terms.datasize),
        extentsize=(NvType.INT32, terms.extentsize),
        localcnt=(NvType.UINT64, terms.localcnt),
        remotecnt=(NvType.UINT64, terms.remotecnt),
        syncsrc=(NvType.UINT8, terms.syncsrc),
        mapsize=(NvType.UINT32, mapsize),
        **more,
        size=(NvType.UINT32, size),
    )
    return [*said, data]


@dataclass
class Stage:
    """The primary, its application, and where it dials."""

    pair: Pair
    timeout: int = SHORT
    written: dict[int, bytes] = field(default_factory=dict)
    """By position."""

    @property
    def node(self) -> Node:
        return self.pair.a

    def worker(self) -> int:
        """Its pid."""
        return int(self.node.fields()["workerpid"])

    def dial(self) -> None:
        """The primary does not wait for its next attempt: its configuration has changed."""
        before, self.timeout = self.timeout, LONG if self.timeout == SHORT else SHORT
        text = self.node.config.read_text()
        self.node.config.write_text(text.replace(f"timeout {before}\n", f"timeout {self.timeout}\n"))
        self.node.hastctl("reload")

    @contextlib.contextmanager
    def peer(self) -> Iterator[PlayedSecondary]:
        """It is being called."""
        with contextlib.ExitStack() as steps:
            peer = PlayedSecondary(self.pair.to_b.port, steps)
            self.dial()
            yield peer

    def write(self, position: int) -> float:
        """By the application, which must not see an error; returns how many seconds it took."""
        data = self.written[position] = os.urandom(len(BLOCK))
        start = time.monotonic()
        fd = os.open(self.node.image, os.O_WRONLY | os.O_DSYNC)
        try:
            assert os.pwrite(fd, data, position) == len(data)
        finally:
            os.close(fd)
        return time.monotonic() - start

    def complaints(self) -> list[str]:
        """Warnings and errors in the log."""
        lines = self.node.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(("[WARNING]", "[ERROR]", "[CRIT]"))]

    def assert_all_there(self) -> None:
        """On the component itself."""
        area = self.node.data_area()
        with area.path.open("rb") as file:
            for position, data in self.written.items():
                assert os.pread(file.fileno(), len(data), area.offset + position) == data, position


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    with contextlib.ExitStack() as steps:  # every step is done, also when one fails
        steps.callback(shutil.rmtree, root)
        options = Options(timeout=SHORT, mediasize=SIZE, extentsize=64 * 1024, replication="fullsync")
        pair = Pair(root, options, own_names=True)
        steps.callback(pair.clean_up)
        for node in pair.nodes:
            node.create()
        pair.a.start()
        pair.a.become_primary()
        yield Stage(pair)
        assert "Traceback" not in pair.a.log.read_text(errors="replace"), pair.a.tail(400)


def trickle(talk: Talk, raw: bytes) -> None:
    """A byte now and then, until the other side hangs up."""
    with contextlib.suppress(ConnectionError):
        for byte in raw:
            talk.say(bytes([byte]))
            time.sleep(0.1)


def says_for_a_welcome(*message: Buffer) -> Callable[[PlayedSecondary, Node], None]:
    def lie(peer: PlayedSecondary, _: Node) -> None:
        peer.hear_hello()
        peer.first.say(list(message))

    return lie


def says_for_terms(make: Callable[[Terms], list[Buffer]]) -> Callable[[PlayedSecondary, Node], None]:
    def lie(peer: PlayedSecondary, node: Node) -> None:
        peer.meet()
        peer.first.say(make(terms(node, peer.joining)))

    return lie


def never_finishes_its_terms(peer: PlayedSecondary, node: Node) -> None:
    peer.meet()
    trickle(peer.first, b"".join(bytes(piece) for piece in terms(node, peer.joining).encode()))


HANDSHAKES: dict[str, Callable[[PlayedSecondary, Node], None]] = {
    "another-protocol": says_for_a_welcome(b"GET / HTTP/1.1\r\n\r\n" * 1000),
    "list-of-4-gigabytes": says_for_a_welcome(b"\x02\xff\xff\xff\xff"),
    "half-a-token": says_for_a_welcome(*Welcome(ORIGINAL_VERSION, TOKEN[:8]).encode()),
    "version-200": says_for_a_welcome(*Welcome(200, TOKEN).encode()),
    "a-flood-of-welcomes": says_for_a_welcome(*Welcome(ORIGINAL_VERSION, TOKEN).encode() * 20_000),
    "a-long-refusal": says_for_a_welcome(*Refusal("no\n" * 1200).encode()),
    "data-size-below-zero": says_for_terms(lambda honest: replace(honest, datasize=-512).encode()),
    "another-data-size": says_for_terms(lambda honest: replace(honest, datasize=1 << 40).encode()),
    "another-source": says_for_terms(lambda honest: replace(honest, syncsrc=SyncSource.SECONDARY).encode()),
    "a-counter-at-its-end": says_for_terms(lambda honest: replace(honest, localcnt=(1 << 64) - 1).encode()),
    "terms-twice": says_for_terms(lambda honest: [b"".join(bytes(piece) for piece in honest.encode() * 2)]),
    "map-of-4-gigabytes": says_for_terms(lambda honest: with_map(honest, mapsize=(1 << 32) - 1, size=(1 << 32) - 1)),
    "map-that-expands": says_for_terms(
        lambda honest: with_map(honest, mapsize=1 << 31, size=4, data=struct.pack("<I", 1 << 31), compression="hole")
    ),
    "map-of-another-size": says_for_terms(lambda honest: with_map(honest, mapsize=4096, size=512, data=bytes(512))),
    "terms-that-never-end": never_finishes_its_terms,
}
"""What the secondary does during the handshake, and must not."""


def replies(make: Callable[[int], list[Buffer]]) -> Callable[[PlayedSecondary, Request], None]:
    """`make` gets the sequence number."""

    def lie(peer: PlayedSecondary, request: Request) -> None:
        peer.second.say(make(request.seq))

    return lie


def half_an_answer(peer: PlayedSecondary, request: Request) -> None:
    peer.second.say(bytes(encode_reply(request.seq)[0])[:10])
    peer.second.socket.shutdown(socket.SHUT_WR)


def an_answer_that_never_ends(peer: PlayedSecondary, _: Request) -> None:
    trickle(peer.second, HEAD.pack(ORIGINAL_VERSION, 4096) + bytes(4096))


REPLIES: dict[str, Callable[[PlayedSecondary, Request], None]] = {
    "another-protocol": replies(lambda _: [b"GET / HTTP/1.1\r\n\r\n" * 1000]),
    "list-of-4-gigabytes": replies(lambda _: [b"\x02\xff\xff\xff\xff"]),
    "data-of-4-gigabytes": replies(lambda seq: message(seq=(NvType.UINT64, seq), size=(NvType.UINT32, (1 << 32) - 1))),
    "no-sequence-number": replies(lambda _: message(error=(NvType.INT16, 5))),
    "unknown-sequence-number": replies(lambda seq: encode_reply(seq + 1000)),
    "an-answer-twice": replies(lambda seq: encode_reply(seq) * 2),
    "memsync-where-nobody-asked": replies(lambda seq: encode_reply(seq, received=True)),
    "data-where-nobody-asked": replies(
        lambda seq: encode_reply(seq, packed=pack(BLOCK, Compression.NONE, Checksum.NONE))
    ),
    "a-late-refusal": replies(lambda _: Refusal("No more.").encode()),
    "half-an-answer": half_an_answer,
    "an-answer-that-never-ends": an_answer_that_never_ends,
}
"""What the secondary answers to a write, and must not."""


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_lie_in_the_handshake_ends_it_with_one_line_in_the_log(stage: Stage, name: str) -> None:
    with stage.peer() as peer, usage.Watched(stage.worker()) as worker:
        before = len(stage.complaints())
        with contextlib.suppress(ConnectionError):  # it may hang up before it has heard it all
            HANDSHAKES[name](peer, stage.node)
        took = stage.write(MIB)
        peer.first.drain()
        wait_for(lambda: len(stage.complaints()) > before, "the log says so", interval=0.02)
        assert len(stage.complaints()[before:]) == 1, stage.complaints()[before:]
    print(f"{name}: write {took:.3f} s, worker +{worker.grown / MIB:.1f} MiB")
    assert took < LONG, "a write need not wait for a handshake"
    assert worker.grown < MOST_MEMORY
    stage.assert_all_there()


@pytest.mark.parametrize("name", REPLIES)
def test_a_lie_in_an_answer_ends_the_link_with_one_reason_in_the_log(stage: Stage, name: str) -> None:
    position = 2 * MIB + list(REPLIES).index(name) * MIB
    with stage.peer() as peer, usage.Watched(stage.worker()) as worker, ThreadPoolExecutor(1) as pool:
        peer.meet()
        peer.first.say(terms(stage.node, peer.joining).encode())
        before = len(stage.complaints())
        writing = pool.submit(stage.write, position)
        request = peer.answer_until(position)
        REPLIES[name](peer, request)
        took = writing.result(timeout=60)
        peer.first.drain()
        wait_for(lambda: len(stage.complaints()) > before, "the log says so", interval=0.02)
        (lost,) = stage.complaints()[before:]
        assert re.search(r"Disconnected from \S+: \w", lost)
    print(f"{name}: write {took:.3f} s, worker +{worker.grown / MIB:.1f} MiB")
    assert took < LONG + SLACK
    assert worker.grown < MOST_MEMORY
    stage.assert_all_there()


def test_in_the_end_the_real_secondary_gets_in(stage: Stage) -> None:
    pair = stage.pair
    pair.b.start()
    pair.b.role("secondary")
    pair.to_b.heal()
    stage.dial()
    pair.a.until_status("complete")
    pair.a.until(lambda: pair.a.dirty() == 0, "the nodes are in sync")
    pair.rest()
    pair.assert_equal()
    stage.assert_all_there()


def test_data_that_does_not_fit_the_read_it_answers_is_never_written(make_pair: MakePair) -> None:
    """The other node says that it has the good copy, and then does not give it."""
    made = make_pair(Options(timeout=SHORT, mediasize=SIZE))
    made.a.create()
    made.a.start()
    made.a.become_primary()
    stage = Stage(made)
    before = made.a.data_area().digest()
    data = pack(b"x" * 512, Compression.NONE, Checksum.CRC32)
    lies: list[Callable[[int, int], list[Buffer]]] = [
        lambda seq, length: encode_reply(seq, packed=pack(b"x" * (length - 512), Compression.NONE, Checksum.NONE)),
        lambda seq, length: encode_reply(seq, packed=pack(b"x" * (length + 512), Compression.NONE, Checksum.NONE)),
        lambda seq, length: encode_reply(seq, packed=pack_zeros(1 << 31, Checksum.NONE)),
        lambda seq, length: [encode_reply(seq, packed=data)[0], b"y" * 512],
        lambda seq, length: encode_reply(seq),
    ]
    for lie in lies:
        with stage.peer() as peer:
            peer.meet()
            newer = terms(made.a, peer.joining, localcnt=1, syncsrc=SyncSource.SECONDARY, map=b"\xff" * 512)
            peer.first.say(newer.encode())
            request = peer.next()
            assert request.command is Command.READ
            with contextlib.suppress(ConnectionError):
                peer.second.say(lie(request.seq, request.length))
            assert peer.second.is_closed()
    assert made.a.data_area().digest() == before
