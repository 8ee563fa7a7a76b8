"""The command lines of hastd(8) and hastctl(8): what is wrong with one is said as the original says it."""

from __future__ import annotations

import enum
import getopt
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hastfs import __version__
from hastfs.config.schema import DEFAULT_PATH
from hastfs.daemon.inheritance import CAN_INHERIT, INHERIT
from hastfs.errors import UsageError
from hastfs.goal import Goal
from hastfs.model import LogLevel, Role

HASTD_USAGE = "hastd: [-dFh] [-c config] [-P pidfile]"
HASTD_LETTERS: Final = "c:dFhP:"


class Names(enum.Enum):
    """Which names of resources a command takes."""

    NONE = "none"
    SOME = "some"
    """At least one; hastd knows what `all` is."""
    DEFAULT_ALL = "default all"
    """Without any, all."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What may follow a command."""

    letters: str
    """As getopt(3) has them; `-h` is there for all."""
    words: tuple[str, ...]
    """Long options, those with a value end with `=`; `--help` is there for all."""
    usage: tuple[str, ...]
    """What the usage text says after the command, a line each."""
    names: Names
    config: bool = True
    """Whether the command needs hast.conf."""


COMMANDS: Final = {
    "create": CommandLine(
        "dfc:e:k:m:",
        (),
        ("[-df] [-c config] [-e extentsize] [-k keepdirty]", "[-m mediasize] name ..."),
        Names.SOME,
    ),
    "role": CommandLine(
        "dfc:",
        ("wait", "timeout="),
        ("[-df] [-c config] [--wait] [--timeout seconds]", "<init | primary | secondary> all | name ..."),
        Names.SOME,
    ),
    "list": CommandLine("dc:", ("json",), ("[-d] [-c config] [--json] [all | name ...]",), Names.DEFAULT_ALL),
    "status": CommandLine(
        "dc:",
        ("json", "table", "classic", "no-color"),
        ("[-d] [-c config] [--json | --table | --classic]", "[--no-color] [all | name ...]"),
        Names.DEFAULT_ALL,
    ),
    "monitor": CommandLine(
        "dc:", ("no-color",), ("[-d] [-c config] [--no-color] [all | name ...]",), Names.DEFAULT_ALL
    ),
    "dump": CommandLine("dc:", ("json",), ("[-d] [-c config] [--json] [all | name ...]",), Names.DEFAULT_ALL),
    "events": CommandLine(
        "dc:", ("json", "now"), ("[-d] [-c config] [--json] [--now] [all | name ...]",), Names.DEFAULT_ALL
    ),
    "wait": CommandLine(
        "dc:",
        ("for=", "timeout="),
        ("[-d] [-c config] [--timeout seconds]", f"--for <{' | '.join(Goal.words())}>", "all | name ..."),
        Names.SOME,
    ),
    "attach": CommandLine("dc:", (), ("[-d] [-c config] all | name ...",), Names.SOME),
    "check": CommandLine(
        "dc:",
        ("json", "timeout=", "no-color"),
        ("[-d] [-c config] [--json] [--no-color]", "[--timeout seconds] [all | name ...]"),
        Names.DEFAULT_ALL,
    ),
    "log-level": CommandLine(
        "dc:", (), ("[-d] [-c config]", "[debug | info | warning | error] [all | name ...]"), Names.DEFAULT_ALL
    ),
    "reload": CommandLine("dfc:", (), ("[-df] [-c config]",), Names.NONE),
    "upgrade": CommandLine("dc:", (), ("[-d] [-c config]",), Names.NONE),
    "stop": CommandLine("dfc:", (), ("[-df] [-c config]",), Names.NONE),
    "completion": CommandLine("", (), ("<bash | zsh | fish>",), Names.SOME, config=False),
}
"""hastctl's, in the order in which the usage text shows them."""


def _usage() -> str:
    """All commands, in the original's form."""
    lines = []
    for name, command in COMMANDS.items():
        first, *others = command.usage
        lines += [f"       hastctl {name} {first}", *(f"\t\t{other}" for other in others)]
    return "usage: " + "\n".join(lines).lstrip()


HASTCTL_USAGE: Final = _usage()

_INTERNAL = (CAN_INHERIT, INHERIT)
_MULTIPLIERS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ALL = "all"


class UsageShown(UsageError):
    """The message is printed as it is: it carries the usage text, or the original's word for a wrong value."""


class HelpWanted(UsageError):
    """`--help`. The texts (`help`) are loaded by whoever shows them: no other command line has to wait for that."""

    exit_code = os.EX_OK

    def __init__(self, command: str = "") -> None:
        """`command`: hastctl's; empty: the program's help."""
        super().__init__(f"help about {command or 'the program'}")
        self.command = command


