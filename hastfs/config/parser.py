"""hast.conf for one node: inheritance from global to resource to `on NODE`, defaults, and what must not be."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from hastfs.address import Address, parse_control
from hastfs.config import schema, values
from hastfs.config.grammar import Document, NodeSection, ResourceSection, Statement, Word, read
from hastfs.config.schema import Config, ResourceConfig
from hastfs.errors import ConfigError
from hastfs.model import Checksum, Compression, LogFormat, Replication

Settings: TypeAlias = Mapping[str, Word]
"""The values of one section by keyword, without `listen`, of which every one counts."""

_T = TypeVar("_T")


def parse(text: str, path: str, node_names: Sequence[str]) -> Config:
    """What the file says to the node that answers to `node_names` (compared without regard to case).

    Raises ConfigError `PATH:LINE: reason`. The order of statements and sections does not matter, as in the original;
    of a statement that is given twice in a section the last one counts, and there is a warning.
    """
    source = _Source(path, tuple(node_names))
    document = read(text, path)
    common = _settings(source, document.statements)
    mine = _my_settings(source, document.nodes) or {}
    daemon = _Chain(source, (mine, common))
    return Config(
        path=path,
        control=daemon.value("control", parse_control, schema.DEFAULT_CONTROL),
        pidfile=daemon.value("pidfile", values.read_path, schema.DEFAULT_PIDFILE),
        listen=_listen(source, document),
        metrics=daemon.value("metrics", values.read_metrics, None),
        mountdir=daemon.value("mountdir", values.read_path, schema.DEFAULT_MOUNTDIR),
        resources=_resources(source, document.resources, common),
        logformat=daemon.value("logformat", LogFormat, LogFormat.CLASSIC),
        statedir=daemon.value("statedir", values.read_path, schema.DEFAULT_STATEDIR),
        warnings=tuple(source.warnings),  # the last argument: complete when everything has been read
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Whose file is read, and for whom."""

    path: str
    node_names: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)

    def is_mine(self, node: NodeSection) -> bool:
        return node.name.text.lower() in (name.lower() for name in self.node_names)

    def error(self, line: int, message: str) -> ConfigError:
        return ConfigError(f"{self.path}:{line}: {message}")

    def warn(self, line: int, message: str) -> None:
        self.warnings.append(f"{self.path}:{line}: {message}")

    def convert(self, word: Word, reader: Callable[[str], _T]) -> _T:
        try:
            return reader(word.text)
        except ValueError as error:
            raise self.error(word.line, f"near '{word.text}': {error}") from None


@dataclass(frozen=True, slots=True)
class _Chain:
    """Settings of sections, innermost first: the first that has a statement decides."""

    source: _Source
    sections: tuple[Settings, ...]

    def word(self, keyword: str) -> Word | None:
        return next((section[keyword] for section in self.sections if keyword in section), None)

    def value(self, keyword: str, reader: Callable[[str], _T], default: _T) -> _T:
        word = self.word(keyword)
        return default if word is None else self.source.convert(word, reader)

    def flag(self, keyword: str, *, default: bool = True) -> bool:
        """`on` or `off`."""
        return self.value(keyword, lambda text: text == "on", default)


def _settings(source: _Source, statements: Iterable[Statement]) -> Settings:
    """Checks what can be checked whichever node the statements are for."""
    found: dict[str, Statement] = {}
    for statement in statements:
        keyword, value = statement.keyword, statement.value
        reader = values.CHECKED_EVERYWHERE.get(keyword.text)
        if reader is not None:
            source.convert(value, reader)
        if keyword.text == "listen":
            continue
        if (before := found.get(keyword.text)) is not None:
            ignored = f"the one in line {before.keyword.line} does not count."
            source.warn(keyword.line, f"near '{keyword.text}': given twice in the same section; {ignored}")
        found[keyword.text] = statement
    return {keyword: statement.value for keyword, statement in found.items()}


