"""Which addresses a pair uses: IPv6, several to listen on, and the one to come from."""

from __future__ import annotations

import re
import socket

import pytest

from hastfs.protocol.handshake import Hello
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, RESOURCE, Node
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


def readdress(node: Node, listen: tuple[str, ...], remote: str, source: str | None = None) -> None:
    """Other addresses in the node's config."""
    listening = "\n".join(f"listen {address}" for address in listen)
    text = re.sub(r"^listen .*$", listening, node.config.read_text(), flags=re.MULTILINE)
    peer = f"remote {remote}" if source is None else f"remote {remote} source {source}"
    node.config.write_text(re.sub(r"remote .*$", peer, text, flags=re.MULTILINE))


def works(pair: Pair) -> None:
    """What the primary writes and flushes is on the secondary, in both directions."""
    for primary, secondary, mark in ((pair.a, pair.b, b"a"), (pair.b, pair.a, b"b")):
        primary.role("init")  # before the other one can take over
        secondary.role("secondary")
        primary.become_primary()
        primary.until_status("complete")
        with primary.image.open("r+b", buffering=0) as image:
            image.seek(MIB)
            image.write(mark * 4096)
        primary.role("init")
        secondary.role("init")
        pair.assert_equal()


def answer_to(peer: str, address: tuple[str, int]) -> bytes:
    """What a hastd at `address` says to a correct first message that comes from `peer`."""
    with socket.create_connection(address, timeout=30, source_address=(peer, 0)) as client:
        client.sendall(b"".join(Hello(RESOURCE, 2).encode()))
        try:
            return client.recv(4096)
        except ConnectionResetError:  # closed before our message was read
            return b""


def test_a_pair_over_ipv6_that_listens_on_two_addresses(make_pair: MakePair) -> None:
    pair = make_pair()
    for node, other in ((pair.a, pair.b), (pair.b, pair.a)):
        listen = (f"tcp4://127.0.0.1:{node.port}", f"tcp6://[::1]:{node.port}")
        readdress(node, listen, f"[::1]:{other.port}")
    pair.start()
    works(pair)
    assert pair.a.fields()["remoteaddr"] == f"[::1]:{pair.b.port}"
    pair.b.role("secondary")
    assert answer_to("::1", ("::1", pair.b.port)), "the remote address is answered"
    assert answer_to("127.0.0.1", ("127.0.0.1", pair.b.port)) == b"", "IPv4 is heard, but it is not the remote address"
    assert "127.0.0.1 closed: it is not the remote address of any resource." in pair.b.log.read_text()


def test_a_pair_whose_nodes_come_from_the_addresses_that_source_names(make_pair: MakePair) -> None:
    pair = make_pair()
    a, b = "127.0.0.2", "127.0.0.3"
    readdress(pair.a, (f"tcp4://{a}:{pair.a.port}",), f"tcp4://{b}:{pair.b.port}", a)
    readdress(pair.b, (f"tcp4://{b}:{pair.b.port}",), f"tcp4://{a}:{pair.a.port}", b)
    pair.start()
    # Without `source` the system would choose 127.0.0.1, which is nobody's remote address.
    works(pair)
    assert pair.a.fields()["sourceaddr"] == a
    pair.connect()
    worker = pair.b.fields()["workerpid"]
    for stranger in ("127.0.0.1", "127.0.0.4", b):
        assert answer_to(stranger, (b, pair.b.port)) == b""
    assert (pair.a.status().status, pair.b.fields()["workerpid"]) == ("complete", worker), "nobody took a's place"
    assert answer_to(a, (b, pair.b.port)), "the remote address is answered"


def test_a_node_that_comes_from_another_address_is_not_served(make_pair: MakePair) -> None:
    pair = make_pair()
    readdress(pair.a, (f"127.0.0.1:{pair.a.port}",), f"127.0.0.1:{pair.b.port}", "127.0.0.9")
    readdress(pair.b, (f"127.0.0.1:{pair.b.port}",), f"127.0.0.1:{pair.a.port}")
    pair.start()
    pair.b.role("secondary")
    pair.a.become_primary()
    refusal = "Connection from 127.0.0.9 closed: it is not the remote address of any resource."
    pair.b.until(lambda: refusal in pair.b.log.read_text(), "the stranger is sent away")
    assert pair.a.status().status == "degraded"
    assert pair.b.count("connect") == 0
