import socket

import pytest

from hastfs.address import DEFAULT_PORT, MAX_SOCKET_PATH, Address, parse, parse_control


@pytest.mark.parametrize(
    ("text", "host", "port", "family"),
    [
        ("192.0.2.1", "192.0.2.1", 8457, 4),
        ("192.0.2.1:9000", "192.0.2.1", 9000, 4),
        ("tcp://192.0.2.1", "192.0.2.1", 8457, 4),
        ("tcp4://192.0.2.1:1", "192.0.2.1", 1, 4),
        ("TCP4://192.0.2.1:65535", "192.0.2.1", 65535, 4),
        ("hasta", "hasta", 8457, None),
        ("hasta.example.org:9000", "hasta.example.org", 9000, None),
        ("tcp4://hasta", "hasta", 8457, 4),
        ("tcp6://hasta:9000", "hasta", 9000, 6),
        ("::1", "::1", 8457, 6),
        ("2001:DB8:0::1", "2001:db8::1", 8457, 6),
        ("2001:db8::8457", "2001:db8::8457", 8457, 6),
        ("[::1]", "::1", 8457, 6),
        ("[::1]:9000", "::1", 9000, 6),
        ("tcp6://[::]:8457", "::", 8457, 6),
        ("tcp://2001:db8::2", "2001:db8::2", 8457, 6),
        ("none", "none", 8457, None),
    ],
)
def test_every_form_of_address_is_understood(text: str, host: str, port: int, family: int | None) -> None:
    address = parse(text)
    assert (address.host, address.port, address.family) == (host, port, family)
    assert address.text == text


def test_the_default_port_applies_only_without_a_port() -> None:
    assert parse("a", default_port=0).port == 0
    assert parse("a:9000", default_port=0).port == 9000
    assert DEFAULT_PORT == 8457


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the host is missing"),
        ("tcp://", "the host is missing"),
        (":8457", "the host is missing"),
        ("[]", "is not an IPv6 address"),
        ("a:", "port '' is not"),
        ("a:0", "port '0' is not"),
        ("a:65536", "port '65536' is not"),
        ("a:+1", "port '\\+1' is not"),
        ("a:\u0663", "is not a number from 1 to 65535"),
        ("a:" + "9" * 5000, "is not a number"),
        ("[::1]:", "port '' is not"),
        ("[::1]9000", r"expected \[IPV6\]"),
        ("[::1", r"expected \[IPV6\]"),
        ("[192.0.2.1]:80", "is not an IPv6 address"),
        ("1:2:3", "is not an IPv6 address"),
        ("256.0.0.1", "is not an IPv4 address"),
        ("1.2.3", "is not an IPv4 address"),
        ("12345", "is not an IPv4 address"),
        ("tcp4://::1", "is not an IPv4 address"),
        ("tcp6://192.0.2.1", "is not an IPv6 address"),
        ("udp://192.0.2.1", "unknown kind of address udp://"),
        ("uds:///tmp/x", "unknown kind of address uds://"),
        ("2001:db8::1/64", "without / and a prefix length"),
        ("/tmp/x", "without / and a prefix length"),
        ("a..b", "is not a host name"),
        (".", "is not an IPv4 address"),
        ("a.b..", "is not a host name"),
        ("-a", "is not a host name"),
        ("a" * 64, "is not a host name"),
        (".".join(["a" * 60] * 5), "is not a host name"),
        ("a b", "is not a host name"),
        ("b\u00fccher", "is not a host name"),
    ],
)
def test_a_bad_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1", "[::1]:9", "tcp4://0.0.0.0"])
def test_an_ip_address_is_one_for_the_resolver_too(text: str) -> None:
    address = parse(text)
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[address.family or 0]
    found = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    assert found[0][4][:2] == (address.host, address.port)


def test_addresses_are_values() -> None:
    assert parse("[::1]:8457") == Address("::1", 8457, 6, "[::1]:8457")
    assert parse("::1") != parse("[::1]")  # configured differently, and printed as configured


@pytest.mark.parametrize("text", ["/run/ctl", "uds:///run/ctl", "unix:///run/ctl", "UNIX:///run/ctl"])
def test_a_control_address_is_a_path(text: str) -> None:
    assert parse_control(text) == "/run/ctl"


@pytest.mark.parametrize("text", ["", "ctl", "uds://ctl", "unix://", "tcp:///run/ctl", "uds://unix:///ctl"])
def test_a_control_address_without_an_absolute_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an absolute path"):
        parse_control(text)


def test_a_control_path_has_to_fit_into_a_socket_address() -> None:
    longest = "/" + "x" * (MAX_SOCKET_PATH - 1)
    assert parse_control(longest) == longest
    with pytest.raises(ValueError, match="at most 107 bytes"):
        parse_control(longest + "x")
    with pytest.raises(ValueError, match="at most 107 bytes"):
        parse_control("/" + "\u00e9" * 54)
