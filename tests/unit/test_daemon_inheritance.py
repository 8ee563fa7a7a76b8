"""What one hastd leaves to the next: in bytes and back, and what is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.address import parse
from hastfs.config.schema import Config
from hastfs.daemon.inheritance import (
    FORMAT,
    Inheritance,
    InheritedDoors,
    InheritedImage,
    InheritedResource,
    InheritedWorker,
    decode,
    refuse_changes,
)
from hastfs.errors import DataError
from hastfs.resource.remotecache import Risk
from tests.daemon_fakes import CONFIG

WORKER = InheritedWorker(4711, 20, 21, ready=True, connected=True, syncing=False, asked=3)
PRIMARY = InheritedResource(
    "disk",
    "primary",
    "disk",
    "/nowhere/disk",
    True,
    False,
    InheritedImage(22, "/dev/loop3"),
    WORKER,
    False,
    None,
    Risk(7),
)
SECONDARY = InheritedResource("other", "secondary", "other", "/nowhere/other", False, True, None, None, False)
LEFT = Inheritance(
    version="0.1.0",
    command=("/usr/bin/python3", "/usr/sbin/hastd", "-F"),
    directory="/",
    config="resource disk {}",
    mountdir="/run/hast",
    doors=InheritedDoors("/run/hastd.pid", "/run/hastctl", ("tcp4://127.0.0.1:8457",), 10, 11, (12, 13)),
    client=14,
    resources=(PRIMARY, SECONDARY),
    helpers=(100, 101),
    kept=(15,),
)
NOW = Config(
    "/etc/hast.conf",
    "/run/hastctl",
    "/run/hastd.pid",
    (parse("tcp4://127.0.0.1:8457"),),
    "/run/hast",
    {
        "disk": CONFIG,
        "other": replace(CONFIG, name="other", provider="other", local="/nowhere/other", device=False),
        "idle": replace(CONFIG, name="idle"),
    },
)


def plain() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(LEFT.encode())
    return found


def test_it_comes_back_as_it_was() -> None:
    assert decode(LEFT.encode()) == LEFT


def test_every_descriptor_is_handed_down() -> None:
    assert sorted(LEFT.descriptors) == [10, 11, 12, 13, 14, 15, 20, 21, 22]


def test_another_format_is_refused_with_the_version_that_wrote_it() -> None:
    other = plain() | {"format": FORMAT + 1, "version": "7.0", "resources": "anything"}
    with pytest.raises(DataError, match=r"cannot take over from version 7\.0.*format 2, not 1.*Stop hastd"):
        decode(json.dumps(other).encode())


def test_a_field_that_is_not_known_is_ignored_and_one_that_may_be_missing_has_a_default() -> None:
    other = plain() | {"colour": "green"}
    other["doors"]["knocker"] = "brass"
    del other["helpers"], other["kept"]
    assert decode(json.dumps(other).encode()) == replace(LEFT, helpers=(), kept=())


@pytest.mark.parametrize(
    "damage",
    [
        lambda left: left.pop("doors"),
        lambda left: left.update(client="14"),
        lambda left: left.update(client=True),
        lambda left: left.update(client=None),
        lambda left: left.update(helpers=7),
        lambda left: left.update(helpers=["7"]),
        lambda left: left.update(doors=[]),
        lambda left: left["resources"].append(None),
        lambda left: left["resources"][0].update(role="master"),
        lambda left: left["resources"][0]["worker"].pop("pidfd"),
    ],
)
def test_what_is_damaged_is_refused(damage: Callable[[dict[str, Any]], object]) -> None:
    left = plain()
    damage(left)
    with pytest.raises(DataError, match="damaged"):
        decode(json.dumps(left).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"7", b"\xff", b"null", b"[" * 100_000])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="not what a hastd leaves"):
        decode(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(plain())), VALUES)
def test_whatever_a_field_holds_it_is_understood_or_refused(name: str, value: object) -> None:
    with contextlib.suppress(DataError):
        assert isinstance(decode(json.dumps(plain() | {name: value}).encode()), Inheritance)


def test_the_same_doors_and_resources_are_taken_over() -> None:
    refuse_changes(LEFT, NOW)
    changed = {name: replace(resource, timeout=7, exec=None) for name, resource in NOW.resources.items()}
    refuse_changes(LEFT, replace(NOW, resources=changed))


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        (replace(NOW, mountdir="/mnt"), "mountdir"),
        (replace(NOW, control="/run/other", pidfile="/run/other.pid"), "pidfile, control"),
        (replace(NOW, listen=()), "listen"),
        (replace(NOW, resources={"disk": NOW.resources["disk"]}), "resource other"),
        (replace(NOW, resources={**NOW.resources, "disk": replace(CONFIG, local="/elsewhere")}), "resource disk"),
        (replace(NOW, resources={**NOW.resources, "disk": replace(CONFIG, provider="x")}), "resource disk"),
        (replace(NOW, resources={**NOW.resources, "disk": replace(CONFIG, device=False)}), "resource disk"),
    ],
)
def test_what_a_reload_would_have_to_change_is_refused_and_named(now: Config, changed: str) -> None:
    with pytest.raises(DataError, match=rf"not yet in force \({changed}\): reload it first"):
        refuse_changes(LEFT, now)
