"""Completion for bash, zsh and fish, made from the tables of commands and options. Pure.

What is completed is known without hastd: commands, options, words, files, and the resources of hast.conf, which a
line of awk finds: starting Python at each press of the tab key would take too long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from hastfs.cli import help as texts
from hastfs.cli.help import Option, Value
from hastfs.cli.options import COMMANDS, Names
from hastfs.config.schema import DEFAULT_PATH
from hastfs.model import Role

FIRST: Final = {
    "role": tuple(role.word for role in Role),
    "log-level": ("debug", "info", "warning", "error"),
    "completion": ("bash", "zsh", "fish"),
}
"""Words of which one is the first argument, before the names."""

_OPTIONAL: Final = ("log-level",)
"""Commands whose first argument may be a name as well."""

_AWK: Final = (
    r"""awk '{ sub(/#.*/, ""); gsub(/[{}]/, " & "); for (i = 1; i <= NF; i++) """
    r"""{ if ($i == "{" && before == "resource") print last; before = last; last = $i } }'"""
)
"""Every NAME of a `resource NAME {`, wherever lines end; comments do not count."""


def bash() -> str:
    """Both programs in one script, to be read by bash (with or without the package bash-completion)."""
    values = "\n".join(
        f"        {name}:{option.flag}) {_bash_value(option)}; return ;;"
        for name, option in _every_option()
        if option.metavar
    )
    flags = "\n".join(
        f"        {name}) flags='{_flags(texts.options(name))}' first='{' '.join(FIRST.get(name, ()))}'"
        f" all='{_all(name)}' names={'yes' if _names(name) else ''} either={'yes' if name in _OPTIONAL else ''} ;;"
        for name in COMMANDS
    )
    valued = "|".join(f"{name}:{option.flag}" for name, option in _every_option() if option.metavar)
    return f"""\
# Completion of hastctl and hastd for bash: made by `hastctl completion bash`.

_hastctl_words() {{
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
}}

_hastctl_files() {{
    compopt -o filenames 2>/dev/null
    local IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$cur"))
}}

_hastctl_resources() {{
    {_AWK} "${{config/#\\~/$HOME}}" 2>/dev/null
}}

_hastctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
    local config={DEFAULT_PATH} given=0 flags= first= all= names= either= i
    COMPREPLY=()
    if [ "$COMP_CWORD" -le 1 ]; then
        _hastctl_words '{" ".join((*COMMANDS, "--help", "--version", "-h"))}'
        return
    fi
    # `--for=x` comes as three words.
    if [ "$cur" = = ]; then cur=; elif [ "$prev" = = ]; then prev=${{COMP_WORDS[COMP_CWORD - 2]}}; fi
    case $command:$prev in
{values}
    esac
    for ((i = 2; i < COMP_CWORD; i++)); do
        case $command:${{COMP_WORDS[i]}} in
            *:-c) config=${{COMP_WORDS[++i]}} ;;
            {valued}) [ "${{COMP_WORDS[++i]}}" != = ] || ((++i)) ;;
            *:-*) ;;
            *) ((++given)) ;;
        esac
    done
    case $command in
{flags}
    esac
    case $cur in
        -*) _hastctl_words "$flags" ;;
        *)
            [ "$given" -eq 0 ] || first=
            if [ -n "$first" ] && [ -z "$either" ]; then
                _hastctl_words "$first"
            elif [ -n "$names" ]; then
                _hastctl_words "$first $all $(_hastctl_resources)"
            fi
            ;;
    esac
}}

_hastd() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    COMPREPLY=()
    case $prev in
        {"|".join(option.flag for option in texts.hastd_options() if option.metavar)}) _hastctl_files ;;
        *) _hastctl_words '{_flags(texts.hastd_options())}' ;;
    esac
}}

complete -F _hastctl hastctl
complete -F _hastd hastd
"""


def zsh() -> str:
    """A function file called _hastctl, for both programs."""
    commands = "\n".join(f"        {_quoted(f'{_colons(name)}:{texts.PAGES[name].summary}')}" for name in COMMANDS)
    cases = "\n".join(f"        {name}) _arguments -s -S {_zsh_arguments(name)} ;;" for name in COMMANDS)
    return f"""\
#compdef hastctl hastd
# Completion of hastctl and hastd for zsh: made by `hastctl completion zsh`.

_hastctl_resources() {{
    local config=${{opt_args[-c]:-{DEFAULT_PATH}}}
    local -a names
    names=(${{(f)"$({_AWK} ${{~config}} 2>/dev/null)"}})
    compadd -a "$@" names
}}

_hastctl_all_resources() {{
    compadd all
    _hastctl_resources "$@"
}}

_hastctl() {{
    local curcontext=$curcontext command=$words[2]
    local -A opt_args
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe -t commands 'hastctl command' commands
        _arguments '--help[show what there is]' '--version[show the version]' '-h[show the usage of all commands]'
        return
    fi
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}

_hastd() {{
    local -A opt_args
    _arguments -s -S {" ".join(map(_zsh_option, texts.hastd_options()))}
}}

case $service in
    hastd) _hastd "$@" ;;
    *) _hastctl "$@" ;;
esac
"""


