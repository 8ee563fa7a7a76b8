"""What holds for every test: hypothesis' profiles, and who may run the tests that need the kernel."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,  # a shared machine is slow now and then; that is no failure
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=100)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

KERNEL_TOOLS = ("fio", "ip", "losetup", "mkfs.ext4", "e2fsck", "mount", "umount", "useradd", "userdel", "setpriv")


def what_is_missing_for_kernel_tests() -> str:
    """In words; empty when this machine can run them."""
    if os.geteuid() != 0:
        return "they need root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"there is no {device}"
    missing = [tool for tool in KERNEL_TOOLS if shutil.which(tool) is None]
    return f"these programs are missing: {', '.join(missing)}" if missing else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A kernel test that cannot run is a failure: a skip would look like a pass to whoever reads the last line."""
    if item.get_closest_marker("kernel") is None:
        return
    if os.environ.get("HASTFS_TESTS") == "unprivileged":
        pytest.skip("HASTFS_TESTS=unprivileged leaves out what needs root, /dev/fuse and loop devices")
    missing = what_is_missing_for_kernel_tests()
    if missing:
        pytest.fail(
            f"Kernel tests cannot run here: {missing}. Set HASTFS_TESTS=unprivileged to leave them out.", pytrace=False
        )
