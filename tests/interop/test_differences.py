"""The table of differences is one: here, in the documentation, and in the tests that show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.differences import DIFFERENCES

HERE = Path(__file__).parent
TESTS = "\n".join(
    path.read_text() for path in HERE.glob("*.py") if path.name not in ("differences.py", Path(__file__).name)
)
DOCUMENTED = (HERE.parents[1] / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_documented_and_shown_by_a_test(name: str) -> None:
    assert f"| {' | '.join(DIFFERENCES[name])} |\n" in DOCUMENTED
    assert f'DIFFERENCES["{name}"]' in TESTS


def test_no_difference_is_documented_that_is_none() -> None:
    table = DOCUMENTED.partition("| the original | HastFS | why |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    assert len(table.splitlines()) == len(DIFFERENCES)