class VersionWanted(UsageError):
    """`--version`. The message is what to say."""

    exit_code = os.EX_OK

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} (HastFS) {__version__}")


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
    json: bool = False
    now: bool = False
    """events: the state only, and no changes."""
    wait: bool = False
    timeout: float | None = None
    """Seconds; None: the default, or none."""
    goal: Goal | None = None
    """wait: what for."""
    table: bool | None = None
    """status: the table (True) or the classic text, whatever the output is."""
    no_color: bool = False
    level: LogLevel | None = None
    """log-level: the new one."""


def parse_hastd(arguments: Sequence[str]) -> DaemonOptions:
    """Raises UsageShown, also for -h, HelpWanted and VersionWanted."""
    words = [*(f"{word[2:]}=" for word in _INTERNAL), "help", "version"]
    given, rest = _getopt("hastd", arguments, HASTD_LETTERS, HASTD_USAGE, words)
    letters = [letter for letter, _ in given]
    if "--help" in letters:
        raise HelpWanted
    if "--version" in letters:
        raise VersionWanted("hastd")
    values = dict(given)
    if rest or not all(values.get(word, "0").isdecimal() for word in _INTERNAL):
        raise UsageShown(HASTD_USAGE)
    descriptors = [int(values[word]) if word in values else None for word in _INTERNAL]
    return DaemonOptions(
        values.get("-c", DEFAULT_PATH), letters.count("-d"), "-F" in values, values.get("-P"), *descriptors
    )


def parse_hastctl(arguments: Sequence[str]) -> Options:
    """Raises UsageShown, also for -h, HelpWanted and VersionWanted."""
    command = arguments[0] if arguments else ""
    if command == "--help":
        raise HelpWanted
    if command == "--version":
        raise VersionWanted("hastctl")
    if command not in COMMANDS:
        raise UsageShown(HASTCTL_USAGE)
    line = COMMANDS[command]
    given, names = _getopt("hastctl", arguments[1:], f"{line.letters}h", HASTCTL_USAGE, [*line.words, "help"])
    values = dict(given)
    if "--help" in values:
        raise HelpWanted(command)
    role = _take_role(names) if command == "role" else None
    level = _take_level(names) if command == "log-level" else None
    return Options(
        command,
        values.get("-c", DEFAULT_PATH),
        [letter for letter, _ in given].count("-d"),
        "-f" in values,
        _size(values, "-e", "extentsize"),
        _size(values, "-k", "keepdirty"),
        _size(values, "-m", "mediasize"),
        role,
        _names(line.names, names),
        json="--json" in values,
        now="--now" in values,
        wait="--wait" in values,
        timeout=_seconds(values, "--timeout", "timeout"),
        goal=_goal(values) if command == "wait" else None,
        table=_table(values),
        no_color="--no-color" in values,
        level=level,
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


_LONG_COMPLAINTS = (
    ("requires argument", "option '--{}' requires an argument"),
    ("must not have an argument", "option '--{}' doesn't allow an argument"),
    ("not a unique prefix", "option '--{}' is ambiguous"),
)


def _complaint(error: getopt.GetoptError, letters: str) -> str:
    """In the words of getopt(3)."""
    for ours, words in _LONG_COMPLAINTS:
        if error.msg == f"option --{error.opt} {ours}":
            return words.format(error.opt)
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


def _take_level(names: list[str]) -> LogLevel | None:
    """A resource that is called like a level has to follow one."""
    return LogLevel(names.pop(0)) if names and names[0] in {level.value for level in LogLevel} else None


def _names(wanted: Names, names: list[str]) -> tuple[str, ...]:
    if (wanted is Names.SOME and not names) or (wanted is Names.NONE and names):
        raise UsageShown(HASTCTL_USAGE)
    return tuple(names) if names or wanted is Names.NONE else (_ALL,)


def _table(values: dict[str, str]) -> bool | None:
    wanted = [word for word in ("--json", "--table", "--classic") if word in values]
    if len(wanted) > 1:
        raise UsageShown(f"hastctl: {' and '.join(wanted)} exclude each other\n{HASTCTL_USAGE}")
    return {"--table": True, "--classic": False}.get(wanted[0]) if wanted else None


def _goal(values: dict[str, str]) -> Goal:
    word = values.get("--for")
    if word is None:
        raise UsageShown(f"hastctl: wait needs --for {' | '.join(Goal.words())}")
    if word not in Goal.words():
        raise UsageShown(f"hastctl: Invalid goal (expected {', '.join(Goal.words())})")
    return Goal(word)


def _seconds(values: dict[str, str], option: str, what: str) -> float | None:
    if option not in values:
        return None
    try:
        seconds = float(values[option])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageShown(f"hastctl: Invalid {what}")
    return seconds


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
