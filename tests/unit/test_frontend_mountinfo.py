"""Lines of proc_pid_mountinfo(5)."""

from __future__ import annotations

from hastfs.frontend import mountinfo

TEXT = r"""27 1 254:0 / / rw,relatime - ext4 /dev/root rw
90 27 0:50 / /run/hast/my\040disk rw,nosuid shared:7 master:1 - fuse.hastfs hastfs rw,user_id=0
91 27 7:3 /sub /mnt\134x rw - ext4 /dev/loop3 rw
92 27 0:51 / /run/hast/my\040disk rw - fuse.hastfs hastfs rw
a line that is none
"""


def test_optional_fields_do_not_shift_the_rest() -> None:
    mounts = mountinfo.parse(TEXT)
    assert [mount.fstype for mount in mounts] == ["ext4", "fuse.hastfs", "ext4", "fuse.hastfs"]
    assert [mount.source for mount in mounts] == ["/dev/root", "hastfs", "/dev/loop3", "hastfs"]
    assert [mount.device for mount in mounts] == ["254:0", "0:50", "7:3", "0:51"]


def test_escapes_are_undone() -> None:
    assert mountinfo.parse(TEXT)[1].mount_point == "/run/hast/my disk"
    assert mountinfo.parse(TEXT)[2].mount_point == "/mnt\\x"


def test_the_top_mount_of_a_path_is_the_last() -> None:
    top = mountinfo.top(mountinfo.parse(TEXT), "/run/hast/my disk")
    assert top is not None
    assert top.mount_id == 92


def test_a_path_within_a_mount_is_no_mount_point() -> None:
    assert mountinfo.top(mountinfo.parse(TEXT), "/run/hast") is None
