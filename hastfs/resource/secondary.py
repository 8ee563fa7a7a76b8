"""The secondary's engine: does what the primary asks, for as long as one link lasts.

Requests are handled in the order they come. Writes go to the page cache at once, so a FLUSH covers every write before
it; what takes time (reads, discards, flushes) is answered when it is done, under a range lock where it overlaps others.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.details import Details
from hastfs.errors import ComponentError, ProtocolError, plain
from hastfs.facts import about
from hastfs.model import MAX_REQUEST, ORIGINAL_VERSION, Command, Consistency, SyncSource
from hastfs.ondisk.activemap import Activemap
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.frame import MAX_NV, FrameReader, for_version
from hastfs.protocol.handshake import Joining
from hastfs.protocol.payload import pack, understood
from hastfs.protocol.replication import (
    Request,
    encode_plain_reply,
    encode_received,
    encode_reply,
    next_request,
    validate_request,
)
from hastfs.protocol.verdict import SplitBrain
from hastfs.resource.admission import admit
from hastfs.resource.channel import Channel, SocketChannel
from hastfs.resource.component import LOOK_INTERVAL, Component
from hastfs.resource.events import Event, Notify, split_brain_advice
from hastfs.resource.link import KEEPALIVE, KEEPALIVE_SINCE, STATE_SINCE, LinkLost
from hastfs.resource.metastore import Metastore
from hastfs.resource.outbox import Outbox
from hastfs.resource.provision import Opened
from hastfs.resource.rangelock import Range, RangeLock
from hastfs.resource.status import Statistics, Status
from hastfs.resource.telemetry import Telemetry
from hastfs.resource.waiting import Wakeup, plain_errors
from hastfs.volume import Buffer, Done

log = logging.getLogger(__name__)

SILENCE = 2 * KEEPALIVE
"""Seconds without a word after which the primary is taken for dead."""

MAX_BACKLOG = 8 << 20
"""Bytes of replies that may wait to be sent before no more requests are read."""

MAX_UNDER_WAY = 256
"""Requests that may be unanswered before no more are read: as many as the original ever has under way."""


class Secondary:
    """One resource on the node that follows. `outgoing` and `incoming` as the primary sees them."""

    def __init__(
        self,
        config: ResourceConfig,
        component: Component,
        metadata: Metadata,
        ondisk_map: bytes,
        *,
        outgoing: Channel,
        incoming: Channel,
        version: int,
        boot: int = 0,
    ) -> None:
        """`boot`: of the machine, as `boot_id` tells it."""
        self.resource = config.name
        self._boot = boot
        self._config = config
        self._component = component
        self._datasize = component.layout.datasize
        self._statistics = Statistics()
        self._telemetry = Telemetry()
        self._received = 0  # bytes
        self._map = Activemap(component.layout.nextents, metadata.keepdirty, ondisk_map)
        self._metastore = Metastore(component, metadata, self._map, self._statistics, metaflush=config.metaflush)
        self._channels = (outgoing, incoming)
        self._requests = outgoing
        # Newer releases of the original send up to 1 MiB, too; they ignore it if a write is refused.
        self._reader = FrameReader(MAX_NV, MAX_REQUEST)
        self._slow: Request | None = None  # the next request, if it has to wait for something
        self._outbox = Outbox(incoming)
        self._version = version
        self._ranges = RangeLock()
        self._map_is_ours = True
        self._is_source = False  # whether the primary is being brought up to date from here
        self._is_only_copy = False  # whether the primary has no component: then the map is kept here
        self._in_batch = False
        self._changing = 0  # writes and discards that are not answered
        self._flushing = 0  # flushes that are not over
        self._quiet = Wakeup()
        self._waiting = 0  # bytes: of reads that are not over, and of writes that wait for their range
        self._fewer = Wakeup()
        self._unanswered: set[int] = set()  # sequence numbers
        self._answered = Wakeup()
        self._has_refused = False
        self._last_received = trio.current_time()
        self._failures: list[tuple[Request, int]] = []
        self._failed = Wakeup()
        self._gap = False  # whether a write or flush failed since the last FLUSH was begun

    def status(self, cells: int = 0) -> Status:
        """For `hastctl status` and `list`; `cells`: of `Details.dirty_map`."""
        queues = {
            "idle_queue_size": 0,
            "local_queue_size": self._changing,
            "send_queue_size": 0,
            "recv_queue_size": 0,
            "done_queue_size": 0,
        }
        metadata = self._metastore.metadata
        # keepdirty is the primary's business; the original shows 0 on a secondary.
        return Status("complete", 0, metadata.extentsize, 0, self._statistics.as_dict() | queues, self._look())

    @property
    def metadata(self) -> Metadata:
        return self._metastore.metadata

    def _look(self) -> Details:
        metadata = self._metastore.metadata
        whole = metadata.consistency is Consistency.CONSISTENT
        peer_disk = "detached" if self._is_only_copy else "inconsistent" if self._is_source else "up-to-date"
        return Details(
            role="secondary",
            connection="connected",
            disk="up-to-date" if whole else "inconsistent",
            peer_disk=peer_disk,
            size=self._component.layout.provider_size,
            started=self._telemetry.started,
            connected_since=self._telemetry.started,
            last_in_sync=time.time() if whole and not self._is_source else None,
            counters=self._telemetry.counters(self._statistics)
            | {"sent_bytes": self._outbox.sent, "received_bytes": self._received},
            gauges={
                "requests": len(self._unanswered),
                "local_queue": self._changing,
                "send_queue_bytes": self._outbox.backlog,
            },
        )

    def apply(self, config: ResourceConfig) -> None:
        """Does as `config` says from the next reply on; that of another `remote` ends the link, but not here."""
        self._config = config
        self._metastore.metaflush = config.metaflush
        for channel in self._channels:
            channel.set_timeout(config.timeout)

    async def agree(self, joining: Joining) -> None:
        """The handshake's decisions. Raises SplitBrain or another HastError after a refusal."""
        layout = self._component.layout
        verdict = await admit(
            self._requests,
            self._config,
            self._metastore,
            layout,
            joining=joining,
            version=self._version,
            boot=self._boot,
        )
        self._is_source = verdict.source is SyncSource.SECONDARY and self._version >= STATE_SINCE
        self._is_only_copy = self._is_source and joining.detached

    # -- requests --------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serves requests until the link is lost. Raises LinkLost, ProtocolError, OSError or ComponentError."""
        with plain_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._metastore.run)
                nursery.start_soon(self._outbox.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._own_up)
                nursery.start_soon(self._look_after_component)
                await self._receive()

    async def _receive(self) -> None:
        while True:
            await self._requests.receiving(self._take)
            while True:
                request, self._slow = self._slow, None
                if request is not None:
                    await self._handle(request)
                if self._is_congested():
                    await self._catch_up()
                if self._handle_batch():
                    break

    def _take(self) -> bool | None:
        """All requests that are there. None: the next one is not for the moment."""
        try:
            count = self._requests.receive_into(self._reader.buffer())
        except BlockingIOError:
            return False
        if not count:
            raise LinkLost("closed by the primary")
        self._last_received = trio.current_time()
        self._received += count
        self._reader.received(count)
        return self._handle_batch() or None

    def _handle_batch(self) -> bool:
        """What can be done at once, until there is nothing more (True) or something has to be waited for (False)."""
        self._in_batch = True  # all replies to one batch of requests go out together
        try:
            while (request := next_request(self._reader, MAX_REQUEST)) is not None:
                if not self._handle_at_once(request):
                    self._slow = request
                    return False
                if self._is_congested():
                    return False
            return True
        finally:
            self._in_batch = False
            self._outbox.kick()

    def _is_congested(self) -> bool:
        return len(self._unanswered) >= MAX_UNDER_WAY or self._waiting + self._outbox.backlog > MAX_BACKLOG

    async def _catch_up(self) -> None:
        """Whatever the primary asks for, only so much is kept in memory."""
        while len(self._unanswered) >= MAX_UNDER_WAY:
            await self._one_answered()
        self._outbox.kick()
        while self._waiting > MAX_BACKLOG:
            await self._fewer.wait()
            self._outbox.kick()
        await self._outbox.below(MAX_BACKLOG)

    async def _handle(self, request: Request) -> None:
        """A request that is not handled at once."""
        # The original gives a reply to the first of its requests with that number, whatever the reply is to.
        while request.seq in self._unanswered:
            await self._one_answered()
        if self._is_refused(request):
            return
        if self._map_is_ours and not self._is_only_copy:
            await self._forget_map()
        if request.command is Command.STATE:
            self._unanswered.add(request.seq)
            await self._set_state(request)
            return
        if request.command is Command.FLUSH:
            await self._all_changed()
        self._start(request)

    def _handle_at_once(self, request: Request) -> bool:
        """Does it, unless something has to be waited for first."""
        command = request.command
        if command is Command.KEEPALIVE:
            return True
        if request.seq in self._unanswered:
            return False
        if self._is_refused(request):
            return True
        if self._map_is_ours and not self._is_only_copy:
            return False
        if command is Command.STATE or (command is Command.FLUSH and self._changing):
            return False
        self._start(request)
        return True

    def _is_refused(self, request: Request) -> bool:
        """Whether it asks for the impossible, and was told so. Raises ProtocolError if no link of this version may."""
        if request.command is Command.STATE and self._version < STATE_SINCE:
            raise ProtocolError(f"STATE request over a link of version {self._version}")
        error = validate_request(request, self._datasize, MAX_REQUEST)
        if not error:
            return False
        self._log_refusal(request)
        self._unanswered.add(request.seq)
        if request.memsync:
            self._put(encode_reply(request.seq, received=True))  # the original ends if it gets but one answer
        self._reply(request.seq, error)
        return True

    def _start(self, request: Request) -> None:
        """It is answered when it is done."""
        command = request.command
        self._unanswered.add(request.seq)
        if command is Command.WRITE:
            self._write(request)
        elif command is Command.FLUSH:
            self._flush(request)
        elif command is Command.READ:
            self._read(request)
        else:
            self._delete(request)

    def changed(self, request: Request, error: int) -> None:
        """A write or discard is done."""
        if error:
            self._own_up_to(request, error)
        else:
            self._changed(request, 0)

    def _log_refusal(self, request: Request) -> None:
        """The first one of a link: whoever asks for the impossible may do so without end."""
        text = "Refused %s of %d bytes at %d. More of this link are not logged."
        if not self._has_refused:
            log.error(text, request.command.name, request.length, request.offset)
        self._has_refused = True

    async def _one_answered(self) -> None:
        self._outbox.kick()
        await self._answered.wait()

    def _put(self, frame: list[Buffer]) -> None:
        self._outbox.put(frame if self._version >= ORIGINAL_VERSION else for_version(frame, self._version))

    def _is_answered(self, seq: int) -> None:
        self._unanswered.discard(seq)
        self._answered.set()

    def _reply(self, seq: int, error: int = 0) -> None:
        self._is_answered(seq)
        self._put(encode_reply(seq, error=error) if error else [encode_plain_reply(seq)])
        if not self._in_batch:
            self._outbox.kick()

    async def _forget_map(self) -> None:
        """The first request tells that the primary has our map, merged into its own, on its disk (hast(8))."""
        self._map_is_ours = False
        self._map.forget()
        await self._metastore.write_cleaned()

    def _locked(self, request: Request, start: Callable[[Done], None], kept: int = 0) -> None:
        """Starts a change of the request's range when nothing that overlaps is under way; replies when it is done.

        `kept`: bytes of it that are in memory until then.
        """
        self._changing += 1
        self._waiting += kept
        mapped = self._mapped if self._is_only_copy else _at_once

        def granted(held: Range) -> None:
            def done(error: int) -> None:
                if kept:
                    self._no_longer_waiting(kept)
                self._ranges.release(held)
                self.changed(request, error)

            mapped(request, start, done)

        self._ranges.acquire(request.offset, request.offset + request.length, granted)

    def _mapped(self, request: Request, start: Callable[[Done], None], done: Done) -> None:
        """The same, with the map durable before: the primary has none. It stays dirty until a resync."""
        size = self._metastore.metadata.extentsize
        first, last = request.offset // size, (request.offset + request.length - 1) // size

        def over(error: int) -> None:
            self._map.end_write(first, last, replicated=False)
            done(error)

        def durable(error: int) -> None:
            if error:
                over(error)
            else:
                start(over)

        if self._map.begin_write(first, last):
            start(over)
        else:
            self._metastore.when_durable(first, last, durable)

    def _changed(self, request: Request, error: int) -> None:
        self._reply(request.seq, error)
        self._changing -= 1
        if not self._changing:
            self._quiet.set()

    def _own_up_to(self, request: Request, error: int) -> None:
        self._gap = True
        self._failures.append((request, error))
        self._failed.set()

    def _write(self, request: Request) -> None:
        self._statistics.stat_write += 1
        self._telemetry.write_bytes += request.length
        if request.memsync:
            self._put([encode_received(request.seq)])
        offset, length, data = request.offset, request.length, request.data
        if data is None:
            self._locked(request, lambda done: self._component.zero(offset, length, done, allocated=True))
            return
        if self._is_only_copy or self._ranges.is_taken(offset, offset + length):
            data, kept = bytes(data), length  # it has to wait, the receive buffer does not
            content = data
            self._locked(request, lambda done: self._component.write(offset, content, done), kept)
        else:
            self._changing += 1
            change = _Change(self, request)
            self._component.write(offset, data, change.done)
            change.lock(self._ranges)

    def _no_longer_waiting(self, length: int) -> None:
        self._waiting -= length
        self._fewer.set()

    def _delete(self, request: Request) -> None:
        self._statistics.stat_delete += 1
        self._telemetry.delete_bytes += request.length
        offset, length = request.offset, request.length
        self._locked(request, lambda done: self._component.zero(offset, length, done, allocated=False))

    def _read(self, request: Request) -> None:
        self._statistics.stat_read += 1
        self._telemetry.read_bytes += request.length
        self._waiting += request.length

        def granted(held: Range) -> None:
            def done(error: int, data: Buffer) -> None:
                self._no_longer_waiting(request.length)
                self._ranges.release(held)
                self._read_done(request, error, data)

            self._component.read(request.offset, request.length, done)

        self._ranges.acquire(request.offset, request.offset + request.length, granted)

    def _read_done(self, request: Request, error: int, data: Buffer) -> None:
        if error:
            self._statistics.stat_read_error += 1
            log.error("Unable to read %d bytes at %d: %s.", request.length, request.offset, os.strerror(error))
            self._reply(request.seq, error)
        else:
            packing = understood(self._version, self._config.compression, self._config.checksum)
            packed = pack(bytes(data), *packing)
            self._is_answered(request.seq)
            self._put(encode_reply(request.seq, packed=packed))
            self._outbox.kick()

    def _flush(self, request: Request) -> None:
        """A barrier: what came before is written, or was answered with an error (`_all_changed`)."""
        self._statistics.stat_flush += 1
        self._gap = False
        self._flushing += 1

        def done(error: int) -> None:
            self._flushing -= 1
            if error:
                self._changing += 1
                self._own_up_to(request, error)
            else:
                self._reply(request.seq)
                self._quiet.set()

        self._component.flush(done, idle=len(self._unanswered) == 1)

    async def _all_changed(self, *, flushes: bool = False) -> None:
        while self._changing or (flushes and self._flushing):
            self._outbox.kick()
            await self._quiet.wait()

    async def _set_state(self, request: Request) -> None:
        """What this node's data is, is durable before any later request is looked at (promise 6).

        A primary calls it consistent after a FLUSH: if a write failed since then, it did not know. And from then on
        this is not the only good copy any more, whatever the link began with: a gap counts.
        """
        await self._all_changed(flushes=True)  # one that fails leaves a gap, too
        assert request.state is not None
        if request.state.detached:
            await self._become_only_copy(request)
            return
        self._is_source = False
        if self._gap and request.state.consistency is Consistency.CONSISTENT:
            await self._metastore.update(consistency=Consistency.INCONSISTENT)
            self._reply(request.seq, errno.EIO)
            return
        await self._metastore.update(consistency=request.state.consistency, generations=request.state.generations)
        self._reply(request.seq)

    async def _become_only_copy(self, request: Request) -> None:
        """The primary lost its component. This data is not what it was any more, and on record as such (promise 5)."""
        metadata = self._metastore.metadata
        assert request.state is not None
        gap = self._gap and not self._is_source
        if gap or metadata.consistency is not Consistency.CONSISTENT:
            log.error("The primary's component failed, but this one lacks something, too.")
            self._reply(request.seq, errno.EIO)
            return
        await self._metastore.update(generations=request.state.generations, localcnt=metadata.localcnt + 1)
        self._is_source = self._is_only_copy = True
        log.warning(
            "The primary's component failed: this is the only copy until it is repaired.", extra=about("peer-detach")
        )
        self._reply(request.seq)

    async def _own_up(self) -> None:
        """A write or flush that failed leaves a gap in this copy: on record here before the primary hears of it.

        Not if this is the only good copy: then what failed here was not done at all, and the primary says so. One of an
        older version says nothing, nor when this is not the only good copy any more: to it, it never is.
        """
        while True:
            await self._failed.wait()
            failures, self._failures = self._failures, []
            try:
                if not self._is_source:
                    await self._metastore.update(consistency=Consistency.INCONSISTENT)
            except ComponentError as error:
                if self._version >= STATE_SINCE:
                    raise  # The link ends: then the primary goes on alone, and that is on record there.
                log.error("%s", error)
            for request, error_number in failures:
                self._count_error(request)
                log.error(
                    "Unable to %s %d bytes at %d: %s.",
                    request.command.name.lower(),
                    request.length,
                    request.offset,
                    os.strerror(error_number),
                )
                self._changed(request, error_number)

    async def _look_after_component(self) -> None:
        """A file that was deleted or cut short gives no error until it is too late."""
        while True:
            if damage := self._component.damage():
                raise ComponentError(f"{self._component.path} {damage}.")
            await trio.sleep(LOOK_INTERVAL)

    def _count_error(self, request: Request) -> None:
        if request.command is Command.DELETE:
            self._statistics.stat_delete_error += 1
        elif request.command is Command.FLUSH:
            self._statistics.stat_flush_error += 1
        else:
            self._statistics.stat_write_error += 1

    async def _watch(self) -> None:
        """A primary says something every 10 seconds, or it is dead. (One of version 0 does not.)"""
        while self._version >= KEEPALIVE_SINCE:
            heard = self._last_received
            await trio.sleep_until(heard + SILENCE)
            if self._last_received == heard:
                raise LinkLost(f"the primary is silent for {SILENCE} seconds")


