"""Fixtures of the tests with guests: what people put on the disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guests.reader import Reader


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Someone with two machines, who does what a page says."""
    root = Path(tempfile.mkdtemp(prefix="hast-"))
    reader = Reader(root)
    yield reader
    reader.leave()
    shutil.rmtree(root)
