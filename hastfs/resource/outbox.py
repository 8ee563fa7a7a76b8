"""What is to be sent on a channel: queued by anybody, sent in batches."""

from __future__ import annotations

from collections import deque
from itertools import islice

import trio

from hastfs.resource.channel import Channel
from hastfs.resource.waiting import Wakeup
from hastfs.volume import Buffer

_BATCH = 512  # pieces of one send; UIO_MAXIOV is 1024


class Outbox:
    """Frames queue up by `put`; `kick` at the end of a batch sends what the socket takes, `run` the rest."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pieces: deque[Buffer] = deque()
        self._wakeup = Wakeup()
        self._blocked = False
        self._error: OSError | None = None
        self._sent = trio.Event()
        self.backlog = 0
        """Bytes queued and not yet taken by the socket."""
        self.sent = 0
        """Bytes taken by the socket."""

    def put(self, frame: list[Buffer]) -> None:
        """Queues a frame. Its buffers must stay as they are until sent."""
        self._pieces.extend(frame)
        for piece in frame:
            self.backlog += len(piece)

    def put_write(self, head: bytes, data: Buffer, length: int) -> None:
        """The same for a head and its `length` bytes of data."""
        self._pieces.append(head)
        self._pieces.append(data)
        self.backlog += len(head) + length

    def kick(self) -> None:
        """Sends as much as can be sent without waiting. A broken connection is reported by `run`."""
        if self._pieces and not self._blocked and self._error is None:
            try:
                self._send()
            except BlockingIOError:
                self._blocked = True
                self._wakeup.set()
            except OSError as error:
                self._error = error
                self._wakeup.set()

    def kick_soon(self) -> None:
        """The same from `run`, a moment later: for those who are called back one by one, outside of any batch."""
        self._wakeup.set()

    def _send(self) -> None:
        pieces = self._pieces
        while pieces:
            sent = self._channel.send(pieces if len(pieces) <= _BATCH else list(islice(pieces, _BATCH)))
            self.backlog -= sent
            self.sent += sent
            if not self.backlog:
                pieces.clear()
                return
            while sent:
                length = len(pieces[0])
                if sent < length:
                    pieces[0] = memoryview(pieces[0])[sent:]
                    break
                sent -= length
                pieces.popleft()

    async def below(self, limit: int) -> None:
        """Returns when at most `limit` bytes wait to be sent."""
        while self.backlog > limit:
            self._sent = trio.Event()
            await self._sent.wait()

    async def run(self) -> None:
        """Sends what `kick` could not; runs for ever. Raises OSError when the connection is broken."""
        while True:
            await self._wakeup.wait()
            self.kick()
            if self._error is not None:
                raise self._error
            while self._blocked:
                await self._channel.writable()
                try:
                    self._send()
                    self._blocked = False
                except BlockingIOError:
                    pass
                self._sent.set()
