"""Any configuration survives being written as text; any text gives a configuration or a ConfigError."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastfs.address import Address, parse_control
from hastfs.address import parse as parse_address
from hastfs.config.complaint import PLACES
from hastfs.config.parser import parse
from hastfs.config.schema import Config, ResourceConfig
from hastfs.errors import ConfigError
from hastfs.model import Checksum, Compression, LogFormat, Replication

ME = "hasta"
NOT_ME = ["hastb", "on", "resource", "123", "hasta2", "hast"]

words = st.text("abXY09.-_:[]", min_size=1, max_size=8) | st.sampled_from([*PLACES, "none", "off", "5"])
names = words.filter(lambda name: name not in {".", ".."})
paths = st.lists(words, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
ports = st.integers(1, 65535)
hosts = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z]{1,5})?", fullmatch=True).filter(lambda host: host != "none")


def with_port(text: str, port: int | None, default: int) -> Address:
    return parse_address(text if port is None else f"{text}:{port}", default)


@st.composite
def addresses(draw: st.DrawFn, default: int = 8457) -> Address:
    port = draw(st.none() | ports)
    kind = draw(st.sampled_from(["host", "v4", "v6", "bare"]))
    if kind == "host":
        scheme = draw(st.sampled_from(["", "tcp://", "tcp4://", "tcp6://"]))
        return with_port(scheme + draw(hosts), port, default)
    if kind == "v4":
        scheme = draw(st.sampled_from(["", "tcp://", "tcp4://"]))
        return with_port(scheme + str(draw(st.ip_addresses(v=4))), port, default)
    scheme = draw(st.sampled_from(["", "tcp://", "tcp6://"]))
    literal = str(draw(st.ip_addresses(v=6)))
    return with_port(
        f"{scheme}[{literal}]" if kind == "v6" else scheme + literal, port if kind == "v6" else None, default
    )


resources = st.builds(
    ResourceConfig,
    name=names,
    provider=names,
    local=paths,
    remote=st.none() | addresses(),
    source=st.none() | addresses(default=0),
    replication=st.sampled_from(Replication),
    checksum=st.sampled_from(Checksum),
    compression=st.sampled_from(Compression),
    timeout=st.integers(1, 2**31 - 1),
    exec=st.none() | paths,
    metaflush=st.booleans(),
    device=st.booleans(),
)


def unique_listen(found: list[Address]) -> tuple[Address, ...]:
    return tuple({(item.host, item.port, item.family): item for item in found}.values())


def numbered(found: list[ResourceConfig]) -> dict[str, ResourceConfig]:
    """Names, providers and components made unique by their position."""
    made = (
        replace(item, name=f"{item.name}{n}", provider=f"{item.provider}.{n}", local=f"{item.local}/{n}")
        for n, item in enumerate(found)
    )
    return {item.name: item for item in made}


configs = st.builds(
    Config,
    path=st.just("hast.conf"),
    control=paths.map(parse_control),
    pidfile=paths,
    listen=st.lists(addresses(), max_size=3).map(unique_listen),
    mountdir=paths,
    logformat=st.sampled_from(LogFormat),
    resources=st.lists(resources, max_size=3).map(numbered),
)


class Writer:
    """Writes a configuration as text in one of its many forms: each statement at a level that will do, in any order,
    other values where they are overridden or where another node's are, comments and white space anywhere."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def config(self, config: Config) -> str:
        mine: list[str] = []
        common: list[str] = []
        for keyword, value in (
            ("control", self.random.choice(["", "uds://", "unix://"]) + config.control),
            ("pidfile", config.pidfile),
            ("mountdir", config.mountdir),
        ):
            self.place(f"{keyword} {value}", f"{keyword} /other", mine, common)
        self.place(f"logformat {config.logformat.value}", "logformat classic", mine, common)
        # Global addresses come first, whatever stands where.
        split = self.random.randint(0, len(config.listen))
        listen = [f"listen {address.text}" for address in config.listen]
        mine_text = self.section(f"on {ME}", self.shuffled(mine), listen[split:])
        items = [*common, mine_text, self.section(f"on {self.random.choice(NOT_ME)}", ["control /z", "listen z"])]
        items += [self.section("on elsewhere", []), *self.inherited(list(config.resources.values()))]
        rest = [self.resource(item) for item in config.resources.values()]
        return self.spaced(self.merged(self.shuffled(items), self.merged(listen[:split], rest)))

    def inherited(self, resources: list[ResourceConfig]) -> list[str]:
        """Global statements that every resource overrides, or that say what all of them have."""
        self.common_timeout = self.random.choice(resources).timeout if resources else 1
        # There is no way to write "no exec" below a global one.
        overridden = ["exec /overridden"] if all(item.exec for item in resources) else []
        return [f"timeout {self.common_timeout}", "metaflush off", "replication async", *overridden]

    def resource(self, item: ResourceConfig) -> str:
        mine: list[str] = [f"remote {item.remote.text if item.remote else 'none'}"]
        mine += [f"source {item.source.text}"] if item.source else []
        shared = [f"checksum {item.checksum.value}", f"compression {item.compression.value}"]
        if item.replication is not Replication.ASYNC or self.random.random() < 0.5:
            shared.append(f"replication {item.replication.value}")
        if item.timeout != self.common_timeout or self.random.random() < 0.5:
            shared.append(f"timeout {item.timeout}")
        shared += [f"exec {item.exec}"] if item.exec else []
        self.place(f"name {item.provider}", "name other", mine, shared)
        self.place(f"local {item.local}", "local relative/other", mine, shared)
        self.place(f"metaflush {'on' if item.metaflush else 'off'}", "metaflush on", mine, shared)
        self.place(f"device {'on' if item.device else 'off'}", "device off", mine, shared)
        nodes = [self.section(f"on {ME}", self.shuffled(mine))]
        nodes.append(self.section(f"on {self.random.choice(NOT_ME)}", ["remote none", "local ada0", "device off"]))
        return self.section(f"resource {item.name}", self.shuffled([*shared, *nodes]))

    def place(self, statement: str, overridden: str, inner: list[str], outer: list[str]) -> None:
        where = self.random.choice(["inner", "outer", "both"])
        (outer if where == "outer" else inner).append(statement)
        if where == "both":
            outer.append(overridden)

    def section(self, head: str, items: list[str], more: list[str] | None = None) -> str:
        return self.spaced([head, "{", *items, *(more or []), "}"])

    def shuffled(self, items: list[str]) -> list[str]:
        return self.random.sample(items, len(items))

    def merged(self, first: list[str], second: list[str]) -> list[str]:
        """Both, each in its own order."""
        first, second, found = list(first), list(second), []
        while first or second:
            found.append((first if not second or (first and self.random.random() < 0.5) else second).pop(0))
        return found

    def spaced(self, items: list[str]) -> str:
        return "".join(item + self.random.choice([" ", "\n", "\t", "\r\n", " # } { on\n", "#\n"]) for item in items)


