"""`--help`: every command and option has its text, for standard output and with exit status 0."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from hastfs import __version__
from hastfs.cli import hastctl, hastd
from hastfs.cli import help as texts
from hastfs.cli.options import COMMANDS, parse_hastctl, parse_hastd


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_all_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hastctl.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    line = COMMANDS[command]
    for flag in [f"-{letter}" for letter in f"{line.letters}h".replace(":", "")] + [f"--{w}" for w in line.words]:
        assert re.search(rf"^  {flag.removesuffix('=')}( .*)?  \w", out, re.MULTILINE), flag
    assert out.startswith(f"hastctl {command} - ")
    assert all(part in out for part in line.usage)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_is_named_where_there_is_one(command: str) -> None:
    line = COMMANDS[command]
    valued = {f"-{letter}" for letter in re.findall("(.):", line.letters)}
    valued |= {f"--{word[:-1]}" for word in line.words if word.endswith("=")}
    assert {option.flag for option in texts.options(command) if option.metavar} == valued


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_command_lines_that_are_understood(command: str) -> None:
    assert texts.PAGES[command].examples
    for _, example in texts.PAGES[command].examples:
        words = shlex.split(re.split(r"[|>)]", example)[0].removeprefix('eval "$(').removeprefix("watch "))
        assert words[0] == "hastctl"
        assert parse_hastctl(words[1:]).command == command


def test_hastctl_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert hastctl.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for _, example in texts.EXAMPLES:
        assert f"\n      {example}\n" in out
        parse_hastctl(shlex.split(example)[1:])
    for command in COMMANDS:
        assert re.search(rf"^  {command}  +{re.escape(texts.PAGES[command].summary[:20])}", out, re.MULTILINE)


def test_hastd_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert hastd.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for flag in ("-c config", "-d", "-F", "-h", "--help", "--version", "-P pidfile"):
        assert f"\n  {flag} " in out
    for _, example in texts.HASTD_PAGE.examples:
        parse_hastd(shlex.split(example)[1:])


@pytest.mark.parametrize(("main", "program"), [(hastctl.main, "hastctl"), (hastd.main, "hastd")])
def test_both_say_their_version(
    main: Callable[[list[str]], int], program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{program} (HastFS) {__version__}\n"


def test_help_fits_a_terminal() -> None:
    for text in (texts.hastctl_text(), texts.hastd_text(), *(texts.command_text(command) for command in COMMANDS)):
        assert [line for line in text.splitlines() if len(line) > texts.WIDTH] == []


def test_help_needs_neither_a_configuration_nor_the_rest_of_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hastctl.main(["role", "-c", "/nonexistent", "--help"]) == 0
    assert hastd.main(["-c", "/nonexistent", "--help"]) == 0
    assert capsys.readouterr().err == ""
