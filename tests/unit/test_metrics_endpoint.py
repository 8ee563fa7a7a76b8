"""hastfs.daemon.metrics.endpoint: one page over HTTP, and clients that are slow, many or hostile."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from hastfs.daemon.managed import ManagedResource
from hastfs.daemon.metrics import endpoint
from hastfs.daemon.metrics.endpoint import Endpoint
from hastfs.details import Details

ASKED = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


class Fake(ManagedResource):
    """A resource that takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    async def details(self, cells: int = 0) -> Details:
        await trio.sleep(self._seconds)
        return Details("primary", answered=not self._seconds)


@asynccontextmanager
async def served(*resources: Fake) -> AsyncIterator[int]:
    """The port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Endpoint({f"r{n}": one for n, one in enumerate(resources)}).run, [listener])
        yield port
        nursery.cancel_scope.cancel()


async def said(stream: trio.SocketStream) -> bytes:
    heard = b""
    try:
        while data := await stream.receive_some():
            heard += data
    except trio.BrokenResourceError:
        pass
    return heard


async def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Status (0: none) and everything that was said."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        heard = await said(stream)
        return (int(heard.split()[1]) if heard else 0), heard


async def test_the_metrics_are_where_prometheus_asks_for_them() -> None:
    async with served(Fake(), Fake()) as port:
        status, heard = await ask(port, ASKED)
        assert status == 200
        assert b'hast_up{resource="r1"} 1.0' in heard
        head, _, text = heard.partition(b"\r\n\r\n")
        assert f"content-length: {len(text)}".encode() in head.lower()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /metrics?x=y HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=x\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\nx", 405),
        (b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
    ],
)
async def test_whatever_else_is_asked_for_is_refused(request_text: bytes, status: int) -> None:
    async with served(Fake()) as port:
        assert (await ask(port, request_text))[0] in (status, 0 if status == 431 else status)


async def test_a_head_request_has_no_body() -> None:
    async with served(Fake()) as port:
        status, heard = await ask(port, ASKED.replace(b"GET", b"HEAD"))
        assert (status, heard.partition(b"\r\n\r\n")[2]) == (200, b"")


async def test_a_client_that_goes_away_is_nobodys_trouble() -> None:
    async with served(Fake()) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(ASKED[:10])
        assert (await ask(port, ASKED))[0] == 200


async def test_a_resource_that_hangs_holds_up_the_others_no_longer_than_itself(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with served(Fake(), Fake(2.0), Fake(2.0)) as port:
        began = trio.current_time()
        _, heard = await ask(port, ASKED)
        assert trio.current_time() - began < 3
        assert b'hast_up{resource="r0"} 1.0' in heard
        assert b'hast_up{resource="r2"} 0.0' in heard


async def test_clients_that_say_nothing_are_sent_away_in_time_and_meanwhile_no_more_are_let_in(
    autojump_clock: MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with served(Fake()) as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(endpoint.MAX_CLIENTS)]
        await trio.sleep(1)
        assert await ask(port, ASKED) == (0, b"")
        await trio.sleep(endpoint.SERVED_WITHIN)
        assert (await ask(port, ASKED))[0] == 200
        for stream in silent:
            await stream.aclose()
