"""What hastctl role and hastctl create refuse, and that -f knows what it does."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest

from tests.kernel import machine
from tests.kernel.component import allocated
from tests.kernel.conftest import MakePair
from tests.kernel.load import Files
from tests.kernel.node import MIB, RESOURCE, Node, Options
from tests.kernel.pair import Pair

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("role", ["secondary", "init"])
def test_a_primary_whose_image_is_open_stays_primary_unless_forced(pair: Pair, role: str) -> None:
    pair.connect()
    user = os.open(pair.a.image, os.O_RDWR)
    try:
        refused = pair.a.hastctl("role", role, RESOURCE, check=False)
        assert refused.returncode == os.EX_TEMPFAIL
        assert str(os.getpid()) in refused.stderr, "the holder is named"
        assert pair.a.status().role == "primary"
        assert os.pread(user, 512, 0) == bytes(512)

        pair.a.hastctl("role", "-f", role, RESOURCE)
        assert pair.a.status().role == role
        assert not pair.a.image_is_there()
        with pytest.raises(OSError):
            os.pread(user, 512, 4 * MIB)
    finally:
        with contextlib.suppress(OSError):  # it is not there any more
            os.close(user)


def test_a_primary_whose_file_system_is_mounted_stays_primary(make_pair: MakePair) -> None:
    pair = make_pair(Options(device=True))
    pair.start()
    pair.a.become_primary()
    files = Files(pair.a.device, pair.root / "disk")
    files.make()
    files.mount()
    refused = pair.a.hastctl("role", "secondary", RESOURCE, check=False)
    assert refused.returncode == os.EX_TEMPFAIL
    assert str(files.mountpoint) in refused.stderr, "the mount is named"
    files.write("still-there", MIB)
    files.umount()
    pair.a.role("secondary")
    assert not pair.a.image_is_there()
    assert not pair.a.device.is_symlink()
    assert machine.loops_below(pair.root) == []


def test_a_second_primary_is_refused_while_the_first_is_reachable(make_pair: MakePair) -> None:
    pair = make_pair(Options(timeout=3))  # it waits that long for the first one to leave
    pair.start()
    pair.connect()
    refused = pair.b.hastctl("role", "primary", RESOURCE, check=False)
    assert refused.returncode == os.EX_TEMPFAIL
    assert "primary" in refused.stderr
    assert not pair.b.image_is_there()
    assert pair.a.status().role == "primary"
    assert pair.b.status().role == "secondary"
    pair.a.until_status("complete")


def test_asking_for_the_present_role_changes_nothing(pair: Pair) -> None:
    pair.connect()
    worker = pair.a.fields()["workerpid"]
    pair.a.role("primary")
    assert pair.a.fields()["workerpid"] == worker
    pair.a.until_event("role")
    pair.a.role("init")
    pair.a.until_event("role", before=1)
    assert [event for event in pair.a.events() if event.startswith("role")] == [
        f"role {RESOURCE} init primary",
        f"role {RESOURCE} primary init",
    ]


def test_a_second_hastd_is_refused_with_the_first_one_s_pid(pair: Pair) -> None:
    assert pair.a.process is not None
    second = subprocess.run(
        pair.a.hastd_command("-F"), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False
    )
    assert second.returncode == os.EX_OSERR or second.returncode == os.EX_TEMPFAIL
    assert str(pair.a.process.pid) in second.stderr
    assert pair.a.status().role == "init", "the first one still answers"


def test_create_is_refused_while_hastd_uses_the_component(pair: Pair) -> None:
    pair.a.become_primary()
    before = pair.a.metadata()
    refused = pair.a.hastctl("create", RESOURCE, check=False)
    assert refused.returncode == os.EX_TEMPFAIL
    assert str(pair.a.component) in refused.stderr
    assert pair.a.metadata() == before


def test_create_is_refused_on_a_secondary_that_no_primary_is_connected_to(pair: Pair) -> None:
    """hastd has the component closed then, so no lock tells."""
    pair.b.role("secondary")
    before = pair.b.metadata()
    refused = pair.b.hastctl("create", "-f", RESOURCE, check=False)
    assert refused.returncode == os.EX_TEMPFAIL
    assert pair.b.metadata() == before
    pair.b.role("init")
    pair.b.hastctl("create", RESOURCE)


@pytest.fixture
def node(make_pair: MakePair) -> Node:
    """A node without a component and without a daemon."""
    return make_pair().a


def test_create_without_a_size_does_not_make_a_file(node: Node) -> None:
    refused = node.hastctl("create", RESOURCE, check=False)
    assert refused.returncode == os.EX_NOINPUT
    assert str(node.component) in refused.stderr
    assert not node.component.exists()


def test_create_with_a_size_makes_a_file_with_its_space_reserved(node: Node) -> None:
    node.hastctl("create", "-m", "32M", RESOURCE)
    assert node.component.stat().st_size == 32 * MIB
    assert allocated(node.component) >= 32 * MIB
    assert node.component.stat().st_mode & 0o777 == 0o600


def test_create_again_on_an_idle_component_is_allowed(node: Node) -> None:
    node.create()
    node.hastctl("create", "-e", "64k", RESOURCE)
    assert node.metadata()["extentsize"].startswith("65536 ")


def test_create_does_not_overwrite_another_resource_unless_forced(node: Node) -> None:
    node.create()
    node.config.write_text(node.config.read_text().replace(f"resource {RESOURCE}", "resource other"))
    refused = node.hastctl("create", "other", check=False)
    assert refused.returncode == os.EX_DATAERR
    assert RESOURCE in refused.stderr
    node.hastctl("create", "-f", "other")
    assert "resource: other" in node.hastctl("dump", "other").stdout


def test_create_does_not_overwrite_a_file_system_unless_forced(node: Node) -> None:
    with node.component.open("wb") as file:
        file.truncate(64 * MIB)
    machine.run("mkfs.ext4", "-q", "-F", node.component)
    refused = node.hastctl("create", RESOURCE, check=False)
    assert refused.returncode == os.EX_DATAERR
    assert "ext4" in refused.stderr
    machine.run("e2fsck", "-f", "-n", node.component)
    node.hastctl("create", "-f", RESOURCE)
    assert node.metadata()["prevrole"] == "init"
