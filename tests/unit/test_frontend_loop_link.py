"""The link /dev/hast/NAME, in a directory of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hastfs.errors import BusyError
from hastfs.frontend import loop


@pytest.fixture
def link_path(tmp_path: Path) -> str:
    return str(tmp_path / "hast" / "demo")


def test_a_link_is_made_in_a_directory_that_all_may_read(link_path: str) -> None:
    loop.link("/dev/loop7", link_path)
    assert os.readlink(link_path) == "/dev/loop7"
    assert os.stat(os.path.dirname(link_path)).st_mode & 0o777 == 0o755
    assert os.listdir(os.path.dirname(link_path)) == ["demo"]


def test_linking_twice_is_fine(link_path: str) -> None:
    loop.link("/dev/loop7", link_path)
    loop.link("/dev/loop7", link_path)
    assert os.readlink(link_path) == "/dev/loop7"


def test_a_dangling_link_is_replaced(link_path: str) -> None:
    loop.link("/dev/loop-that-is-none", link_path)
    loop.link("/dev/loop7", link_path)
    assert os.readlink(link_path) == "/dev/loop7"


def test_a_live_link_of_somebody_else_is_not_replaced(link_path: str) -> None:
    loop.link("/dev/null", link_path)
    with pytest.raises(BusyError, match="leads to /dev/null"):
        loop.link("/dev/loop7", link_path)
    assert os.readlink(link_path) == "/dev/null"


def test_what_is_no_link_is_not_replaced(link_path: str) -> None:
    os.makedirs(link_path)
    with pytest.raises(BusyError, match="no symbolic link"):
        loop.link("/dev/loop7", link_path)


def test_unlinking_leaves_nothing_behind(link_path: str) -> None:
    loop.link("/dev/loop7", link_path)
    loop.unlink(link_path)
    assert not os.path.exists(os.path.dirname(link_path))
    loop.unlink(link_path)


def test_unlinking_leaves_the_links_of_others(link_path: str) -> None:
    loop.link("/dev/loop7", link_path)
    loop.link("/dev/loop6", f"{link_path}2")
    loop.unlink(link_path, "/dev/loop6")
    assert os.readlink(link_path) == "/dev/loop7"
    loop.unlink(link_path, "/dev/loop7")
    assert os.listdir(os.path.dirname(link_path)) == ["demo2"]


def test_unlinking_leaves_what_is_no_link(link_path: str) -> None:
    os.makedirs(link_path)
    loop.unlink(link_path)
    assert os.path.isdir(link_path)


def test_a_path_that_is_no_loop_device_backs_nothing() -> None:
    assert loop.backing("/dev/null") is None
    assert loop.find("/no/such/image") == []
