"""A terminal of a test's own: a command in tmux, the keys that are pressed, and what is on its screen."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.kernel.machine import Completed
from tests.kernel.waiting import wait_for


class Screen:
    """`argv` runs below a shell that says how it ended, and how the terminal was before and after."""

    def __init__(self, root: Path, argv: Sequence[str], *, cwd: Path, width: int = 80, height: int = 24) -> None:
        self._root = root
        self._socket = root / "tmux"
        self._report = root / "report"
        self._report.unlink(missing_ok=True)
        script = root / "session.sh"
        script.write_text(
            f"cd {shlex.quote(str(cwd))}\n"
            f"before=$(stty -g)\n"
            f"{shlex.join(argv)}\n"
            f"code=$?\n"
            f"after=$(stty -g)\n"
            f'[ "$before" = "$after" ] && same=same || same=other\n'
            f"echo back in the shell\n"
            f'echo "$code $same" > {self._report}.new && mv {self._report}.new {self._report}\n'
            f"exec sleep 600\n"
        )
        # TERM is tmux's own; colours must not depend on who runs the tests.
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX")}
        self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), f"bash {script}"),
            environment={**environment, "LC_ALL": "C.UTF-8"},
        )

    def _tmux(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        done: Completed = subprocess.run(
            ["tmux", "-u", "-S", str(self._socket), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, f"tmux {arguments}: {done.stderr}"
        return done.stdout

    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def lines(self) -> list[str]:
        return self.text().splitlines()

    def press(self, *keys: str) -> None:
        """In tmux's names: `q`, `Down`, `C-c`."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def is_as_usual(self) -> bool:
        """The first screen, with a cursor."""
        return self._tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").split() == ["0", "1"]

    def until(self, *words: str, timeout: float = 20) -> str:
        """Waits until all of these are on the screen, and returns that."""

        def there() -> str:
            text = self.text()
            return text if all(word in text for word in words) else ""

        return wait_for(there, f"{words} on the screen", timeout=timeout, otherwise=self.text)

    def finished(self) -> tuple[int, bool]:
        """Waits for the command's end: the exit code, and whether the terminal is in order."""
        wait_for(self._report.exists, "the command ends", timeout=20, otherwise=self.text)
        self.until("back in the shell")
        code, same = self._report.read_text().split()
        return int(code), same == "same" and self.is_as_usual()

    def pid(self) -> int:
        """Of the command."""
        shell = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def close(self) -> None:
        """Nothing of it is left."""
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], capture_output=True, timeout=20, check=False)
        wait_for(lambda: not self._alive(), "tmux is gone", timeout=10)

    def _alive(self) -> bool:
        asked = ["tmux", "-S", str(self._socket), "list-sessions"]
        return subprocess.run(asked, capture_output=True, timeout=20, check=False).returncode == 0
