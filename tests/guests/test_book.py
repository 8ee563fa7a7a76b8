"""What a page says is understood: commands, files, and what commands answer."""

from __future__ import annotations

import pytest

from tests.guests.book import Command, File, agrees, steps

PAGE = """\
# A page

Nothing to do here:

    ls

`/etc/motd`, the same on both:

    first

        second

Then:

    both#  hastd
    here#  a \\
        b
    what it says

    and more
    alpha# c
"""


def test_commands_and_files_are_found_in_the_order_of_the_page() -> None:
    assert list(steps(PAGE)) == [
        File(9, "/etc/motd", "first\n\n    second\n"),
        Command("alpha", 15, "hastd"),
        Command("beta", 15, "hastd"),
        Command("here", 16, "a \\\n    b", ("what it says", "", "and more")),
        Command("alpha", 21, "c"),
    ]


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (("a  b",), "a b\n"),
        (("1: ... done",), "1: x y z done\n"),
        (("a", "...", "b"), "a\nb\n"),
        (("a", "...", "b"), "a\n1\n2\nb\n"),
        (("...", "b"), "a\nb"),
    ],
)
def test_an_answer_agrees(says: tuple[str, ...], said: str) -> None:
    assert agrees(says, said)


@pytest.mark.parametrize(
    ("says", "said"),
    [(("a",), ""), (("a",), "a\nb\n"), (("a", "...", "b"), "a\n1\n"), (("0 lost",), "10 lost\n"), (("a.c",), "abc\n")],
)
def test_an_answer_does_not_agree(says: tuple[str, ...], said: str) -> None:
    assert not agrees(says, said)
