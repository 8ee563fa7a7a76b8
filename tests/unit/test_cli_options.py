"""Command lines: what is taken, and what is said about what is not."""

from __future__ import annotations

import pytest

from hastfs.cli.options import COMMANDS, HASTCTL_USAGE, HASTD_USAGE, HelpWanted, UsageShown, parse_hastctl, parse_hastd
from hastfs.model import Role


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["foo"],
        ["-h"],
        ["create", "-h"],
        ["status", "-h"],
        ["create"],
        ["create", "-c", "/x"],
        ["role"],
        ["role", "primary"],
        ["role", "master", "test"],
        ["stop", "test"],
        ["reload", "test"],
        ["upgrade", "test"],
    ],
)
def test_a_wrong_command_line_shows_the_usage_and_is_64(arguments: list[str]) -> None:
    with pytest.raises(UsageShown) as caught:
        parse_hastctl(arguments)
    assert str(caught.value) == HASTCTL_USAGE
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status", "-x"], "hastctl: invalid option -- 'x'"),
        (["status", "-f"], "hastctl: invalid option -- 'f'"),
        (["upgrade", "-f"], "hastctl: invalid option -- 'f'"),
        (["list", "-c"], "hastctl: option requires an argument -- 'c'"),
        (["list", "--all"], "hastctl: unrecognized option '--all'"),
        (["create", "--json"], "hastctl: unrecognized option '--json'"),
        (["status", "--json=yes"], "hastctl: option '--json' doesn't allow an argument"),
        (["role", "primary", "test", "--timeout"], "hastctl: option '--timeout' requires an argument"),
    ],
)
def test_a_wrong_option_is_named_above_the_usage(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageShown) as caught:
        parse_hastctl(arguments)
    assert str(caught.value) == f"{complaint}\n{HASTCTL_USAGE}"


@pytest.mark.parametrize(("letter", "what"), [("-e", "extentsize"), ("-k", "keepdirty"), ("-m", "mediasize")])
@pytest.mark.parametrize("value", ["abc", "", "1x", "1.5M", "k", "0x10", "1 M", "١"])
def test_what_is_no_size_is_called_invalid(letter: str, what: str, value: str) -> None:
    with pytest.raises(UsageShown) as caught:
        parse_hastctl(["create", letter, value, "test"])
    assert str(caught.value) == f"hastctl: Invalid {what}"
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("512", 512),
        ("64k", 65536),
        ("2M", 2097152),
        ("1g", 1073741824),
        ("1T", 1099511627776),
        ("7b", 7),
        ("-1", -1),
        ("0", None),
    ],
)
def test_sizes_take_suffixes_and_zero_is_the_default(value: str, size: int | None) -> None:
    options = parse_hastctl(["create", "-e", value, "-k", value, "-m", value, "test"])
    assert (options.extentsize, options.keepdirty, options.mediasize) == (size, size, size)


@pytest.mark.parametrize("command", ["list", "status", "dump"])
def test_no_name_means_all(command: str) -> None:
    assert parse_hastctl([command]).names == ("all",)
    assert parse_hastctl([command, "one", "two"]).names == ("one", "two")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-dd", "primary", "one"],
        ["-d", "-d", "primary", "one"],
        ["-d", "primary", "-d", "one"],
        ["primary", "one", "-dd"],
    ],
)
def test_debugging_is_asked_for_twice_in_any_position(arguments: list[str]) -> None:
    options = parse_hastctl(["role", *arguments])
    assert (options.debug, options.role, options.names) == (2, Role.PRIMARY, ("one",))


@pytest.mark.parametrize("arguments", [["-ddF"], ["-F", "-d", "-d"], ["-d", "-Fd"], ["-d", "-c", "/x", "-dF"]])
def test_hastd_is_asked_twice_for_debugging_in_any_position(arguments: list[str]) -> None:
    options = parse_hastd(arguments)
    assert (options.debug, options.foreground) == (2, True)


def test_options_may_follow_names() -> None:
    options = parse_hastctl(["role", "-d", "primary", "-f", "one", "-dc", "/x"])
    assert (options.role, options.names) == (Role.PRIMARY, ("one",))
    assert (options.force, options.debug, options.config) == (True, 2, "/x")


def test_defaults() -> None:
    options = parse_hastctl(["stop"])
    assert (options.config, options.debug, options.force, options.role) == ("/etc/hast.conf", 0, False, None)
    daemon = parse_hastd([])
    assert (daemon.config, daemon.debug, daemon.foreground, daemon.pidfile) == ("/etc/hast.conf", 0, False, None)


def test_hastd_takes_its_options() -> None:
    daemon = parse_hastd(["-ddF", "-c", "/x", "-P", "/y"])
    assert (daemon.config, daemon.debug, daemon.foreground, daemon.pidfile) == ("/x", 2, True, "/y")


def test_hastd_is_told_what_it_inherits_by_the_program_before() -> None:
    assert parse_hastd(["-F", "--can-inherit=7"]).can_inherit == 7
    assert parse_hastd(["-F", "--inherit=8"]).inherit == 8
    assert (parse_hastd([]).can_inherit, parse_hastd([]).inherit) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-h"], ""),
        (["extra"], ""),
        (["--inherit=all"], ""),
        (["--can-inherit=-1"], ""),
        (["-x"], "hastd: invalid option -- 'x'\n"),
        (["--bequeath=7"], "hastd: unrecognized option '--bequeath'\n"),
    ],
)
def test_hastds_usage_is_the_originals(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageShown) as caught:
        parse_hastd(arguments)
    assert str(caught.value) == f"{complaint}{HASTD_USAGE}"
    assert caught.value.exit_code == 64


@pytest.mark.parametrize("command", ["status", "list", "dump"])
def test_long_options_go_beside_the_letters(command: str) -> None:
    options = parse_hastctl([command, "-d", "--json", "one"])
    assert (options.json, options.debug, options.names) == (True, 1, ("one",))


def test_role_can_wait_so_many_seconds() -> None:
    options = parse_hastctl(["role", "--wait", "--timeout", "1.5", "primary", "one"])
    assert (options.wait, options.timeout, options.names) == (True, 1.5, ("one",))


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_finite_number_of_seconds(value: str) -> None:
    with pytest.raises(UsageShown, match=r"^hastctl: Invalid timeout$"):
        parse_hastctl(["role", "--timeout", value, "primary", "one"])


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_is_no_error(arguments: list[str]) -> None:
    with pytest.raises(HelpWanted) as caught:
        parse_hastctl(arguments)
    assert (caught.value.exit_code, caught.value.command) == (0, "" if len(arguments) == 1 else arguments[0])


def test_a_wait_for_nothing_is_told_what_there_is_to_wait_for() -> None:
    with pytest.raises(UsageShown, match=r"^hastctl: wait needs --for primary \| secondary \| "):
        parse_hastctl(["wait", "disk"])
