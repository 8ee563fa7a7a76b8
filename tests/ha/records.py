"""Appends numbered records to a file, each flushed (fsync) before the next, and says the number of what is safe."""

from __future__ import annotations

import itertools
import os
import sys


def main(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in itertools.count(1):
        os.write(file, f"record {number}\n".encode())
        os.fsync(file)
        os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
