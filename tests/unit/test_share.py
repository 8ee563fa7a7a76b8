"""What is installed beside the program: manual pages and completion files, held against the program itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from hastfs.cli import help as texts
from hastfs.cli.options import COMMANDS
from hastfs.config.complaint import PLACES

TOP = Path(__file__).resolve().parents[2]
SHARE = TOP / "share"
PAGES = sorted(SHARE.glob("man/man*/*"))


def made() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("share", TOP / "tools" / "share.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files: dict[str, str] = module.files()
    return files


def words(page: str) -> str:
    """A manual page as a reader sees it, without its markup."""
    text = re.sub(r"^\.\\\".*$", "", (SHARE / page).read_text(), flags=re.MULTILINE)
    return text.replace("\\-", "-").replace("\\&", "").replace("Fl -", "Fl --")


def test_manual_pages_and_completion_are_those_of_the_program() -> None:
    kept = {str(path.relative_to(SHARE)): path.read_text() for path in SHARE.rglob("*") if path.is_file()}
    assert {"man/man5/hast.conf.5": kept["man/man5/hast.conf.5"], **made()} == kept, "run tools/share.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_hastctl_8_has_every_command_and_option(command: str) -> None:
    page = words("man/man8/hastctl.8")
    section = page.split(f".Ss {command}: ", 1)[1].split("\n.Ss ", 1)[0]
    for option in texts.options(command):
        if option.flag not in ("-h", "--help"):
            assert f".It Fl {option.flag.removeprefix('-') if len(option.flag) == 2 else option.flag}" in section
    assert f".Nm\n.Cm {command}\n" in page.split(".Sh DESCRIPTION")[0]


def test_hast_conf_5_has_every_statement() -> None:
    page = words("man/man5/hast.conf.5")
    for statement in set(PLACES) - {"on", "resource"}:
        assert f"\n.It Ic {statement} " in page, statement
        assert re.search(rf"^ *{statement} [a-zA-Z]", page, re.MULTILINE), f"{statement} in the syntax"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_manual_page_is_clean(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is missing")
    done = subprocess.run(["mandoc", "-T", "lint", str(page)], check=False, capture_output=True, text=True, timeout=30)
    # Whether the pages it refers to are on this machine is no matter.
    told = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert told == []


def test_everything_in_share_is_installed() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["data-files"]
    found = {path for given in patterns.values() for pattern in given for path in TOP.glob(pattern)}
    assert found >= {path for path in SHARE.rglob("*") if path.is_file()}
    for folder, given in patterns.items():
        assert all(any(TOP.glob(pattern)) for pattern in given), folder
