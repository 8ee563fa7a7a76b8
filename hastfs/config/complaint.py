"""What to tell a user whose hast.conf stops making sense at some word: what the word is, and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lark import Token
from lark.parsers.lalr_interactive_parser import InteractiveParser

GLOBAL = "the global section"
NODE = "an `on NODE` section"
RESOURCE = "a `resource NAME` section"
RESOURCE_NODE = "an `on NODE` section of a resource"

_DAEMON = (GLOBAL, NODE)
_TRANSFER = (GLOBAL, RESOURCE)
_COMPONENT = (RESOURCE, RESOURCE_NODE)
PLACES: dict[str, tuple[str, ...]] = {
    "control": _DAEMON,
    "pidfile": _DAEMON,
    "listen": _DAEMON,
    "metrics": _DAEMON,
    "mountdir": _DAEMON,
    "logformat": _DAEMON,
    "statedir": _DAEMON,
    "replication": _TRANSFER,
    "checksum": _TRANSFER,
    "compression": _TRANSFER,
    "timeout": _TRANSFER,
    "exec": _TRANSFER,
    "fence": _TRANSFER,
    "autorole": _TRANSFER,
    "metaflush": (GLOBAL, RESOURCE, RESOURCE_NODE),
    "device": _COMPONENT,
    "name": _COMPONENT,
    "local": _COMPONENT,
    "remote": (RESOURCE_NODE,),
    "source": (RESOURCE_NODE,),
    "on": (GLOBAL, RESOURCE),
    "resource": (GLOBAL,),
}
"""Where each statement and section is legal (hast.conf(5)), to help a user who put one elsewhere."""

_STRINGS = {
    "CONTROL": "an address (/path, uds:///path or unix:///path)",
    "LISTEN": "an address",
    "METRICS": "an address or none",
    "REMOTE": "an address or none",
    "SOURCE": "an address",
    "NAME": "a name",
    "ON": "a node name",
    "RESOURCE": "a resource name",
}
_SYMBOLS = {"_OPEN": "{", "_CLOSE": "}", "NUMBER": "a number of seconds"}


def describe(token: Token, parser: InteractiveParser) -> str:
    """`near 'WORD': ...` for a parser that does not accept `token` (type `$END`: the file ends there)."""
    stack = parser.parser_state.value_stack
    accepted: set[str] = parser.accepts()  # type: ignore[no-untyped-call]
    expected = f"expected {_alternatives(accepted, stack)}"
    if token.type == "$END":
        return f"at the end of the file: {expected}{_unclosed(stack)}"
    between_statements = "$END" in accepted or "_CLOSE" in accepted
    places = PLACES.get(str(token))
    if between_statements and places:
        return f"near '{token}': not allowed in {_section(stack)}, only in {_listed(places, 'and')}; {expected}"
    return f"near '{token}': {expected}"


def _alternatives(accepted: set[str], stack: Sequence[object]) -> str:
    last = stack[-1] if stack else None
    string = _STRINGS.get(last.type, "a path") if isinstance(last, Token) else "a path"
    # A file may end wherever another statement may begin; saying so would help nobody.
    names = sorted(accepted - {"$END"}, key=lambda name: (name == "_CLOSE", name))
    return _listed([_SYMBOLS.get(name, string if name == "STRING" else name.lower()) for name in names], "or")


def _section(stack: Sequence[object]) -> str:
    opened = _open_sections(stack)
    if not opened:
        return GLOBAL
    if len(opened) == 2:
        return RESOURCE_NODE
    return RESOURCE if opened[0][0].type == "RESOURCE" else NODE


def _unclosed(stack: Sequence[object]) -> str:
    opened = _open_sections(stack)
    if not opened:
        return ""
    keyword, name = opened[-1]
    return f" (`{keyword} {name}` in line {keyword.line} is still open)"


def _open_sections(stack: Sequence[object]) -> list[tuple[Token, Token]]:
    """Keyword and name of the sections that are open, outermost first.

    A section stays on the parser's stack as separate tokens until the token after its closing brace makes it one value.
    """
    found: list[tuple[Token, Token]] = []
    for index, value in enumerate(stack):
        if not isinstance(value, Token):
            continue
        if value.type == "_CLOSE":
            found.pop()
        elif value.type == "_OPEN":
            keyword, name = stack[index - 2], stack[index - 1]
            assert isinstance(keyword, Token)
            assert isinstance(name, Token)
            found.append((keyword, name))
    return found


def _listed(words: Iterable[str], conjunction: str) -> str:
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last