@settings(max_examples=150, deadline=None)
@given(config=configs, seed=st.integers(0, 2**32))
def test_a_config_written_as_text_is_read_as_the_same_config(config: Config, seed: int) -> None:
    text = Writer(seed).config(config)
    read = parse(text, "hast.conf", [ME, f"{ME}.example.org"])
    assert replace(read, warnings=()) == config
    warned = sum(bool(item.source and item.source.port) for item in config.resources.values())
    assert len(read.warnings) == warned, "nothing is given twice"


tokens = st.sampled_from(
    [*PLACES, "{", "}", "a", "/x", "5", "0", "::1", "hasta", "none", "async", "hole", "#", "\n", '"']
)
token_soup = st.lists(tokens, max_size=60).map(" ".join)
garbage = st.text(max_size=200) | st.text("{}#\n \tonresourcelocal/0:[]", max_size=200) | token_soup


def check_outcome(text: str) -> None:
    started = time.monotonic()
    try:
        parse(text, "hast.conf", [ME])
    except ConfigError as error:
        assert str(error).startswith("hast.conf:")
        assert str(error).split(":")[1].isdigit()
        assert "\n" not in str(error)
        assert 1 <= int(str(error).split(":")[1]) <= text.count("\n") + 1
    assert time.monotonic() - started < 5


@settings(max_examples=400, deadline=None)
@given(text=garbage)
def test_garbage_is_a_config_or_a_config_error(text: str) -> None:
    check_outcome(text)


@settings(max_examples=150, deadline=None)
@given(config=configs, seed=st.integers(0, 2**32), data=st.data())
def test_a_damaged_config_is_a_config_or_a_config_error(config: Config, seed: int, data: st.DataObject) -> None:
    text = Writer(seed).config(config)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    check_outcome(text[:start] + data.draw(st.text(max_size=3)) + text[end:])


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "a" * 1_000_000,
        "timeout " + "9" * 1_000_000,
        "resource a { " * 20_000,
        "resource " + "on { " * 20_000,
        "# x\n" * 200_000 + "x",
        "resource r { on n { } " + "on n { } " * 20_000,
        "on hasta { } " * 20_000 + "x",
        "".join(f"listen h{n}\n" for n in range(20_000)) + "x",
        "".join(f"resource r{n} {{ local /r{n} on hasta {{ remote none }} }}\n" for n in range(4_000)) + "timeout 0",
    ],
    ids=lambda text: text[:20],
)
def test_a_large_bad_file_is_refused_in_bounded_time(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, "hast.conf", [ME])
    check_outcome(text)
