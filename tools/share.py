#!/usr/bin/env python3
"""Makes the files in share/ that say what the program says of itself: hastd(8), hastctl(8), completion.

usage: tools/share.py          after a change of `hastfs/cli/{options,help,completion}.py` or `tools/manual/`

They are kept, so that installing needs none of this, and a test compares them (tests/unit/test_share.py).
hast.conf(5) is written by hand: a test holds it against the grammar.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from hastfs.cli import completion  # noqa: E402
from hastfs.cli import help as texts  # noqa: E402
from hastfs.cli.help import Option  # noqa: E402
from hastfs.cli.options import COMMANDS  # noqa: E402

_PAGE = re.compile(r"^(?P<name>(?:hastctl|hastd|hast\.conf|sysexits))\((?P<section>[0-9])\)(?P<after>[.,;:)]*)$")


def files() -> dict[str, str]:
    """Their texts, by their paths below share/."""
    manual = TOP / "tools" / "manual"
    hastctl, hastd = ((manual / name).read_text() for name in ("hastctl.8", "hastd.8"))
    hastctl = hastctl.replace("@SYNOPSIS@", _lines(_synopsis())).replace("@COMMANDS@", _lines(_commands()))
    hastd = hastd.replace("@OPTIONS@", _lines(_options(texts.hastd_options())))
    hastd = hastd.replace("@EXAMPLES@", _lines(list(_examples(texts.HASTD_PAGE.examples))[1:]))
    return {
        "man/man8/hastctl.8": hastctl,
        "man/man8/hastd.8": hastd,
        "bash-completion/completions/hastctl": completion.bash(),
        # A shell loads the file that is called like the command.
        "bash-completion/completions/hastd": '# See hastctl\'s.\n. "${BASH_SOURCE[0]%/*}/hastctl"\n',
        "zsh/site-functions/_hastctl": completion.zsh(),
        "fish/vendor_completions.d/hastctl.fish": completion.fish(),
        "fish/vendor_completions.d/hastd.fish": "# See hastctl's.\nsource (status dirname)/hastctl.fish\n",
    }


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _synopsis() -> Iterator[str]:
    for name, command in COMMANDS.items():
        yield from (".Nm", f".Cm {name}")
        yield from _usage(" ".join(command.usage))
    yield from (".Nm", ".Op Ar command", ".Fl \\-help")


def _usage(text: str) -> Iterator[str]:
    """`[-d] [-c config] [--json | --table] <a | b> all | name ...`"""
    for part in re.findall(r"\[[^\]]*\]|<[^>]*>|[^\[<]+", text):
        inside = part.strip("[]<> ")
        words = " ".join(_usage_word(word) for word in inside.split())
        if part.startswith("["):
            yield f".Op {words}"
        elif part.startswith("<"):
            yield f".Brq {words}"
        elif words:
            yield f".{words}"


def _usage_word(word: str) -> str:
    if word.startswith("-"):
        return f"Fl {_escaped(word[1:])}"
    if word in ("|", "..."):
        return word
    fixed = {"all", *(word for words in completion.FIRST.values() for word in words)}
    return f"{'Cm' if word in fixed else 'Ar'} {word}"


def _commands() -> Iterator[str]:
    for name, command in COMMANDS.items():
        page = texts.PAGES[name]
        yield from (f".Ss {name}: {page.summary}", ".Nm", f".Cm {name}")
        yield from _usage(" ".join(command.usage))
        for paragraph in page.about:
            yield from (".Pp", *_text(paragraph))
        yield from _options([option for option in texts.options(name) if option.flag not in ("-h", "--help")])
        yield from _examples(page.examples)
    yield from (".Ss Every command", "knows these as well:")
    yield from _options([option for option in texts.options("status") if option.flag in ("-h", "--help")])
    yield from (".Pp", "Without a command there is")
    yield from _options([texts.VERSION])


def _options(options: Sequence[Option]) -> Iterator[str]:
    if not options:
        return
    yield ".Bl -tag -width indent"
    for option in options:
        value = f" Ar {option.metavar}" if option.metavar else ""
        yield from (f".It Fl {_escaped(option.flag[1:])}{value}", *_text(option.text))
    yield ".El"


def _examples(examples: Sequence[tuple[str, str]]) -> Iterator[str]:
    for what, command in examples:
        yield from (".Pp", *_text(f"{what[0].upper()}{what[1:]}:"))
        yield f".Dl {_escaped(command)}"


def _text(paragraph: str) -> Iterator[str]:
    """Each sentence on a new line, and what is in backticks, and other manual pages, as mdoc(7) wants them."""
    for sentence in re.split(r"(?<=[.:]) (?=[A-Z`])", paragraph):
        plain: list[str] = []
        for piece in re.findall(r"\(?`[^`]*`[^\s]*|[^\s`]+", sentence):
            if macro := _macro(piece):
                yield from (*_wrapped(plain), macro)
                plain = []
            else:
                plain.append(_escaped(piece))
        yield from _wrapped(plain)


def _wrapped(words: Sequence[str]) -> list[str]:
    lines = textwrap.wrap(" ".join(words), 78, break_long_words=False, break_on_hyphens=False)
    # None may look like a request.
    return [f"\\&{line}" if line.startswith((".", "'")) else line for line in lines]


def _macro(piece: str) -> str:
    """The line for a piece that is no plain text; empty if it is."""
    if page := _PAGE.match(piece):
        return f".Xr {page['name']} {page['section']} {' '.join(page['after'])}".rstrip()
    if piece.startswith("FreeBSD"):
        return f".Fx {'Ns ' if piece[7:8].isalpha() or piece[7:8] == chr(39) else ''}{piece[7:]}".rstrip()
    quoted = re.match(r"^(\(?)`([^`]*)`(.*)$", piece)
    if not quoted:
        return ""
    before, inside, after = quoted.groups()
    words = f'"{_escaped(inside)}"' if inside.startswith(".") or len(inside) < 3 else _escaped(inside)
    if before and after.startswith(")"):
        return f".Pq Ql {words} {' '.join(after[1:])}".rstrip()
    return f".{'Pf ( ' if before else ''}Ql {words} {' '.join(after)}".rstrip()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def main() -> None:
    for name, text in files().items():
        path = TOP / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
