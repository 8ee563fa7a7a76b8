"""The kept inputs and what a fuzzer begins with, tried on every machine: nothing needs to be instrumented for that."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, Target

EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


@EACH
def test_what_was_kept_is_understood_or_refused_at_a_bounded_price(target: Target) -> None:
    kept = corpus.kept(target)
    assert len(kept) >= 5, "the corpus is lost: tests/fuzz/run.py makes a new one"
    for raw in {*kept, *seeds(target)}:
        target.price(raw)


@EACH
def test_what_once_failed_does_not_fail_any_more(target: Target) -> None:
    for raw in corpus.crashes(target):
        target.price(raw)
