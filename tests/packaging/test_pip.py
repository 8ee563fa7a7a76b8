"""`pip install .` as a user does it, without its libraries: what is there afterwards, and whether it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PARTS = ("hastfs", "share", "examples", "pyproject.toml", "README.md", "LICENSE", "hast.conf.sample")
pytest.importorskip("setuptools", minversion="70.1")  # to build without asking the network for it


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed from a copy: building leaves files in the folder it is done in."""
    source, prefix = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("prefix")
    for part in PARTS:
        if (TOP / part).is_dir():
            shutil.copytree(TOP / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / part, source / part)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-compile"]
    command += ["--disable-pip-version-check", "--no-index", "--ignore-installed", "--prefix", str(prefix), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return prefix


def test_manual_pages_completion_and_units_are_where_programs_look_for_them(prefix: Path) -> None:
    installed = {str(path.relative_to(prefix / "share")) for path in (prefix / "share").rglob("*") if path.is_file()}
    of_the_project = {str(path.relative_to(TOP / "share")) for path in (TOP / "share").rglob("*") if path.is_file()}
    units = {f"hastfs/systemd/{path.name}" for path in (TOP / "examples" / "systemd").iterdir()}
    assert installed == of_the_project | units | {"hastfs/hast.conf.sample"}


@pytest.mark.parametrize("program", ["hastd", "hastctl"])
def test_the_programs_start(prefix: Path, program: str) -> None:
    packages = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    environment = os.environ | {"PYTHONPATH": packages}
    command = [sys.executable, str(prefix / "bin" / program), "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=environment, cwd=prefix)
    assert shown.stdout.startswith(f"{program} - ")
    asked = [sys.executable, "-c", "import hastfs; print(hastfs.__file__)"]
    place = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=30, env=environment, cwd=prefix)
    assert place.stdout.startswith(str(prefix)), "that was not the installed one"


def test_all_modules_and_data_of_the_package_are_installed(prefix: Path) -> None:
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    kept, installed = (
        {path.relative_to(top) for path in (top / "hastfs").rglob("*") if path.is_file() and path.suffix != ".pyc"}
        for top in (TOP, packages)
    )
    assert installed == kept
