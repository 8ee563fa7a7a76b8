"""Single values of hast.conf(5): text to value, or ValueError with the reason."""

from __future__ import annotations

from collections.abc import Callable

from hastfs import address
from hastfs.address import Address

MAX_TIMEOUT = 2**31 - 1
"""Seconds; what the original's C int holds."""

METRICS_PORT = 8458
"""TCP port, the next one after hastd(8)'s."""

MAX_NAME = 255
"""Bytes of a file name (NAME_MAX); names consist of ASCII characters."""


def read_timeout(text: str) -> int:
    """Seconds; `text` consists of digits."""
    # Compared by length first: int() refuses texts of thousands of digits with an error of its own.
    digits = text.lstrip("0")
    if not digits:
        raise ValueError("Negative or zero timeout.")
    if len(digits) > len(str(MAX_TIMEOUT)) or int(digits) > MAX_TIMEOUT:
        raise ValueError(f"expected a number of seconds from 1 to {MAX_TIMEOUT}")
    return int(digits)


def read_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("expected an absolute path")
    return text


def read_local(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("expected the absolute path of a file or block device (there are no GEOM names here)")
    return text


def read_name(text: str) -> str:
    """A name that becomes a file name: below mountdir, in /dev/hast."""
    if "/" in text or text in {".", ".."}:
        raise ValueError("expected a name that can be a file name: no /, and neither . nor ..")
    if len(text) > MAX_NAME:
        raise ValueError(f"expected a name of at most {MAX_NAME} characters")
    return text


def read_listen(text: str) -> Address:
    if text == "none":
        raise ValueError("expected an address; only `remote` and `metrics` can be none")
    return address.parse(text)


def read_metrics(text: str) -> Address | None:
    return None if text == "none" else address.parse(text, default_port=METRICS_PORT)


def read_remote(text: str) -> Address | None:
    return None if text == "none" else address.parse(text)


def read_source(text: str) -> Address:
    """Without a port: port 0, any free one. The daemon's own port is taken by its listener."""
    if text == "none":
        raise ValueError("expected an address; only `remote` and `metrics` can be none")
    return address.parse(text, default_port=0)


CHECKED_EVERYWHERE: dict[str, Callable[[str], object]] = {
    "control": address.parse_control,
    "pidfile": read_path,
    "listen": read_listen,
    "metrics": read_metrics,
    "mountdir": read_path,
    "statedir": read_path,
    "timeout": read_timeout,
    "exec": read_path,
    "fence": read_path,
    "remote": read_remote,
    "source": read_source,
}
"""Statements whose values must be right in every node's section: a mistake is found before it reaches that node.

`local` and `name` are not here: on a FreeBSD node they are GEOM names, which mean something only there.
"""
