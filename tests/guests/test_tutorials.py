"""Every command of these pages does what they say."""

from __future__ import annotations

import pytest

from tests.guests.reader import PROJECT, Reader

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("page", ["tutorial-postgresql", "containers", "virtual-machines"])
def test_the_commands_of_a_page_work_as_it_says(reader: Reader, page: str) -> None:
    reader.read(PROJECT / "docs" / f"{page}.md")
    slowest = sorted(reader.slowest, reverse=True)[:8]
    print(*(f"{seconds:.1f} s: {what}" for seconds, what in slowest), sep="\n")
