"""An application on the image of a primary, which does what the requests of a captured conversation came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.interop.stage import punch_hole
from tests.interop.transcripts import DELETE, FLUSH, WRITE, Step


def use(image: Path, steps: Sequence[Step]) -> None:
    """One request after the other; returns when the last is done. Everything has to work."""
    fd = os.open(image, os.O_RDWR)
    try:
        for step in steps:
            if step.command == WRITE:
                assert os.pwrite(fd, step.content, step.range.start) == len(step.content)
            elif step.command == DELETE:
                punch_hole(fd, step.range.start, step.number("length"))
            elif step.command == FLUSH:
                os.fsync(fd)
    finally:
        os.close(fd)
