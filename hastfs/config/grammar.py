"""The syntax of hast.conf(5): text to statements and sections, each word with its line. What they mean is parser.py's.

The lexer is contextual: where a string is legal, every word is one, so a resource may be called `name` and a node
`on`. A word ends only where its characters end, so `timeout5` is not `timeout 5`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, TypeVar

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from hastfs.config.complaint import PLACES, describe
from hastfs.errors import ConfigError

_GRAMMAR = r"""
start: (daemon | transfer | metaflush | node | resource)*

node: ON STRING _OPEN daemon* _CLOSE
resource: RESOURCE STRING _OPEN (transfer | metaflush | device | component | resource_node)* _CLOSE
resource_node: ON STRING _OPEN (component | metaflush | device | peer)* _CLOSE  -> node

daemon: (CONTROL | PIDFILE | LISTEN | METRICS | MOUNTDIR | STATEDIR) STRING  -> statement
    | LOGFORMAT (CLASSIC | LOGFMT | JSON)  -> statement
transfer: REPLICATION (FULLSYNC | MEMSYNC | ASYNC)  -> statement
    | CHECKSUM (NONE | CRC32 | SHA256)  -> statement
    | COMPRESSION (NONE | HOLE | LZF)  -> statement
    | TIMEOUT NUMBER  -> statement
    | (EXEC | FENCE) STRING  -> statement
    | AUTOROLE (ON | OFF)  -> statement
metaflush: METAFLUSH (ON | OFF)  -> statement
device: DEVICE (ON | OFF)  -> statement
component: (NAME | LOCAL) STRING  -> statement
peer: (REMOTE | SOURCE) STRING  -> statement

_OPEN: "{"
_CLOSE: "}"
STRING: /[a-zA-Z0-9.\-_\/:\[\]]+/
NUMBER: /[0-9]+/ _END
_END: /(?![a-zA-Z0-9.\-_\/:\[\]])/

%ignore /[ \t\r\n\f\v]+/
%ignore /#[^\n]*/
"""

_VALUES = ("off", "fullsync", "memsync", "async", "none", "crc32", "sha256", "hole", "lzf", "classic", "logfmt", "json")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the file, and the line it stands in (from 1)."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    keyword: Word
    value: Word


@dataclass(frozen=True, slots=True)
class NodeSection:
    """`on NODE { ... }`, global or of a resource."""

    name: Word
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class ResourceSection:
    """`resource NAME { ... }`"""

    name: Word
    statements: tuple[Statement, ...]
    nodes: tuple[NodeSection, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file; statements and sections are each in the file's order."""

    statements: tuple[Statement, ...]
    nodes: tuple[NodeSection, ...]
    resources: tuple[ResourceSection, ...]


_Part: TypeAlias = Token | Statement | NodeSection | ResourceSection
_T = TypeVar("_T")


class _Builder(Transformer[Token, Document]):
    """Called by the parser for each rule that is complete, with the values of its parts."""

    def statement(self, words: list[Token]) -> Statement:
        keyword, value = words
        return Statement(_word(keyword), _word(value))

    def node(self, parts: list[_Part]) -> NodeSection:
        return NodeSection(_name(parts), _only(Statement, parts))

    def resource(self, parts: list[_Part]) -> ResourceSection:
        return ResourceSection(_name(parts), _only(Statement, parts), _only(NodeSection, parts))

    def start(self, parts: list[_Part]) -> Document:
        return Document(_only(Statement, parts), _only(NodeSection, parts), _only(ResourceSection, parts))


def _word(token: Token) -> Word:
    assert token.line is not None
    return Word(str(token), token.line)


def _name(parts: list[_Part]) -> Word:
    """Of a section, whose parts are its keyword, its name, and what it contains."""
    name = parts[1]
    assert isinstance(name, Token)
    return _word(name)


def _only(kind: type[_T], parts: list[_Part]) -> tuple[_T, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


@cache
def _parser() -> Lark:
    keywords = "\n".join(f'{word.upper()}: "{word}" _END' for word in (*PLACES, *_VALUES))
    return Lark(_GRAMMAR + keywords, parser="lalr", lexer="contextual", transformer=_Builder())


def read(text: str, path: str) -> Document:
    """Raises ConfigError `PATH:LINE: near 'WORD': what was expected`. Takes time linear in the text's length."""
    parser = _parser().parse_interactive(text)
    last: Token | None = None
    try:
        for token in parser.iter_parse():
            last = token
        document = parser.feed_eof(last)  # type: ignore[no-untyped-call]
    except UnexpectedCharacters as error:
        message = f"near {error.char!r}: words are made of letters, digits and . - _ / : [ ] only"
        raise ConfigError(f"{path}:{error.line}: {message}") from None
    except UnexpectedToken as error:
        # A file without a single word has no line to borrow for its end.
        raise ConfigError(f"{path}:{error.token.line or 1}: {describe(error.token, parser)}") from None
    assert isinstance(document, Document)
    return document
