"""Completion as the shells themselves do it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hastfs.cli import completion, hastctl
from hastfs.cli.options import COMMANDS
from hastfs.goal import Goal

CONF = """\
# resource commented {
resource shared { name resource
 on alpha { local /x
 remote none }
}
resource
mail{ on beta { } } resource web.1-a {
}
"""
RESOURCES = {"shared", "mail", "web.1-a"}

BASH = """\
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
[ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH = """\
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PROMPT=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; setopt no_beep; LISTMAX=0"
zpty -w z "bindkey '^I' list-choices; print READY"
zpty -r z out '*READY*READY*'
zpty -n -w z "$2"$'\\t'
zpty -r z out "*$3*"
print -r -- "$out"
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "hast.conf"
    path.write_text(CONF)
    return path


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def in_bash(folder: Path, *words: str) -> set[str]:
    script = folder / "completion.bash"
    script.write_text(completion.bash())
    return set(run("bash", "-c", BASH, "bash", str(script), *words).splitlines())


def in_fish(folder: Path, line: str) -> set[str]:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    script = folder / "completion.fish"
    script.write_text(completion.fish())
    said = run("fish", "--no-config", "-c", f"source {script}; complete -C '{line}'")
    return {line.split("\t")[0] for line in said.splitlines()}


def in_zsh(folder: Path, line: str, last: str) -> set[str]:
    """Words up to `last`, which has to come."""
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    (folder / "_hastctl").write_text(completion.zsh())
    said = run("zsh", "-f", "-c", ZSH, "zsh", str(folder), line, last)
    return set(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.replace(line, "")).split())


def test_bash_completes_commands(tmp_path: Path) -> None:
    assert in_bash(tmp_path, "hastctl", "") == {*COMMANDS, "--help", "--version", "-h"}
    assert in_bash(tmp_path, "hastctl", "ro") == {"role"}


def test_bash_completes_roles_and_then_resources(tmp_path: Path, conf: Path) -> None:
    role = ("hastctl", "role", "-c", str(conf))
    assert in_bash(tmp_path, *role, "") == {"init", "primary", "secondary"}
    assert in_bash(tmp_path, *role, "p") == {"primary"}
    assert in_bash(tmp_path, *role, "primary", "") == {"all", *RESOURCES}
    assert in_bash(tmp_path, *role, "--timeout", "5", "") == {"init", "primary", "secondary"}
    assert in_bash(tmp_path, *role, "--timeout", "=", "5", "--wait", "primary", "m") == {"mail"}


@pytest.mark.skipif("log-level" not in COMMANDS, reason="there is no such command")
def test_where_a_word_or_a_name_may_stand_both_are_offered(tmp_path: Path, conf: Path) -> None:
    levels = {"debug", "info", "warning", "error"}
    line = ("hastctl", "log-level", "-c", str(conf))
    assert in_bash(tmp_path, *line, "") == {*levels, "all", *RESOURCES}
    assert in_bash(tmp_path, *line, "debug", "") == {"all", *RESOURCES}
    assert in_fish(tmp_path, f"hastctl log-level -c {conf} ") == {*levels, "all", *RESOURCES}
    assert {*levels, "all", *RESOURCES} <= in_zsh(tmp_path, f"hastctl log-level -c {conf} ", "web.1-a")


def test_bash_completes_what_belongs_to_an_option(tmp_path: Path, conf: Path) -> None:
    assert in_bash(tmp_path, "hastctl", "status", "-c", str(conf)[:-3]) == {str(conf)}
    assert in_bash(tmp_path, "hastctl", "create", "-e", "") == set()
    assert in_bash(tmp_path, "hastctl", "status", "--t") == {"--table"}
    assert in_bash(tmp_path, "hastctl", "create", "-c", str(conf), "") == RESOURCES
    assert in_bash(tmp_path, "hastctl", "reload", "") == set()
    assert in_bash(tmp_path, "hastctl", "completion", "") == {"bash", "zsh", "fish"}
    if "wait" in COMMANDS:
        for words in (("--for", "u"), ("--for", "=", "u")):
            assert in_bash(tmp_path, "hastctl", "wait", *words) == {"usable"}
        assert in_bash(tmp_path, "hastctl", "wait", "--for", "=") == set(Goal.words())


def test_bash_completes_hastd(tmp_path: Path, conf: Path) -> None:
    assert in_bash(tmp_path, "hastd", "-") == {"-c", "-d", "-F", "-h", "--help", "--version", "-P"}
    assert in_bash(tmp_path, "hastd", "-c", str(conf)[:-3]) == {str(conf)}


def test_fish_completes_commands_roles_and_resources(tmp_path: Path, conf: Path) -> None:
    assert in_fish(tmp_path, "hastctl ") == set(COMMANDS)
    assert in_fish(tmp_path, f"hastctl role -c {conf} --timeout 5 ") == {"init", "primary", "secondary"}
    assert in_fish(tmp_path, f"hastctl role -c {conf} primary ") == {"all", *RESOURCES}
    assert in_fish(tmp_path, "hastd -") == {"-c", "-d", "-F", "-h", "--help", "--version", "-P"}


def test_zsh_completes_roles_and_resources(tmp_path: Path, conf: Path) -> None:
    assert {"init", "primary", "secondary"} <= in_zsh(tmp_path, f"hastctl role -c {conf} ", "secondary")
    assert {"all", *RESOURCES} <= in_zsh(tmp_path, f"hastctl role -c {conf} primary ", "web.1-a")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_hastctl_prints_it_without_a_configuration(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hastctl.main(["completion", shell]) == 0
    assert capsys.readouterr() == (completion.SHELLS[shell](), "")


@pytest.mark.parametrize("words", [(), ("tcsh",), ("bash", "zsh")])
def test_other_shells_are_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert hastctl.main(["completion", *words]) == 64
    assert capsys.readouterr().err.startswith("usage: ")
