"""The command lines of hastd(8) and hastctl(8): what is wrong with one is said as the original says it."""

from __future__ import annotations

import getopt
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hastfs.config.schema import DEFAULT_PATH
from hastfs.daemon.inheritance import CAN_INHERIT, INHERIT
from hastfs.errors import UsageError
from hastfs.model import Role

HASTD_USAGE = "hastd: [-dFh] [-c config] [-P pidfile]"

HASTCTL_USAGE = """\
usage: hastctl create [-df] [-c config] [-e extentsize] [-k keepdirty]
\t\t[-m mediasize] name ...
       hastctl role [-df] [-c config] <init | primary | secondary> all | name ...
       hastctl list [-d] [-c config] [all | name ...]
       hastctl status [-d] [-c config] [all | name ...]
       hastctl dump [-d] [-c config] [all | name ...]
       hastctl attach [-d] [-c config] all | name ...
       hastctl reload [-df] [-c config]
       hastctl upgrade [-d] [-c config]
       hastctl stop [-df] [-c config]"""

_LETTERS = {
    "create": "dfc:e:k:m:h",
    "role": "dfc:h",
    "list": "dc:h",
    "status": "dc:h",
    "dump": "dc:h",
    "attach": "dc:h",
    "reload": "dfc:h",
    "upgrade": "dc:h",
    "stop": "dfc:h",
}
_INTERNAL = (CAN_INHERIT, INHERIT)
_MULTIPLIERS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ALL = "all"


class UsageShown(UsageError):
    """The message is printed as it is: it carries the usage text, or the original's word for a wrong value."""


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """hastd's."""

    config: str
    debug: int
    foreground: bool
    pidfile: str | None
    can_inherit: int | None = None
    """Not for users: hastd asks this of the program that is to take over from it (`daemon.program`)."""
    inherit: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """hastctl's, all commands together."""

    command: str
    config: str
    debug: int
    force: bool
    extentsize: int | None
    """Bytes; None: the default."""
    keepdirty: int | None
    mediasize: int | None
    role: Role | None
    names: tuple[str, ...]
    """As given; for commands that take `all`, that alone if none were given."""


def parse_hastd(arguments: Sequence[str]) -> DaemonOptions:
    """Raises UsageShown, also for -h."""
    given, rest = _getopt("hastd", arguments, "c:dFhP:", HASTD_USAGE, [f"{word[2:]}=" for word in _INTERNAL])
    letters = [letter for letter, _ in given]
    values = dict(given)
    if rest or not all(values.get(word, "0").isdecimal() for word in _INTERNAL):
        raise UsageShown(HASTD_USAGE)
    descriptors = [int(values[word]) if word in values else None for word in _INTERNAL]
    return DaemonOptions(
        values.get("-c", DEFAULT_PATH), letters.count("-d"), "-F" in values, values.get("-P"), *descriptors
    )


def parse_hastctl(arguments: Sequence[str]) -> Options:
    """Raises UsageShown, also for -h."""
    command = arguments[0] if arguments else ""
    if command not in _LETTERS:
        raise UsageShown(HASTCTL_USAGE)
    given, names = _getopt("hastctl", arguments[1:], _LETTERS[command], HASTCTL_USAGE)
    values = dict(given)
    role = _take_role(names) if command == "role" else None
    return Options(
        command,
        values.get("-c", DEFAULT_PATH),
        [letter for letter, _ in given].count("-d"),
        "-f" in values,
        _size(values, "-e", "extentsize"),
        _size(values, "-k", "keepdirty"),
        _size(values, "-m", "mediasize"),
        role,
        _names(command, names),
    )


def _getopt(
    program: str, arguments: Sequence[str], letters: str, usage: str, words: Sequence[str] = ()
) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        given, rest = getopt.gnu_getopt(list(arguments), letters, list(words))
    except getopt.GetoptError as error:
        raise UsageShown(f"{program}: {_complaint(error, letters)}\n{usage}") from None
    if ("-h", "") in given:
        raise UsageShown(usage)
    return given, rest


def _complaint(error: getopt.GetoptError, letters: str) -> str:
    """In the words of getopt(3)."""
    if len(error.opt) != 1:
        return f"unrecognized option '--{error.opt}'"
    if f"{error.opt}:" in letters:
        return f"option requires an argument -- '{error.opt}'"
    return f"invalid option -- '{error.opt}'"


def _take_role(names: list[str]) -> Role:
    try:
        return Role.from_word(names.pop(0))
    except (IndexError, ValueError):
        raise UsageShown(HASTCTL_USAGE) from None


def _names(command: str, names: list[str]) -> tuple[str, ...]:
    if command in ("create", "role", "attach") and not names:
        raise UsageShown(HASTCTL_USAGE)
    if command in ("reload", "stop", "upgrade") and names:
        raise UsageShown(HASTCTL_USAGE)
    if command in ("list", "status", "dump") and not names:
        return (_ALL,)
    return tuple(names)


def _size(values: dict[str, str], letter: str, what: str) -> int | None:
    """A number with an optional suffix, as expand_number(3) reads it. 0 means the default (hastctl(8))."""
    if letter not in values:
        return None
    match = re.fullmatch(r"([+-]?\d+)([bkmgt]?)", values[letter].strip().lower(), re.ASCII)
    if match is None:
        raise UsageShown(f"hastctl: Invalid {what}")
    return int(match[1]) * _MULTIPLIERS[match[2]] or None


def show(error: UsageShown) -> int:
    """Prints it; the exit code."""
    print(error, file=sys.stderr)
    return error.exit_code
