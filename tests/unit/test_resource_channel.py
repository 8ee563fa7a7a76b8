"""A TCP connection as the engines see it: how long it may go unanswered, which may change while it is open."""

from __future__ import annotations

import socket

import pytest

from hastfs.resource.channel import SocketChannel


def user_timeout(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize(("seconds", "milliseconds"), [(1, 1000), (20, 20_000), (2**31 - 1, 2_147_483_000)])
async def test_the_kernel_gives_up_after_the_timeout(seconds: int, milliseconds: int) -> None:
    with socket.socket() as sock:
        channel = SocketChannel(sock, 7)
        assert user_timeout(sock) == 7000
        channel.set_timeout(seconds)
        assert user_timeout(sock) == milliseconds


async def test_a_closed_connection_takes_a_timeout_and_does_nothing_with_it() -> None:
    channel = SocketChannel(socket.socket(), 7)
    channel.close()
    channel.set_timeout(8)
