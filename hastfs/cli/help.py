"""What `--help` says of each command: the one place for these texts, which shell completion uses too. Pure.

Which options there are is said by the tables of `options`; here each of them has its sentence.
"""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hastfs.cli.options import COMMANDS, HASTD_LETTERS, HASTD_USAGE
from hastfs.config.schema import DEFAULT_PATH
from hastfs.goal import Goal

WIDTH: Final = 80


class Value(enum.Enum):
    """What an option's value is: for completion, which knows files and some words."""

    FILE = enum.auto()
    FREE = enum.auto()
    """Nobody can guess it."""
    GOAL = enum.auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of one command."""

    flag: str
    """`-c`, `--json`."""
    text: str
    metavar: str = ""
    """What stands for its value; empty: it has none."""
    value: Value = Value.FREE


@dataclass(frozen=True, slots=True)
class Page:
    """Of a command, or of hastd."""

    summary: str
    """A few words, like the first line of a manual page."""
    about: tuple[str, ...]
    """Paragraphs."""
    examples: tuple[tuple[str, str], ...]
    """What for, and the command line."""


GOALS: Final = Goal.words()

PAGES: Final = {
    "create": Page(
        "prepare components: write fresh metadata",
        (
            "Makes the component of each resource (`local` in hast.conf) ready for use on this node. Works on the "
            "component itself, hastd need not run. Do it on both nodes before their first start.",
            "All data on the component is lost. A component that hastd uses is refused.",
        ),
        (
            ("a file of 10 GB as component of `shared`", "hastctl create -m 10G shared"),
            ("a block device, over what was on it before", "hastctl create -f shared"),
        ),
    ),
    "role": Page(
        "make resources primary or secondary, or take them out of service",
        (
            "primary: this node serves the disk, as a file in the directory `mountdir` and, with `device on`, as "
            "/dev/hast/NAME. secondary: this node keeps the copy. init: neither.",
            "Returns when the role is had. A primary whose disk is in use keeps its role (exit status 75), unless -f "
            "takes the disk away. Both nodes must never be primary at the same time: that is a split brain.",
        ),
        (
            ("serve the disk here, and return when it can be used", "hastctl role --wait primary shared"),
            ("hand it over to the other node (then `primary` there)", "hastctl role secondary shared"),
            ("take everything out of service", "hastctl role init all"),
        ),
    ),
    "list": Page(
        "show all that hastd knows of resources, with statistics",
        ("Role, paths, addresses, dirty bytes, counts of requests and of errors. The text is FreeBSD's.",),
        (("all resources", "hastctl list"), ("one of them, for a program", "hastctl list --json shared")),
    ),
    "status": Page(
        "show the state of resources at a glance",
        (
            "On a terminal: a table with role, connection, the state of both disks, the bytes that the other node "
            "lacks, and when both last had the same data. Below a resource: a resync under way, and if something is "
            "wrong, what it is and the command that helps.",
            "Anywhere else (in pipes, scripts, `watch`): FreeBSD's text, a line for each resource.",
            "NO_COLOR in the environment turns colours off, as --no-color does.",
        ),
        (
            ("all resources", "hastctl status"),
            ("the table, kept up to date on a terminal without `monitor`", "watch hastctl status --table"),
            ("for a program", "hastctl status --json shared"),
            ("the state alone, in a script", "hastctl status shared | awk 'NR == 2 { print $2 }'"),
        ),
    ),
    "monitor": Page(
        "watch resources live, on the whole terminal",
        (
            "State, requests and bytes a second, latencies, queues, a map of the extents that the other node lacks, "
            "progress of a resync, and events as they happen. It needs a terminal of any size, best 80x24 or more.",
            "Keys: q quits, up and down choose a resource, p pauses, ? explains everything.",
        ),
        (("all resources", "hastctl monitor"), ("two of them", "hastctl monitor shared mail")),
    ),
    "dump": Page(
        "show the metadata of components",
        (
            "Reads the component itself, hastd need not run. Exit status 255: there is no metadata, or it is damaged. "
            "The text is FreeBSD's.",
        ),
        (("what is on the component of `shared`", "hastctl dump shared"),),
    ),
    "check": Page(
        "compare this node and the other, and say what would not work",
        (
            "Configuration, components, sizes, addresses, reachability, versions, clocks, roles: a line for each "
            "check, with `ok`, `warning` or `problem` (exit status 78 if there is one). Changes nothing.",
        ),
        (("all resources, before the first start", "hastctl check"), ("for a program", "hastctl check --json shared")),
    ),
    "events": Page(
        "tell of every change as it happens",
        (
            "First the state of every resource (`exists` lines), then a line for each change, with its time, until "
            "hastd ends.",
        ),
        (
            ("follow everything", "hastctl events"),
            ("the state as it is now, and no more", "hastctl events --now shared"),
            ("for a program: a JSON value on each line", "hastctl events --json all"),
        ),
    ),
    "wait": Page(
        "wait until resources are in a state",
        (
            f"Returns when all of them are: {', '.join(GOALS)}. Exit status 75 if that takes longer than the timeout.",
            "synced: connected, and both nodes have the same data. usable: primary, and applications can use the disk. "
            "disconnected: there is no link to the other node, whatever the role.",
        ),
        (
            ("until both nodes have the same data", "hastctl wait shared --for synced"),
            ("until the disk can be used, a minute at most", "hastctl wait --timeout 60 shared --for usable"),
        ),
    ),
    "attach": Page(
        "use a component again that failed and was repaired or replaced",
        (
            "A primary whose disk failed works on with the other node's alone (`detached`). When the disk is well "
            "again, this takes it back into use; what it lacks comes from the other node by a resync.",
        ),
        (("after the disk was repaired", "hastctl attach shared"),),
    ),
    "log-level": Page(
        "show or change how much hastd logs",
        (
            "Without a level it shows the levels; with one (debug, info, warning, error) hastd and the processes of "
            "these resources log from that level on, until hastd is started anew.",
        ),
        (("show", "hastctl log-level"), ("everything about one resource", "hastctl log-level debug shared")),
    ),
    "reload": Page(
        "have hastd read its hast.conf again",
        (
            "Returns when the new configuration is in force. Everything that can fail is tried first; if one thing "
            "does, nothing changes. Disks in use that would go are refused (exit status 75), unless -f takes them "
            "away.",
        ),
        (("after hast.conf was changed", "hastctl reload"),),
    ),
    "upgrade": Page(
        "have hastd go on as the program that is installed now",
        ("Applications go on using their disks meanwhile. If the new program cannot take over, the old one stays.",),
        (("after a new version was installed", "hastctl upgrade"),),
    ),
    "stop": Page(
        "end hastd in order",
        ("Returns when hastd is gone. Refused while a disk is in use (exit status 75), unless -f takes it away.",),
        (("before the machine is switched off", "hastctl stop"),),
    ),
    "completion": Page(
        "print what a shell needs to complete command lines",
        (
            "For bash, zsh or fish: commands, options, roles, resources of hast.conf. Packages install these files; "
            "this is for installations without.",
        ),
        (
            ("bash, for this shell", 'eval "$(hastctl completion bash)"'),
            ("zsh, in a directory of $fpath", "hastctl completion zsh > ~/.zfunc/_hastctl"),
            ("fish", "hastctl completion fish > ~/.config/fish/completions/hastctl.fish"),
        ),
    ),
}
"""hastctl's, by command."""

