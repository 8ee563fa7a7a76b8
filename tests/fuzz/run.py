#!/usr/bin/env python3
"""Fuzzes decoders of bytes from outside, guided by coverage.

    tests/fuzz/run.py [TARGET ...] [--seconds N] [--no-keep]     each target for N seconds, two at a time
    tests/fuzz/run.py TARGET --input HEX                         one input, with the traceback of what is wrong with it

Begins with the kept inputs (tests/fuzz/corpus) and what the original said. What reaches code that none of them did is
kept; what fails is kept in tests/fuzz/crashes, where the ordinary tests fail with it until it is mended.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from tests.fuzz import corpus  # noqa: E402
from tests.fuzz.seeds import seeds  # noqa: E402
from tests.fuzz.targets import TARGETS, Target  # noqa: E402

LONGEST = 2048
"""Bytes of an input."""

SLOWEST = 10
"""Seconds for one input, on a busy machine; what takes longer counts as a failure."""


@dataclass
class Found:
    """What came of fuzzing one target."""

    target: Target
    executed: int
    inputs: set[bytes]
    """Those that reach code that others did not, and those that it began with."""
    failures: list[tuple[bytes, str]]
    """Inputs, and what was said about them."""


def why_not() -> str:
    """Why this machine cannot fuzz, in words; empty if it can, or should (pyproject.toml, the extra `test`)."""
    if importlib.util.find_spec("atheris") is not None:
        return ""
    version = sys.version_info[:2]
    there_is_one = sys.platform == "linux" and platform.machine() == "x86_64" and (3, 11) <= version < (3, 14)
    if there_is_one:
        raise SystemExit("fuzz: atheris is missing: tools/setup.sh test")
    return f"there is no atheris for Python {version[0]}.{version[1]} on {sys.platform} {platform.machine()}"


def fuzz(target: Target, seconds: int) -> Found:
    """Runs the fuzzer as a process of its own."""
    known = {*corpus.kept(target), *seeds(target)}
    with tempfile.TemporaryDirectory(prefix="hast-fuzz-") as name:
        folder = Path(name)
        new, begin, failed = (folder / each for each in ("new", "begin", "failed"))
        for each in (new, begin, failed):
            each.mkdir()
        for number, raw in enumerate(known):
            (begin / str(number)).write_bytes(raw)
        words = ("".join(f"\\x{byte:02x}" for byte in word) for word in (*target.words, b"\0"))  # not one is none
        (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.fuzzer", target.name, str(new), str(begin)),
                *(f"-dict={folder / 'words'}", f"-artifact_prefix={failed}/", f"-max_total_time={seconds}"),
                *(f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-rss_limit_mb=1024", "-print_final_stats=1"),
            ],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + 120,
            check=False,
        )
        failures = [
            (each.read_bytes(), done.stdout[-6000:]) for each in failed.iterdir() if "slow-unit" not in each.name
        ]
        if done.returncode and not failures:
            raise SystemExit(f"fuzz: {target.name} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        inputs = {*known, *(each.read_bytes() for each in new.iterdir())} - {raw for raw, _ in failures}
    executed = re.search(r"stat::number_of_executed_units: *(\d+)", done.stdout)
    return Found(target, int(executed[1]) if executed else 0, inputs, failures)


def judge(found: Found, *, keep: bool) -> None:
    """Says what was found, and keeps it. For one at a time: memory and CPU time are those of the whole process."""
    target, name = found.target, found.target.name
    good = {raw for raw in found.inputs if _is_good(target, raw, found.failures)}
    needed, arcs = corpus.smallest(target, good)
    print(
        f"{name}: {found.executed} inputs, {len(arcs)} ways through the code, "
        f"{len(needed)} inputs needed for them (kept before: {len(corpus.kept(target))})",
        flush=True,
    )
    if keep:
        corpus.keep(target, needed)
    for raw, said in found.failures:
        print(f"\n{name}: FAILED\n{said}\ninput: {raw.hex()}")
        print(f"kept in {corpus.add_crash(target, raw)}; again: tests/fuzz/run.py {name} --input {raw.hex()}\n")


def _is_good(target: Target, raw: bytes, failures: list[tuple[bytes, str]]) -> bool:
    """What the fuzzer does not look at: the price."""
    try:
        target.price(raw)
    except Exception as error:
        failures.append((raw, repr(error)))
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="change the kept inputs")
    parser.add_argument("--input", metavar="HEX", help="only this one, once")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets = [TARGETS[name] for name in options.targets or TARGETS]
    if options.input is not None:
        for target in targets:
            target.price(bytes.fromhex(options.input))
        return 0
    if reason := why_not():
        print(f"\n*** NOTHING IS FUZZED HERE: {reason}. The kept inputs are tried by the other tests. ***\n")
        return 0
    done: list[Found] = []
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for found in pool.map(lambda target: fuzz(target, options.seconds), targets):
            judge(found, keep=options.keep)
            done.append(found)
    print(f"{sum(found.executed for found in done)} inputs in all")
    return 1 if any(found.failures for found in done) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
