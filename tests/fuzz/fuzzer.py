"""`python -m tests.fuzz.fuzzer TARGET [ARGUMENT ...]`: atheris on one target; the arguments are libFuzzer's.

Only what is imported below is instrumented, so the product must not have been imported before.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["hastfs"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]].check, internal_libfuzzer=True)
    atheris.Fuzz()