EXAMPLES: Final = (
    ("a file of 10 GB as component of `shared`, on each of the two nodes", "hastctl create -m 10G shared"),
    ("keep the copy on this node", "hastctl role secondary shared"),
    ("serve the disk on this node", "hastctl role --wait primary shared"),
    ("see how everything is, and what would help", "hastctl status"),
)
"""hastctl's own."""

HASTD_PAGE: Final = Page(
    "the daemon of HastFS: one disk on two nodes",
    (
        "Reads hast.conf, checks everything that can be checked, goes into the background, and serves hastctl. "
        "Resources have role init then: `hastctl role` or cluster software decides; with `autorole on` in hast.conf "
        "the last role is taken again.",
        "SIGHUP has it read hast.conf again, SIGTERM and SIGINT end it in order.",
    ),
    (
        ("as a service", "hastd"),
        ("in the foreground, talkative, to find out what is wrong", "hastd -F -d"),
        ("with a configuration of its own", "hastd -c /etc/hast-test.conf -P /run/hastd-test.pid"),
    ),
)

VERSION: Final = Option("--version", "show the version")
_CONFIG: Final = Option("-c", f"read this file instead of {DEFAULT_PATH}", "config", Value.FILE)
_OPTIONS: Final = (
    _CONFIG,
    Option("-d", "say more of what is done; twice: even more"),
    Option("-h", "show the usage of all commands, as FreeBSD's does, with exit status 64"),
    Option("--help", "show this text"),
    Option("--json", "print JSON (its schema is documented and stable)"),
    Option("--no-color", "no colours"),
    Option("--timeout", "give up after so many seconds (exit status 75)", "seconds"),
)
_OF_COMMANDS: Final = {
    "check": (Option("--timeout", "how long the other node has to answer (default 5)", "seconds"),),
    "create": (
        Option("-f", "even over a file system or another resource"),
        Option("-e", "size of an extent, what one bit of the map stands for (default 2M)", "extentsize"),
        Option("-k", "how many extents that were written last stay marked (default 64)", "keepdirty"),
        Option("-m", "how much of the component to use (default all); makes the file if there is none", "mediasize"),
    ),
    "role": (
        Option("-f", "take the disk away from those who use it; use a primary's disk in the middle of a resync"),
        Option("--wait", "return when the disk can be used (primary), or the other node is connected (secondary)"),
    ),
    "status": (
        Option("--table", "the table, also where there is no terminal"),
        Option("--classic", "FreeBSD's text, also on a terminal"),
    ),
    "events": (Option("--now", "the state as it is now, without the changes that follow"),),
    "wait": (Option("--for", f"what for: {', '.join(GOALS)}", "state", Value.GOAL),),
    "reload": (Option("-f", "take disks away from those who use them"),),
    "stop": (Option("-f", "take disks away from those who use them"),),
}
_OF_HASTD: Final = (
    _CONFIG,
    Option("-d", "log debugging messages; twice: even more"),
    Option("-F", "stay in the foreground, and log to standard error"),
    Option("-h", "show the usage, as FreeBSD's does, with exit status 64"),
    Option("--help", "show this text"),
    VERSION,
    Option("-P", "write the process id to this file", "pidfile", Value.FILE),
)


