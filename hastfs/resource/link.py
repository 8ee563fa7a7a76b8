"""The primary's end of an established pair of connections: requests out, replies in, completions by callback."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from typing import TypeAlias

import trio

from hastfs.errors import HastError, ProtocolError, plain
from hastfs.model import (
    MAX_REQUEST,
    MAX_REQUEST_V2,
    ORIGINAL_VERSION,
    SECTOR_SIZE,
    Checksum,
    Command,
    Compression,
    Consistency,
    Generations,
)
from hastfs.protocol import replication
from hastfs.protocol.frame import FrameReader, for_version
from hastfs.protocol.payload import Packed, is_zero, pack, pack_zeros, understood, zeros
from hastfs.resource.channel import Channel
from hastfs.resource.outbox import Outbox
from hastfs.resource.waiting import Wakeup, all_done
from hastfs.volume import Buffer, Done, ReadDone

log = logging.getLogger(__name__)

KEEPALIVE = 10
"""Seconds of silence after which the primary says that it is alive (HAST_KEEPALIVE)."""

KEEPALIVE_SINCE, MEMSYNC_SINCE, STATE_SINCE = 1, 2, 3
"""Protocol versions that brought KEEPALIVE, memsync's two replies (hast.h), and our extensions."""

ZEROING_WINDOW = 64
"""WRITEs of zeros under way at a time: a discard may be of terabytes."""

_NOTHING_TO_FLUSH = (errno.ENOTTY, errno.EOPNOTSUPP, 45)
"""What an original answers to FLUSH where its disk knows no such thing; 45 is FreeBSD's EOPNOTSUPP."""

_MAX_REPLY_NV = 4096  # bytes; real ones are below 200


class LinkLost(HastError):
    """The other node is gone, or is to be treated as if it were; the message says why."""


_Outstanding: TypeAlias = tuple[Command, int, Done, float, int, "Callable[[replication.Reply], None] | None"]
"""A request that waits for its reply: what it is, its length, who hears the errno, since when, the bytes it counts for
among what is unanswered; of a READ, who hears the reply. A tuple, because one is made for every request."""


