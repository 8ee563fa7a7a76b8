"""The machines of examples/machines.sh: what is called alike on two of them does not meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests.reader import Reader

pytestmark = pytest.mark.kernel

PAGE = """\
    here#  examples/machines.sh on alpha beta
    both#  examples/containers/rootfs.sh && mkdir -p /srv/shared
    both#  runc run -d -b examples/containers/application same >/tmp/said 2>&1 </dev/null
    both#  ! grep -i cgroup /tmp/said
    both#  timeout 30 sh -c 'until [ -s /srv/shared/records ]; do sleep 0.1; done'
    both#  runc delete -f same 2>&1 | wc -l
    0
"""


def test_containers_of_one_name_run_on_two_machines_and_leave_no_control_group(reader: Reader, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    reader.read(page)
    groups = Path("/sys/fs/cgroup")
    assert not [group for group in groups.rglob("*") if group.is_dir() and group.name.startswith(reader.machines)]
