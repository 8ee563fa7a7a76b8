"""Fixtures of the tests with the software that decides who is primary."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ha.site import Site


@contextmanager
def two_machines() -> Iterator[Site]:
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    site = Site(root)
    try:
        yield site
    finally:
        site.remove()
        shutil.rmtree(root)