class Link:
    """Two channels to a secondary that has agreed to serve us. `timeout` in seconds (hast.conf(5))."""

    def __init__(
        self,
        outgoing: Channel,
        incoming: Channel,
        *,
        version: int,
        compression: Compression,
        checksum: Checksum,
        timeout: float,
        generations: Generations | None = None,
        boot: int = 0,
    ) -> None:
        self.version = version
        self.generations = generations
        """Of the secondary's data, when the link was made (version 3)."""
        self.boot = boot
        """Of the secondary (handshake.Terms)."""
        self.max_request = MAX_REQUEST if version >= STATE_SINCE else MAX_REQUEST_V2
        self._channels = (outgoing, incoming)
        self._outbox = Outbox(outgoing)
        self._outgoing = outgoing
        self._incoming = incoming
        self._reader = FrameReader(_MAX_REPLY_NV, self.max_request)
        self.pack_as(compression, checksum)
        self._timeout = timeout
        self._timeout_changed = Wakeup()
        self._outstanding: dict[int, _Outstanding] = {}
        self._receipts: dict[int, Callable[[], None]] = {}  # of memsync writes: who hears that they were received
        self._batch_began: float | None = None
        self._seq = 0
        self._last_sent = self._last_reply = self._latest_answered = trio.current_time()
        self._ended = False
        self.told: tuple[Consistency, Generations] | None = None
        """What the secondary's data is, as it was told last or said itself; None: one of version 2 or less."""
        self._telling = 0  # gaps that the secondary was told of and has not yet on record
        self._wait_for_telling: list[Callable[[], None]] = []
        self.received = 0
        """Bytes."""
        self.unanswered = 0
        """Bytes of requests without a reply; of those that carry no data, a little for their being there."""
        self._warned = False
        self._lost: LinkLost | None = None
        self._scope = trio.CancelScope()

    @property
    def sent(self) -> int:
        """Bytes."""
        return self._outbox.sent

    # -- requests --------------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.backlog

    @property
    def waiting(self) -> int:
        """Requests without a reply."""
        return len(self._outstanding)

    def write(self, offset: int, data: Buffer, done: Done, *, received: Callable[[], None] | None = None) -> None:
        """A WRITE; with `received`, a memsync one. `data` must stay as it is. Longer than a peer takes: split."""
        length = len(data)
        if self._is_express and length <= self.max_request and (data[0] or not self._holes or not is_zero(data)):
            seq = self._register(Command.WRITE, length, done, received, length)
            if not self._ended and self._lost is None:
                head = replication.encode_write(seq, offset, length, memsync=received is not None)
                self._outbox.put_write(head, data, length)
            return
        parts = _split(offset, length, self.max_request)
        done = all_done(done, len(parts))
        received = _gather_received(received, len(parts))
        view = memoryview(data)
        for at, size in parts:
            packed = pack(view[at - offset : at - offset + size], self._compression, self._checksum)
            self._send_write(at, size, packed, done, received)

    def write_zeros(self, offset: int, length: int, done: Done) -> None:
        """WRITEs of zeros, as holes where the configuration lets us."""
        end = offset + length
        sent, waiting, failure = offset, 0, 0

        def send_more() -> None:
            nonlocal sent, waiting
            while sent < end and waiting < ZEROING_WINDOW and not failure:
                at, sent = sent, min(sent + self.max_request, end)
                waiting += 1
                self._send_write(at, sent - at, self._packed_zeros(sent - at), part_done, None)

        def part_done(error: int) -> None:
            nonlocal waiting, failure
            waiting -= 1
            failure = failure or error
            if waiting <= ZEROING_WINDOW // 2:
                send_more()
            if not waiting:
                done(failure)

        send_more()

    def _packed_zeros(self, length: int) -> Packed:
        if self._compression is Compression.NONE:
            return pack(zeros(length), Compression.NONE, self._checksum)
        return pack_zeros(length, self._checksum)

    def _send_write(
        self, offset: int, length: int, packed: Packed, done: Done, received: Callable[[], None] | None
    ) -> None:
        seq = self._register(Command.WRITE, length, done, received, length)
        self._put(
            replication.encode_request(Command.WRITE, seq, offset, length, memsync=received is not None, packed=packed)
        )

    def read(self, offset: int, length: int, done: ReadDone) -> None:
        """A READ of whole sectors, at most `max_request` bytes."""

        def answered(reply: replication.Reply) -> None:
            if reply.error or reply.payload is None:
                done(reply.error or errno.EIO, b"")
            else:
                done(0, zeros(length) if reply.payload.data is None else reply.payload.data)

        seq = self._register(Command.READ, length, lambda error: done(error, b""), None, read=answered)
        self._put(replication.encode_request(Command.READ, seq, offset, length))

    def delete(self, offset: int, length: int, done: Done) -> None:
        """A DELETE of whole sectors, which read as zeros afterwards (promise 8).

        That is what our own secondaries make of it. To the original it is no more than a hint to the disk, if the disk
        takes hints at all: what makes the range zeros there are the WRITEs that follow.
        """
        ours = self.version >= STATE_SINCE
        done = all_done(done, 1 if ours else 2)
        seq = self._register(Command.DELETE, length, done if ours else _whatever(done), None)
        self._put(replication.encode_request(Command.DELETE, seq, offset, length))
        if not ours:
            self.write_zeros(offset, length, done)

    def flush(self, done: Done) -> None:
        """A FLUSH: a barrier over all writes before it."""
        if self.version < STATE_SINCE:
            done = self._without_cache(done)
        seq = self._register(Command.FLUSH, 0, done, None)
        self._put(replication.encode_request(Command.FLUSH, seq, 0, 0))

    def _without_cache(self, done: Done) -> Done:
        """An original whose disk cannot be told to flush says so each time: it does all that it can, as with itself."""

        def flushed(error: int) -> None:
            if error in _NOTHING_TO_FLUSH:
                if not self._warned:
                    log.warning("The other node's disk cannot be flushed: what only its cache has, a power loss takes.")
                self._warned = True
                error = 0
            done(error)

        return flushed

    def state(self, consistency: Consistency, generations: Generations, done: Done, *, detached: bool = False) -> None:
        """A STATE: tells the secondary what its data now is. A peer of version 2 or less cannot be told: done(0).

        `detached`: from now on it is the only copy.
        """
        if self.version < STATE_SINCE:
            done(0)
            return
        if not detached:  # whether it agrees to that is another question
            self.told = (consistency, generations)
        seq = self._register(Command.STATE, 0, done, None)
        self._put(replication.encode_state(seq, consistency, generations, detached=detached))

    def tell_of_gap(self, generations: Generations) -> None:
        """The secondary lacks something that it does not know of: it hears so, and `when_told` waits for its answer."""
        self._telling += 1
        self.state(Consistency.INCONSISTENT, generations, self._told_of_gap)

    def when_told(self, done: Callable[[], None]) -> None:
        """Calls `done` when the secondary has on record what `tell_of_gap` told it, or the link is lost."""
        if self._telling:
            self._wait_for_telling.append(done)
        else:
            done()

    def _told_of_gap(self, error: int) -> None:
        self._telling -= 1
        self.state_answered(error)
        if not self._telling:
            waiting, self._wait_for_telling = self._wait_for_telling, []
            for done in waiting:
                done()

    def state_answered(self, error: int) -> None:
        """A `done` for `state`: a secondary that does not know what it is, is none."""
        if error:
            self.drop(f"the other node cannot write its metadata ({os.strerror(error)})")

    def submit(self) -> None:
        """Sends what is queued."""
        self._batch_began = None
        self._outbox.kick()

    def submit_soon(self) -> None:
        """Sends what is queued a moment later, together with what others will have queued until then."""
        self._batch_began = None
        self._outbox.kick_soon()

    def _register(
        self,
        command: Command,
        length: int,
        done: Done,
        received: Callable[[], None] | None,
        cost: int = SECTOR_SIZE,
        *,
        read: Callable[[replication.Reply], None] | None = None,
    ) -> int:
        self._seq += 1
        if self._ended:
            done(errno.ENOTCONN)
        else:
            now = self._batch_began
            if now is None:
                self._batch_began = self._last_sent = now = trio.current_time()
            self._outstanding[self._seq] = (command, length, done, now, cost, read)
            if received is not None:
                self._receipts[self._seq] = received
            self.unanswered += cost
        return self._seq

    def _put(self, frame: list[Buffer]) -> None:
        self._last_sent = trio.current_time()
        if not self._ended and self._lost is None:
            self._outbox.put(for_version(frame, self.version))

    def pack_as(self, compression: Compression, checksum: Checksum) -> None:
        """Of data that is sent from now on."""
        self._compression, self._checksum = understood(self.version, compression, checksum)
        self._holes = self._compression is not Compression.NONE
        # Nearly all writes go as they are, behind a head that is made from a template.
        self._is_express = (
            self._checksum is Checksum.NONE
            and self._compression is not Compression.LZF
            and self.version >= ORIGINAL_VERSION
        )

    def set_timeout(self, timeout: int) -> None:
        """Seconds (hast.conf(5)); also for what is under way."""
        self._timeout = timeout
        self._timeout_changed.set()
        for channel in self._channels:
            channel.set_timeout(timeout)

    def check(self) -> None:
        """Raises LinkLost if the link cannot be used any longer."""
        if self._ended or self._lost is not None:
            raise self._lost or LinkLost("connection closed")

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self, lost: Callable[[], None]) -> None:
        """Serves the link until it is lost, calls `lost`, then tells everybody who waits; ends by raising LinkLost."""
        try:
            await self._serve()
        finally:
            lost()
            self._abandon()

    async def _serve(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive)
                    nursery.start_soon(self._hear_end)
                    nursery.start_soon(self._outbox.run)
                    nursery.start_soon(self._keepalive)
                    nursery.start_soon(self._watch)
        except* ProtocolError as group:
            self._lost = self._lost or LinkLost(f"protocol error: {group.exceptions[0]}")
        except* OSError as group:
            self._lost = self._lost or LinkLost(f"connection lost: {_reason(group)}")
        except* LinkLost as group:
            error = group.exceptions[0]
            self._lost = self._lost or (error if isinstance(error, LinkLost) else LinkLost(str(error)))
        raise self._lost or LinkLost("connection closed")

    def drop(self, reason: str) -> None:
        """The link is not to be used any longer; `run` ends."""
        if self._lost is None:
            self._lost = LinkLost(reason)
        self._scope.cancel()

    def _abandon(self) -> None:
        self._ended = True
        for channel in self._channels:
            channel.close()
        outstanding, self._outstanding = self._outstanding, {}
        self._receipts.clear()
        for _, _, done, _, _, _ in outstanding.values():
            done(errno.ENOTCONN)

    async def _receive(self) -> None:
        await self._incoming.receiving(self._take)

    def _is_lost(self) -> bool:
        return self._lost is not None

    def _take(self) -> bool:
        """All replies that are there."""
        try:
            count = self._incoming.receive_into(self._reader.buffer())
        except BlockingIOError:
            return False
        if not count:
            raise LinkLost("closed by the other node")
        self.received += count
        self._reader.received(count)
        now = trio.current_time()
        # After `drop`, replies do not count any more: whatever they say, the peer is not to be believed.
        while not self._is_lost():
            for seq in replication.plain_replies(self._reader):
                self._last_reply = now
                self._succeeded(seq)
                if self._is_lost():
                    break
            reply = replication.next_reply(self._reader, self._data_wanted) if not self._is_lost() else None
            if reply is None:
                break
            self._reply(reply)
            self._last_reply = now  # not earlier: an answer may begin and never end
        self.submit()  # completions may have queued more
        return True

    def _succeeded(self, seq: int) -> None:
        request = self._outstanding.pop(seq, None)
        if request is None:
            raise ProtocolError(f"reply to request {seq}, which was not made")
        command, length, done, since, cost, _ = request
        if command is Command.READ:
            self._outstanding[seq] = request  # it is told with all others
            raise ProtocolError(f"0 bytes in reply to a READ of {length}")
        if since > self._latest_answered:  # noqa: PLR1730 - a call would cost more
            self._latest_answered = since
        self.unanswered -= cost
        if self._receipts:
            self._receipts.pop(seq, None)
        done(0)

    async def _hear_end(self) -> None:
        """The first connection is only ever sent to, and a reset of it alone would show no sooner than with the next
        request: there may be none before the one is answered that got lost.
        """
        room = memoryview(bytearray(1))
        while True:
            await self._outgoing.readable()
            with contextlib.suppress(BlockingIOError):
                if self._outgoing.receive_into(room):
                    raise ProtocolError("data on the first connection after the handshake")
                raise LinkLost("closed by the other node")

    def _data_wanted(self, seq: int) -> int:
        """Bytes that the reply to that request may bring."""
        request = self._outstanding.get(seq)
        return request[1] if request is not None and request[0] is Command.READ else 0

    def _reply(self, reply: replication.Reply) -> None:
        request = self._outstanding.get(reply.seq)
        if request is None:
            raise ProtocolError(f"reply to request {reply.seq}, which was not made")
        command, length, done, since, cost, read = request
        self._latest_answered = max(self._latest_answered, since)
        if reply.received:
            received = self._receipts.pop(reply.seq, None)
            if received is None:
                raise ProtocolError(f"memsync reply to request {reply.seq}, which is none")
            received()
            return
        if command is Command.READ and not reply.error:
            came = reply.payload.length if reply.payload else 0
            if came != length:
                raise ProtocolError(f"{came} bytes in reply to a READ of {length}")
        del self._outstanding[reply.seq]
        self._receipts.pop(reply.seq, None)
        self.unanswered -= cost
        if read is not None:
            read(reply)
        else:
            done(reply.error)

    async def _keepalive(self) -> None:
        while self.version >= KEEPALIVE_SINCE:
            due = self._last_sent + KEEPALIVE
            await trio.sleep_until(due)
            if self._last_sent + KEEPALIVE == due:  # nothing else was sent meanwhile
                self._put(replication.encode_keepalive())
                self.submit()

    async def _watch(self) -> None:
        """A peer that owes replies and completes none for `timeout`, or leaves a request out, is gone (promise 7)."""
        due = trio.current_time() + self._timeout
        while True:
            with trio.move_on_at(due):
                await self._timeout_changed.wait()
            now = trio.current_time()
            due = now + self._timeout  # no request made from now on is late before that
            if self._outstanding:
                command, _, _, since, _, _ = next(iter(self._outstanding.values()))
                due = max(since, self._last_reply) + self._timeout
                if due <= now or since + self._timeout <= self._latest_answered:
                    raise LinkLost(f"no answer to {command.name} for {self._timeout:g} seconds")


def _reason(group: BaseExceptionGroup[OSError]) -> str:
    error = group.exceptions[0]
    return plain(error)


def _split(offset: int, length: int, limit: int) -> list[tuple[int, int]]:
    if length <= limit:
        return [(offset, length)]
    end = offset + length
    return [(at, min(limit, end - at)) for at in range(offset, end, limit)]


def _whatever(done: Done) -> Done:
    """An answer will do, whatever it says."""
    return lambda error: done(error if error == errno.ENOTCONN else 0)


def _gather_received(received: Callable[[], None] | None, parts: int) -> Callable[[], None] | None:
    if received is None or parts == 1:
        return received
    left = parts

    def part_received() -> None:
        nonlocal left
        left -= 1
        if not left:
            received()

    return part_received