def fish() -> str:
    """Both programs in one script."""
    lines = [
        "# Completion of hastctl and hastd for fish: made by `hastctl completion fish`.",
        "",
        "function __hastctl_resources",
        f"    set -l config {DEFAULT_PATH}",
        "    set -l words (commandline -opc)",
        "    if set -l at (contains -i -- -c $words)",
        "        set config (string replace -r '^~' $HOME -- $words[(math $at + 1)])",
        "    end",
        f"    {_AWK} $config 2>/dev/null",
        "end",
        "",
        "function __hastctl_is -d 'whether this is the command'",
        "    set -l words (commandline -opc)",
        "    test (count $words) -ge 2; and test $words[2] = $argv[1]",
        "end",
        "",
        "complete -c hastctl -f",
        "complete -c hastd -f",
        "complete -c hastctl -n __fish_use_subcommand -l help -d 'show what there is'",
        "complete -c hastctl -n __fish_use_subcommand -s h -d 'show the usage of all commands'",
    ]
    for name in COMMANDS:
        summary = _quoted(texts.PAGES[name].summary)
        lines.append(f"complete -c hastctl -n __fish_use_subcommand -a {name} -d {summary}")
    for name in COMMANDS:
        this = f"__hastctl_is {name}"
        lines += [f"complete -c hastctl -n '{this}' {_fish_option(option)}" for option in texts.options(name)]
        first = " ".join(FIRST.get(name, ()))
        if first:
            lines.append(f"complete -c hastctl -n '{this}; and not __fish_seen_subcommand_from {first}' -a '{first}'")
        after = f"{this}; and __fish_seen_subcommand_from {first}" if first and name not in _OPTIONAL else this
        if _names(name):
            lines.append(f"complete -c hastctl -n '{after}' -a '{_all(name)} (__hastctl_resources)'")
    lines += [f"complete -c hastd {_fish_option(option)}" for option in texts.hastd_options()]
    return "\n".join(lines) + "\n"


SHELLS: Final[dict[str, Callable[[], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""By the word for the shell."""


def _every_option() -> Iterable[tuple[str, Option]]:
    return ((name, option) for name in COMMANDS for option in texts.options(name))


def _flags(options: Iterable[Option]) -> str:
    return " ".join(option.flag for option in options)


def _all(name: str) -> str:
    """`all` for commands that know it."""
    return "all" if re.search(r"\ball \|", " ".join(COMMANDS[name].usage)) else ""


def _names(name: str) -> bool:
    """Whether the command takes names of resources."""
    return COMMANDS[name].names is not Names.NONE and name != "completion"


def _words(option: Option) -> str:
    return " ".join(texts.GOALS) if option.value is Value.GOAL else ""


def _bash_value(option: Option) -> str:
    return "_hastctl_files" if option.value is Value.FILE else f"_hastctl_words '{_words(option)}'"


def _zsh_arguments(name: str) -> str:
    arguments = [_zsh_option(option) for option in texts.options(name)]
    resources = "_hastctl_all_resources" if _all(name) else "_hastctl_resources"
    words = " ".join(FIRST.get(name, ()))
    if name in _OPTIONAL:
        arguments.append(_quoted(f"1:{name}:{{ compadd {words}; {resources} }}"))
    elif words:
        arguments.append(_quoted(f"1:{name}:({words})"))
    if _names(name):
        arguments.append(_quoted(f"*:resource:{resources}"))
    return " ".join(arguments)


def _zsh_option(option: Option) -> str:
    text = re.sub(r"([\[\]:])", r"\\\1", option.text)
    if not option.metavar:
        return _quoted(f"{option.flag}[{text}]")
    action = "_files" if option.value is Value.FILE else f"({_words(option)})" if _words(option) else " "
    long = "=" if option.flag.startswith("--") else ""
    return _quoted(f"{option.flag}{long}[{text}]:{option.metavar}:{action}")


def _fish_option(option: Option) -> str:
    kind = "-l" if option.flag.startswith("--") else "-s"
    line = f"{kind} {option.flag.lstrip('-')} -d {_quoted(option.text)}"
    if not option.metavar:
        return line
    if option.value is Value.FILE:
        return f"{line} -r -F"
    return f"{line} -x -a '{_words(option)}'" if _words(option) else f"{line} -x"


def _colons(text: str) -> str:
    return text.replace(":", "\\:")


def _quoted(text: str) -> str:
    """For all three shells, as long as there is no backslash before a quote."""
    return "'" + text.replace("'", "'\\''") + "'"
