"""Does what a page of docs/ says, on the two machines of examples/machines.sh, as a reader would."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.guests.book import MACHINES, Command, File, agrees, steps

PROJECT = Path(__file__).resolve().parents[2]
LONGEST = 120.0
"""Seconds that a command may take."""


class Reader:
    """Has two machines of his own, and a folder for what they say."""

    def __init__(self, root: Path) -> None:
        """`root`: an empty folder whose name nobody else uses."""
        self._root = root
        self.machines = f"{root.name}-machines"
        """What all names of theirs begin with: nobody else's do."""
        self._environment = {
            **os.environ,
            "HAST_MACHINES": str(root / self.machines),
            "HASTFS_VENV": str(self._installed(root / "venv")),
        }
        self.slowest: list[tuple[float, str]] = []
        """Seconds, and what took them."""

    def read(self, page: Path) -> None:
        """From nothing to nothing. Raises AssertionError as `follow` does."""
        try:
            self.follow(page.read_text(), page.name)
        finally:
            self.leave()

    def follow(self, text: str, name: str) -> None:
        """Raises AssertionError at the first command that fails, or that says something else than the text."""
        for step in steps(text):
            started = time.monotonic()
            try:
                if isinstance(step, File):
                    self._write(step)
                else:
                    self._type(step)
            except AssertionError as error:
                error.add_note(f"{name}, line {step.line}")
                raise
            self.slowest.append((time.monotonic() - started, f"{name}, line {step.line}"))

    def leave(self) -> None:
        """Nothing is left of the machines."""
        self._here("examples/machines.sh", "remove")

    @staticmethod
    def _installed(venv: Path) -> Path:
        """A virtual environment as tools/setup.sh makes it, of the tests' own interpreter."""
        (venv / "bin").mkdir(parents=True)
        for name in ("hastd", "hastctl"):
            program = venv / "bin" / name
            python = f"PYTHONPATH={shlex.quote(str(PROJECT))} exec {shlex.quote(sys.executable)}"
            program.write_text(f'#!/bin/sh\n{python} -m hastfs.cli.{name} "$@"\n')
            program.chmod(0o755)
        return venv

    def _write(self, file: File) -> None:
        for machine in MACHINES:
            with tempfile.TemporaryFile() as content:
                content.write(file.content.encode())
                content.seek(0)
                script = 'mkdir -p "$(dirname "$0")" && cat >"$0"'
                self._here(
                    "examples/machines.sh", "run", machine, "sh", "-c", script, file.path, stdin=content.fileno()
                )

    def _type(self, command: Command) -> None:
        machine = () if command.where == "here" else ("examples/machines.sh", "run", command.where)
        said = self._here(*machine, "bash", "-c", command.text, what=f"{command.where}# {command.text}")
        if command.says:
            told = "\n".join(command.says)
            assert agrees(command.says, said), (
                f"{command.where}# {command.text}\nsays:\n{said}\nand the page tells:\n{told}"
            )

    def _here(self, *argv: str, what: str = "", stdin: int = subprocess.DEVNULL) -> str:
        """What it says on standard output; a file takes it, since a command may leave others in the background."""
        what = what or shlex.join(argv)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
            try:
                done = subprocess.run(
                    argv,
                    cwd=PROJECT,
                    env=self._environment,
                    stdin=stdin,
                    stdout=output,
                    stderr=complaints,
                    timeout=LONGEST,
                    check=False,
                )
                code = str(done.returncode)
            except subprocess.TimeoutExpired:
                code = f"no end after {LONGEST:g} s"
            output.seek(0)
            complaints.seek(0)
            said = output.read().decode(errors="replace")
            assert code == "0", f"{what}\nended with {code}:\n{said}{complaints.read().decode(errors='replace')}"
            return said