class _Change:
    """A write that did not have to wait. Its range is locked only if it is not done at once, as nearly all are."""

    __slots__ = ("_held", "_over", "_ranges", "_request", "_secondary")

    def __init__(self, secondary: Secondary, request: Request) -> None:
        self._secondary = secondary
        self._request = request
        self._over = False
        self._held: Range | None = None

    def lock(self, ranges: RangeLock) -> None:
        """To be called when the write has begun, with nothing in between."""
        if not self._over:
            self._ranges = ranges
            self._held = ranges.acquire(self._request.offset, self._request.offset + self._request.length, _nothing)

    def done(self, error: int) -> None:
        """The component's answer."""
        self._over = True
        if self._held is not None:
            self._ranges.release(self._held)
        self._secondary.changed(self._request, error)


def _nothing(held: Range) -> None:
    pass


def boot_id() -> int:
    """Another number after each start of this machine's kernel (random(4)): whose page cache began empty then."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # bytes: no codec can be loaded any more
        return int(file.read().replace(b"-", b"")[:16], 16) or 1


def _at_once(request: Request, start: Callable[[Done], None], done: Done) -> None:
    start(done)


async def serve(
    secondary: Secondary,
    joining: Joining,
    notify: Notify,
    *,
    task_status: trio.TaskStatus[Secondary] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Handshake and service over any component and network. Returns when the link ends.

    Raises SplitBrain, LinkLost (during the handshake) or another HastError.
    """
    try:
        await secondary.agree(joining)
    except SplitBrain as error:
        # Not logged here: the primary comes again and again, and only hastd knows what it has said already.
        notify(Event.SPLIT_BRAIN)
        raise SplitBrain(split_brain_advice(secondary.metadata)) from error
    except OSError as error:
        raise LinkLost(f"Connection lost during the handshake: {plain(error)}") from error
    log.info("Connected to the primary.", extra=about("connect"))
    notify(Event.CONNECT)
    task_status.started(secondary)
    try:
        await secondary.serve()
    except (LinkLost, OSError) as error:
        log.warning("Disconnected from the primary: %s", plain(error), extra=about("disconnect", reason=plain(error)))
    except ProtocolError as error:
        log.error("Disconnected from the primary: %s", plain(error), extra=about("disconnect", reason=plain(error)))
    finally:
        notify(Event.DISCONNECT)


async def run(
    config: ResourceConfig,
    opened: Opened,
    first: socket.socket,
    second: socket.socket,
    *,
    joining: Joining,
    version: int,
    notify: Notify,
    task_status: trio.TaskStatus[Secondary] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the primary that opened the two connections and has sent `joining`, until the link ends; closes all.

    Raises ComponentError (it cannot be used any more), SplitBrain or another HastError (refused).
    """
    outgoing, incoming = SocketChannel(first, config.timeout), SocketChannel(second, config.timeout)
    try:
        component = opened.component()
        try:
            secondary = Secondary(
                config,
                component,
                opened.metadata,
                opened.ondisk_map,
                outgoing=outgoing,
                incoming=incoming,
                version=version,
                boot=boot_id(),
            )
            await serve(secondary, joining, notify, task_status=task_status)
        finally:
            component.close()
    finally:
        outgoing.close()
        incoming.close()