def options(command: str) -> list[Option]:
    """All that the command takes. LookupError if one has no text."""
    line = COMMANDS[command]
    return _described(_flags(f"{line.letters}h", (*line.words, "help")), (*_OF_COMMANDS.get(command, ()), *_OPTIONS))


def hastd_options() -> list[Option]:
    """Those for users."""
    return _described(_flags(HASTD_LETTERS, ("help", "version")), _OF_HASTD)


def hastctl_text() -> str:
    """`hastctl --help`."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["hastctl - control hastd, the daemon of HastFS", "", "usage: hastctl command [options] [arguments]", ""]
    lines += ["Commands:", *(line for name in COMMANDS for line in _row(name, PAGES[name].summary, width)), ""]
    lines += [*_wrapped("`hastctl COMMAND --help` explains a command. A resource is named as in hast.conf."), ""]
    lines += _options([_CONFIG, *(one for one in _OPTIONS if one.flag in ("-d", "-h", "--help")), VERSION])
    lines += _examples(EXAMPLES)
    lines += ["", *_wrapped("Exit status: 0 if all went well, otherwise one of sysexits(3): see hastctl(8).")]
    return "\n".join(lines)


def command_text(command: str) -> str:
    """`hastctl COMMAND --help`."""
    start = f"usage: hastctl {command} "
    usage = [start + COMMANDS[command].usage[0], *(" " * 8 + more for more in COMMANDS[command].usage[1:])]
    return _page(f"hastctl {command}", PAGES[command], usage, options(command), "hastctl(8), hast.conf(5)")


def hastd_text() -> str:
    """`hastd --help`."""
    usage = ["usage: " + HASTD_USAGE.replace("hastd:", "hastd")]
    return _page("hastd", HASTD_PAGE, usage, hastd_options(), "hastd(8), hast.conf(5), hastctl(8)")


def _flags(letters: str, words: Sequence[str]) -> list[str]:
    return [*(f"-{letter}" for letter in letters if letter != ":"), *(f"--{word.removesuffix('=')}" for word in words)]


def _described(flags: Sequence[str], known: Sequence[Option]) -> list[Option]:
    texts: dict[str, Option] = {}
    for option in known:
        texts.setdefault(option.flag, option)  # a command's own come first
    return sorted((texts[flag] for flag in flags), key=lambda option: option.flag.lstrip("-").lower())


def _page(name: str, page: Page, usage: list[str], options: Sequence[Option], see: str) -> str:
    lines = [f"{name} - {page.summary}", "", *usage, ""]
    for paragraph in page.about:
        lines += [*_wrapped(paragraph), ""]
    lines += [*_options(options), *_examples(page.examples), "", f"See also: {see}"]
    return "\n".join(lines)


def _options(options: Sequence[Option]) -> Iterator[str]:
    yield "Options:"
    names = [f"{option.flag} {option.metavar}".rstrip() for option in options]
    width = max(map(len, names)) + 2
    for name, option in zip(names, options, strict=True):
        yield from _row(name, option.text, width)
    yield ""


def _examples(examples: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "Examples:"
    for what, command in examples:
        yield from (f"  {what}:", f"      {command}")


def _row(name: str, text: str, width: int) -> list[str]:
    first = f"  {name:{width}}"
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False)
