"""`--json`: what is written keeps to the schema that we ship, and the documents say what the schema says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hastfs.cli import plain
from hastfs.details import Details, Histogram, Sync
from hastfs.errors import ComponentError
from hastfs.model import Role
from hastfs.news import Kind, News, facts
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.control import ERROR_NO_RESOURCE, STATISTICS, Reply, ResourceStatus
from hastfs.resource.events import Event
from tests.unit.test_cli_hastctl import Daemon, Run, conf, daemon, run

__all__ = ["conf", "daemon", "run"]  # fixtures

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA: dict[str, Any] = json.loads(resources.files("hastfs.cli").joinpath("schema.json").read_text())
DEFINITIONS: dict[str, dict[str, Any]] = SCHEMA["$defs"]
DETAILS = Details(
    "primary",
    "connected",
    "up-to-date",
    "inconsistent",
    1 << 30,
    1.0,
    2.0,
    3.0,
    4096,
    Sync("to-peer", 100, 40, 8.0, 4.0),
    "Something is wrong.",
    "hastctl help",
    {"connects": 1},
    {"held": 0},
    {"total": Histogram()},
)
STATUS = ResourceStatus(
    "test",
    provname="test",
    localpath="/dev/sda5",
    remoteaddr="tcp4://192.0.2.2",
    sourceaddr=None,
    replication="memsync",
    checksum="none",
    compression="hole",
    role="primary",
    workerpid=4711,
    status="complete",
    dirty=4096,
    extentsize=1 << 21,
    keepdirty=64,
    stats=dict.fromkeys(STATISTICS, 5),
    details=DETAILS,
)
INIT = ResourceStatus("more", localpath="/x", remoteaddr="none", role="init", workerpid=0, details=Details())
NOWHERE = ResourceStatus("nope", ERROR_NO_RESOURCE)
SICK = replace(STATUS, resource="sick", error=71, errmsg="Worker process 3 does not answer.", status=None)


def check(document: object, definition: str) -> None:
    """It keeps to the schema, and has nothing in it that the schema does not know."""
    validator = Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"})
    validator.validate(document)
    _check_names(document, definition)


def _check_names(plain: Any, definition: str) -> None:
    known = DEFINITIONS[definition]["properties"]
    assert plain.keys() <= known.keys()
    for one in plain.get("resources", []):
        _check_names(one, known["resources"]["items"]["$ref"].rpartition("/")[2])
    for name in ("error", "sync", "facts"):
        if isinstance(plain.get(name), dict):
            _check_names(plain[name], name)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("command", ["status", "list"])
@pytest.mark.parametrize("statuses", [[], [STATUS], [INIT], [NOWHERE], [SICK], [STATUS, NOWHERE, SICK, INIT]])
def test_status_and_list_keep_to_the_schema(
    run: Run, daemon: Daemon, command: str, statuses: list[ResourceStatus]
) -> None:
    daemon.answer = lambda request: Reply(resources=statuses)
    code, out, err = run(command, "--json")
    document = json.loads(out)
    check(document, command)
    assert daemon.requests[-1].details
    assert [one["name"] for one in document["resources"]] == [status.resource for status in statuses]
    errors = [(one["error"] and one["error"]["code"]) or 0 for one in document["resources"]]
    assert errors == [status.error for status in statuses]
    assert code == next(filter(None, errors), 0)
    assert ("does not answer" in err) == (SICK in statuses)


def test_one_error_does_not_spoil_the_rest(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[NOWHERE, SICK, STATUS])
    nowhere, sick, well = json.loads(run("status", "--json")[1])["resources"]
    assert nowhere == {"name": "nope", "error": {"code": 1, "message": "Unknown resource nope."}}
    assert (sick["role"], sick["local"]) == ("primary", "/dev/sda5")
    assert well["sync"]["eta"] == 5.0


def test_a_hastd_without_details_is_called_too_old(run: Run, daemon: Daemon) -> None:
    daemon.answer = lambda request: Reply(resources=[replace(STATUS, details=None)])
    check(json.loads(run("list", "--json")[1]), "list")


def test_dump_keeps_to_the_schema(run: Run, conf: str, tmp_path: Path) -> None:
    (tmp_path / "test.img").write_bytes(bytes(1 << 20))
    assert run("create", "test")[0] == 0
    (tmp_path / "more.img").write_bytes(b"rubbish!" * 4096)
    code, out, err = run("dump", "--json")
    document = json.loads(out)
    check(document, "dump")
    assert [one["error"] and one["error"]["code"] for one in document["resources"]] == [None, 255]
    assert code == 255
    assert "more.img" in err


def test_without_a_daemon_nothing_is_written(run: Run) -> None:
    code, out, _ = run("status", "--json")
    assert (code, out) == (71, "")


@pytest.mark.parametrize(
    "news",
    [
        News(1.0, Kind.EXISTS, "test", facts(DETAILS)),
        News(1.0, Kind.EXISTS, "test", facts(Details())),
        News(1.0, Kind.CREATE, "test", facts(Details())),
        News(1.0, Kind.EXISTS),
        News(1.0, Kind.CHANGE, "test", {"role": "primary", "sync": None}),
        News(1.0, Kind.DESTROY, "test"),
        News(1.0, Kind.MISSED),
        *(News(1.0, Kind.CALL, "test", {"happening": event.value}) for event in Event),
    ],
)
def test_events_keep_to_the_schema(news: News) -> None:
    check(plain.news(news), "event")


def test_a_state_without_all_facts_does_not_keep_to_the_schema() -> None:
    validator = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/event"})
    assert not validator.is_valid(plain.news(News(1.0, Kind.EXISTS, "test", {"role": "init"})))


def test_metadata_that_cannot_be_read_is_an_entry() -> None:
    document = json.loads(plain.document([plain.failed("x", ComponentError("gone")), plain.dumped(METADATA)]))
    check(document, "dump")


METADATA = Metadata("disk", 1 << 20, 1 << 16, 64, 12288, prevrole=Role.PRIMARY)


@given(st.floats())
def test_a_number_that_json_does_not_have_is_null(rate: float) -> None:
    details = replace(DETAILS, sync=Sync("to-peer", 100, 40, rate, 4.0))
    text = plain.document([plain.listed(replace(STATUS, details=details))])
    sync = json.loads(text, parse_constant=pytest.fail)["resources"][0]["sync"]
    assert sync["rate"] == (rate if math.isfinite(rate) else None)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_field_is_described_in_the_documents(definition: str) -> None:
    text = (DOCS / "json.md").read_text()
    for name, field in DEFINITIONS[definition]["properties"].items():
        if definition in ("status", "list", "dump", "event") or name == "reason":
            continue
        assert any(line.startswith(f"| `{name}` |") and field["description"] in line for line in text.splitlines()), (
            name
        )


def test_every_goal_and_event_is_described_in_the_documents() -> None:
    text = (DOCS / "json.md").read_text()
    assert not [kind for kind in Kind if kind is not Kind.END and f"| `{kind.value}` |" not in text]
