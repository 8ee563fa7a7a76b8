"""The text forms that scripts read; expected texts are the original's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hastfs.cli import output
from hastfs.cli.commands import dump, status
from hastfs.cli.commands import list as list_
from hastfs.model import Role
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.control import ResourceStatus


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 (0B)"),
        (512, "512 (512B)"),
        (999, "999 (999B)"),
        (1000, "1000 (1.0KB)"),
        (1023, "1023 (1.0KB)"),
        (3584, "3584 (3.5KB)"),
        (4096, "4096 (4.0KB)"),
        (9 * 1024 + 900, "10116 (9.9KB)"),
        (9 * 1024 + 1000, "10216 (10KB)"),
        (65536, "65536 (64KB)"),
        (1043968, "1043968 (1.0MB)"),
        (2097152, "2097152 (2.0MB)"),
        (10482688, "10482688 (10MB)"),
        (33549824, "33549824 (32MB)"),
        (67104256, "67104256 (64MB)"),
        (1 << 40, "1099511627776 (1.0TB)"),
        (100 << 40, "109951162777600 (100TB)"),
    ],
)
def test_sizes_are_humanized_as_on_freebsd(size: int, text: str) -> None:
    assert output.with_size(size) == text


def test_dump_prints_the_metadata() -> None:
    metadata = Metadata(
        "test", 67104256, 2097152, 64, 4608, resuid=5206772580123581812, remotecnt=1, prevrole=Role.PRIMARY
    )
    assert dump.text(metadata) == (
        "resource: test\n    datasize: 67104256 (64MB)\n    extentsize: 2097152 (2.0MB)\n    keepdirty: 64\n"
        "    localoff: 4608\n    resuid: 5206772580123581812\n    localcnt: 0\n    remotecnt: 1\n    prevrole: primary"
    )


def resource(**fields: object) -> ResourceStatus:
    made = ResourceStatus(
        "test",
        provname="test",
        localpath="/DIR/a.img",
        remoteaddr="tcp4://127.0.0.1:10532",
        replication="fullsync",
        checksum="none",
        compression="hole",
        role="init",
        workerpid=0,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_status_has_a_line_per_resource() -> None:
    assert status.HEADER == "Name\tStatus\t Role\t\tComponents"
    assert status.line(resource()) == "test\t-        init           /DIR/a.img\ttcp4://127.0.0.1:10532"
    primary = resource(role="primary", status="degraded")
    assert status.line(primary) == "test\tdegraded primary        /DIR/a.img\ttcp4://127.0.0.1:10532"
    assert status.line(ResourceStatus("nope", 1)) == "nope\tERR1"


def test_list_of_a_resource_out_of_service() -> None:
    assert list_.text(resource()) == (
        "test:\n  role: init\n  provname: test\n  localpath: /DIR/a.img\n  extentsize: 0 (0B)\n  keepdirty: 0\n"
        "  remoteaddr: tcp4://127.0.0.1:10532\n  replication: fullsync\n  dirty: 0 (0B)\n  statistics:\n    reads: 0\n"
        "    writes: 0\n    deletes: 0\n    flushes: 0\n    activemap updates: 0\n"
        "    local errors: read: 0, write: 0, delete: 0, flush: 0\n"
        "    queues: local: 0, send: 0, recv: 0, done: 0, idle: 0"
    )


def test_list_of_a_primary() -> None:
    primary = resource(
        role="primary",
        sourceaddr="10.0.0.1",
        status="degraded",
        workerpid=433,
        dirty=2097152,
        extentsize=2097152,
        keepdirty=64,
        stats={
            "stat_read": 1,
            "stat_write": 2,
            "stat_activemap_update": 3,
            "stat_flush_error": 4,
            "idle_queue_size": 255,
        },
    )
    assert list_.text(primary) == (
        "test:\n  role: primary\n  provname: test\n  localpath: /DIR/a.img\n  extentsize: 2097152 (2.0MB)\n"
        "  keepdirty: 64\n  remoteaddr: tcp4://127.0.0.1:10532\n  sourceaddr: 10.0.0.1\n  replication: fullsync\n"
        "  status: degraded\n  workerpid: 433\n  dirty: 2097152 (2.0MB)\n  statistics:\n    reads: 1\n    writes: 2\n"
        "    deletes: 0\n    flushes: 0\n    activemap updates: 3\n"
        "    local errors: read: 0, write: 0, delete: 0, flush: 4\n"
        "    queues: local: 0, send: 0, recv: 0, done: 0, idle: 255"
    )


def test_list_of_a_resource_with_an_error() -> None:
    assert list_.text(ResourceStatus("nope", 1)) == "nope:\n  error: 1"


def test_messages_carry_level_and_resource(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("Bad.")
    output.error("Bad.", "disk")
    output.warning("Odd.", "disk")
    output.debug(1, 1, "Shown.", "disk")
    output.debug(2, 1, "Not shown.")
    assert capsys.readouterr() == (
        "[DEBUG][1] [disk] Shown.\n",
        "[ERROR] Bad.\n[ERROR] [disk] Bad.\n[WARNING] [disk] Odd.\n",
    )


@pytest.mark.parametrize(
    ("closed", "code", "err"),
    [
        (">&-", 74, "[ERROR] Unable to write to standard output: Bad file descriptor.\n"),
        (">&- 2>&-", 74, ""),
    ],
)
def test_a_closed_standard_output_is_an_error_like_any_other(closed: str, code: int, err: str) -> None:
    line = f"'{sys.executable}' -m hastfs.cli.hastctl completion bash {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (code, err)
