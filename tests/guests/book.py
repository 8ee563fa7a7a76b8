"""A page of docs/ whose commands can be run: what is to be typed where, in which order, and what it should say.

Pure. On such a page an indented block is one of

- commands: `alpha# COMMAND`, `beta#`, `both#`, `here#` (this machine). A command goes on in the next line after a
  backslash. Other lines are what the command before them says, where `...` stands for anything, a line of its own for
  any lines;
- a file: the paragraph before it ends with its absolute path in backquotes, some words and a colon;
- anything else, which is for readers only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

MACHINES = ("alpha", "beta")

_PROMPT = re.compile(r"(alpha|beta|both|here)# +(\S.*)")
_FILE = re.compile(r"(?:.* )?`(/[^` ]+)`[^`]*:$")


@dataclass(frozen=True, slots=True)
class Command:
    where: str
    """`alpha`, `beta`, or `here`."""
    line: int
    """Of the page, from 1."""
    text: str
    says: tuple[str, ...] = ()
    """Lines; none if the page does not tell."""


@dataclass(frozen=True, slots=True)
class File:
    """To be written on both machines."""

    line: int
    path: str
    content: str


def steps(page: str) -> Iterator[Command | File]:
    """What the page wants to be done, in its order."""
    before = ""
    for line, indented, lines in _blocks(page):
        text = "\n".join(lines).rstrip()
        if not indented:
            before = " ".join(text.rpartition("\n\n")[2].split())
        elif _PROMPT.match(lines[0]):
            yield from _commands(line, text.splitlines())
        elif path := _FILE.match(before):
            yield File(line, path[1], text + "\n")


def agrees(says: tuple[str, ...], said: str) -> bool:
    """Whether a command said what its page tells; white space counts as one blank."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else _pattern(line) + r"\n" for line in says)
    text = "".join(" ".join(line.split()) + "\n" for line in said.splitlines())
    return re.fullmatch(pattern, text) is not None


def _pattern(line: str) -> str:
    return ".*".join(re.escape(" ".join(part.split())) for part in re.split(r"\s*\.\.\.\s*", line))


def _blocks(page: str) -> Iterator[tuple[int, bool, list[str]]]:
    """Runs of lines that are indented, or not: number of the first, which, and the lines without the indentation."""
    indented = False

    def kind(numbered: tuple[int, str]) -> bool:
        nonlocal indented
        if numbered[1]:  # an empty line belongs to what is before it
            indented = numbered[1].startswith("    ")
        return indented

    for which, group in itertools.groupby(enumerate(page.splitlines(), 1), kind):
        numbered = list(group)
        yield numbered[0][0], which, [line[4:] if which else line for _, line in numbered]


def _commands(first: int, lines: list[str]) -> Iterator[Command]:
    found: list[tuple[str, int, list[str], list[str]]] = []
    for number, line in enumerate(lines, first):
        prompt = _PROMPT.match(line)
        if prompt:
            found.append((prompt[1], number, [prompt[2]], []))
        elif found[-1][2][-1].endswith("\\") and not found[-1][3]:
            found[-1][2].append(line)
        else:
            found[-1][3].append(line)
    for where, number, text, says in found:
        for machine in MACHINES if where == "both" else (where,):
            yield Command(machine, number, "\n".join(text), tuple(says))
