"""One message in, one message out, over a trio socket: what listener and control server have in common."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from hastfs.errors import ProtocolError
from hastfs.protocol.frame import Frame, FrameReader
from hastfs.volume import Buffer


async def receive_only(sock: trio.socket.SocketType, max_nv: int) -> Frame:
    """The one message, without data, that a client may send before it is answered.

    `max_nv`: bytes, the longest list that is accepted. Raises ProtocolError, and OSError if the connection breaks.
    """
    reader = FrameReader(max_nv, 0)
    while (frame := reader.next()) is None:
        count = await sock.recv_into(reader.buffer())
        if not count:
            raise ProtocolError("it closed the connection before its message was complete.")
        reader.received(count)
    if reader.pending:
        raise ProtocolError("it sent more than one message before it was answered.")
    return frame


async def send(sock: trio.socket.SocketType, buffers: Sequence[Buffer], within: float) -> None:
    """Raises trio.TooSlowError after `within` seconds, and OSError if the connection breaks."""
    data = memoryview(b"".join(buffers))
    with trio.fail_after(within):
        while data:
            data = data[await sock.send(data) :]