def _my_settings(source: _Source, nodes: Iterable[NodeSection]) -> Settings | None:
    """Of this node's sections; None if there is none. Sections for the same node count as one."""
    statements: dict[str | None, list[Statement]] = {}  # by node; this one, whatever it is called, is None
    for node in nodes:
        statements.setdefault(None if source.is_mine(node) else node.name.text, []).extend(node.statements)
    return {node: _settings(source, found) for node, found in statements.items()}.get(None)


def _listen(source: _Source, document: Document) -> tuple[Address, ...]:
    """The global ones and this node's together, as in the original."""
    statements = [*document.statements]
    for node in filter(source.is_mine, document.nodes):
        statements += node.statements
    found: dict[tuple[object, ...], tuple[Address, int]] = {}
    for statement in statements:
        if statement.keyword.text == "listen":
            address, line = source.convert(statement.value, values.read_listen), statement.value.line
            key = (address.host.lower(), address.port, address.family)
            if key in found:
                message = f"near '{address.text}': given twice; the first one is in line {found[key][1]}"
                raise source.error(line, message)
            found[key] = (address, line)
    return tuple(address for address, _ in found.values())


def _resources(source: _Source, sections: Iterable[ResourceSection], common: Settings) -> dict[str, ResourceConfig]:
    resources: dict[str, ResourceConfig] = {}
    lines: dict[str, int] = {}
    owners: dict[tuple[str, str], str] = {}
    for section in sections:
        name, line = source.convert(section.name, values.read_name), section.name.line
        if name in resources:
            first = f"The first one is in line {lines[name]}."
            raise source.error(line, f"Resource {name} configured more than once. {first}")
        resource = _resource(source, section, common)
        resources[name], lines[name] = resource, line
        for kind, what in (
            ("Provider name", resource.provider),
            ("Path to local component", posixpath.normpath(resource.local)),
        ):
            owner = owners.setdefault((kind, what), name)
            if owner != name:
                message = f"{kind} {what} of resource {name} is also that of resource {owner} in line {lines[owner]}."
                raise source.error(line, message)
    return resources


def _resource(source: _Source, section: ResourceSection, common: Settings) -> ResourceConfig:
    name, line = section.name.text, section.name.line
    shared = _settings(source, section.statements)
    mine = _my_settings(source, section.nodes)
    if mine is None:
        names = ", ".join(source.node_names)
        message = f"No resource {name} configuration for this node (acceptable node names: {names})."
        raise source.error(line, message)
    chain = _Chain(source, (mine, shared, common))
    remote, local = chain.word("remote"), chain.word("local")
    if remote is None:
        raise source.error(line, f"Remote address not configured for resource {name}.")
    if local is None:
        raise source.error(line, f"Path to local component not configured for resource {name}.")
    _warn_of_port(source, chain.word("source"))
    return ResourceConfig(
        name=name,
        provider=chain.value("name", values.read_name, name),
        local=source.convert(local, values.read_local),
        remote=source.convert(remote, values.read_remote),
        source=chain.value("source", values.read_source, None),
        replication=chain.value("replication", Replication, schema.DEFAULT_REPLICATION),
        checksum=chain.value("checksum", Checksum, schema.DEFAULT_CHECKSUM),
        compression=chain.value("compression", Compression, schema.DEFAULT_COMPRESSION),
        timeout=chain.value("timeout", values.read_timeout, schema.DEFAULT_TIMEOUT),
        exec=chain.value("exec", values.read_path, None),
        metaflush=chain.flag("metaflush"),
        device=chain.flag("device"),
        fence=chain.value("fence", values.read_path, None),
        autorole=chain.flag("autorole", default=False),
    )


def _warn_of_port(source: _Source, word: Word | None) -> None:
    """The original takes a source's port as well, and never connects: a resource has two connections."""
    if word is not None and source.convert(word, values.read_source).port:
        source.warn(word.line, f"near '{word.text}': two connections cannot come from one port; leave it out.")
