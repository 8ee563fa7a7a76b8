"""Lines of the log: their forms, what is left out, and the way into the journal."""

from __future__ import annotations

import array
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.daemon import logs
from hastfs.daemon.logs import LogSettings, ResourceLog, journal
from hastfs.daemon.logs.journal import Journal
from hastfs.daemon.logs.lines import Lines, logfmt
from hastfs.daemon.logs.repeats import MOST, WINDOW, Repeats
from hastfs.daemon.logs.syslog import Syslog
from hastfs.facts import about
from hastfs.model import LogFormat, LogLevel, Role


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own: not to be closed
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = handlers, level


def record(text: str, *arguments: object, level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "x.py", 1, text, arguments, None)
    made.__dict__.update(more)
    return made


# -- forms ---------------------------------------------------------------------------------------------------------


def test_json_has_time_level_resource_role_pid_event_message_and_facts() -> None:
    lines = Lines(LogFormat.JSON, "disk", "primary")
    told = record("Disconnected from %s.", "tcp4://192.0.2.2", **about("disconnect", peer="tcp4://192.0.2.2", bytes=7))
    told.created, told.process = 1767323045.6789, 42
    assert lines.format(told) == (
        '{"time":"2026-01-02T03:04:05.678Z","level":"warning","resource":"disk","role":"primary","pid":42,'
        '"event":"disconnect","message":"Disconnected from tcp4://192.0.2.2.","peer":"tcp4://192.0.2.2","bytes":7}'
    )


def test_logfmt_quotes_what_needs_it() -> None:
    told = record('It said "no" = %s', "é", **about(path="/a b", n=3))
    told.created, told.process = 0.0, 42
    assert Lines(LogFormat.LOGFMT).format(told) == (
        'time=1970-01-01T00:00:00.000Z level=warning pid=42 message="It said \\"no\\" = \\u00e9" path="/a b" n=3'
    )


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=40), max_size=4))
def test_logfmt_is_one_line_that_can_be_read_back(fields: dict[str, str]) -> None:
    line = logfmt(dict(fields))
    assert len(line.splitlines()) <= 1
    found, rest, decoder = {}, line, json.JSONDecoder()
    while rest:
        name, _, rest = rest.lstrip(" ").partition("=")
        if rest.startswith('"'):
            found[name], end = decoder.raw_decode(rest)
            rest = rest[end:]
        else:
            found[name], _, rest = rest.partition(" ")
    assert found == fields


def test_a_fact_takes_no_name_that_every_line_has() -> None:
    fields = json.loads(Lines(LogFormat.JSON).format(record("Text.", **about(message="other", level="none"))))
    assert (fields["message"], fields["level"]) == ("Text.", "warning")


def test_a_traceback_is_one_field_of_one_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        told = record("Failed.", level=logging.CRITICAL, exc_info=sys.exc_info())
    line = Lines(LogFormat.JSON).format(told)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: bad")


def test_the_classic_form_does_not_know_of_facts() -> None:
    told = record("Connected.", level=logging.INFO, **about("connect", peer="x"))
    assert Lines(LogFormat.CLASSIC, "disk", "primary").format(told) == "[INFO] [disk] (primary) Connected."


def test_the_form_can_change_and_the_level_too(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    settings = LogSettings(True, 0)
    logs.setup(settings, resource="disk")
    logging.debug("not shown")
    logs.change(LogSettings(True, 0, LogFormat.JSON, LogLevel.DEBUG))
    logging.debug("shown")
    logs.change(LogSettings(True, 1, LogFormat.CLASSIC, LogLevel.ERROR))
    logging.warning("not shown, either")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["shown"]


def test_one_resource_can_have_a_level_of_its_own(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = LogSettings(True, 0, chosen=LogLevel.WARNING)
    logs.setup(settings)
    logs.change(LogSettings(True, 0, chosen=LogLevel.DEBUG), "a")
    for name in ("a", "b"):
        ResourceLog(logging.getLogger("x"), name, lambda: Role.INIT).debug("Here.", extra=about("role"))
    logging.info("not shown")
    assert capsys.readouterr().err == "[DEBUG][1] [a] (init) Here.\n"


# -- repeats -------------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A handler with the filter, as it is in use."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.facts: list[dict[str, object]] = []
        self.repeats = Repeats(self.tell, self.clock)

    def tell(self, record: logging.LogRecord) -> None:
        if self.repeats.filter(record):
            self.said.append(record.getMessage())
            self.facts.append(getattr(record, "facts", {}))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_trouble_is_told_once_and_then_how_often(stage: Stage) -> None:
    for offset in range(58):
        stage.tell(record("Unable to read %d bytes at %d from /d: I/O error.", 512, offset * 512))
        stage.clock.now += 1
    assert stage.said == ["Unable to read 512 bytes at 0 from /d: I/O error."]
    stage.clock.now += 2
    stage.repeats.tell()
    assert stage.said[1:] == ["Unable to read 512 bytes at 29184 from /d: I/O error. (57 more times in 60 s)"]
    assert stage.facts[1] == {"times": 57, "seconds": 60}


def test_a_trouble_that_goes_on_is_told_once_a_minute(stage: Stage) -> None:
    for _ in range(600):
        stage.tell(record("Bad."))
        stage.clock.now += 1
    assert stage.said == ["Bad.", *["Bad. (59 more times in 60 s)"], *["Bad. (60 more times in 60 s)"] * 8]


def test_a_trouble_that_was_over_is_new_again(stage: Stage) -> None:
    stage.tell(record("Bad."))
    stage.tell(record("Bad."))
    stage.clock.now += WINDOW
    stage.repeats.tell()
    stage.clock.now += WINDOW
    stage.tell(record("Bad."))
    assert stage.said == ["Bad.", "Bad. (once more in 60 s)", "Bad."]


@pytest.mark.parametrize(
    "told",
    [
        record("Disconnected.", **about("disconnect")),
        record("Worker failed.", level=logging.CRITICAL),
        record("Connected.", level=logging.INFO),
        record("Failed.", exc_info=(ValueError, ValueError(), None)),
    ],
)
def test_changes_of_state_and_errors_of_the_program_are_told_each_time(stage: Stage, told: logging.LogRecord) -> None:
    for _ in range(3):
        stage.tell(told)
    assert len(stage.said) == 3


def test_other_addresses_resources_and_levels_are_other_troubles(stage: Stage) -> None:
    stage.tell(record("Connection from 192.0.2.1 closed: no."))
    stage.tell(record("Connection from 192.0.2.2 closed: no."))
    stage.tell(record("Connection from 2001:db8::1 closed: no."))
    stage.tell(record("Connection from 2001:db8::2 closed: no."))
    stage.tell(record("Unable to read resource-1: no.", resource="a"))
    stage.tell(record("Unable to read resource-2: no.", resource="a"))
    stage.tell(record("Unable to read resource-1: no.", resource="b"))
    stage.tell(record("Unable to read resource-1: no.", resource="b", level=logging.ERROR))
    assert len(stage.said) == 8


def test_only_so_many_troubles_are_remembered_and_none_is_lost(stage: Stage) -> None:
    stage.tell(record("Bad a."))
    stage.tell(record("Bad a."))
    for number in range(MOST):
        stage.tell(record("Bad %s.", f"n{number}x"))
    assert stage.said[MOST] == "Bad a. (once more in 0 s)"
    assert len(stage.said) == MOST + 2


def test_the_end_of_the_process_tells_all(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup(LogSettings(True, 0))
    for _ in range(3):
        logging.warning("Bad.")
    logs.tell_repeats()
    assert capsys.readouterr().err == "[WARNING] Bad.\n"
    logs.tell_repeats(all_of_them=True)
    assert capsys.readouterr().err == "[WARNING] Bad. (2 more times in 0 s)\n"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=60))
def test_every_trouble_is_counted(happened: list[tuple[str, float]]) -> None:
    stage = Stage()
    for word, pause in happened:
        stage.tell(record(f"Bad {word}."))
        stage.clock.now += pause
    stage.repeats.tell(all_of_them=True)
    assert sum(int(str(facts.get("times", 1))) for facts in stage.facts) == len(happened)


# -- the journal ---------------------------------------------------------------------------------------------------


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.settimeout(10)
        yield sock


def fields_of(data: bytes) -> dict[str, str]:
    """As journald reads it."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size, value, end = int.from_bytes(data[:8], "little"), b"", 0
            value, end = data[8 : 8 + size], 8 + size
            assert data[end : end + 1] == b"\n"
            data = data[end + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def handler(journald: socket.socket) -> Iterator[Journal]:
    handler = Journal(journald.getsockname())
    handler.setFormatter(Lines(LogFormat.CLASSIC, "disk", "primary", leveled=False))
    yield handler
    handler.close()


def test_the_journal_gets_fields(handler: Journal, journald: socket.socket) -> None:
    handler.handle(record("Disconnected.", **about("disconnect", peer="192.0.2.2")))
    assert fields_of(journald.recv(10000)) == {
        "MESSAGE": "[disk] (primary) Disconnected.",
        "PRIORITY": "4",
        "SYSLOG_FACILITY": "3",
        "SYSLOG_IDENTIFIER": "hastd",
        "SYSLOG_PID": str(os.getpid()),
        "HAST_RESOURCE": "disk",
        "HAST_ROLE": "primary",
        "HAST_EVENT": "disconnect",
        "HAST_PEER": "192.0.2.2",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "7"), (logging.INFO, "6"), (logging.ERROR, "3"), (logging.CRITICAL, "2")],
)
def test_levels_are_syslogs(handler: Journal, journald: socket.socket, level: int, priority: str) -> None:
    handler.handle(record("Text.", level=level))
    assert fields_of(journald.recv(10000))["PRIORITY"] == priority


def test_lines_that_somebody_else_wrote_make_no_fields(handler: Journal, journald: socket.socket) -> None:
    handler.handle(record("Bad: %s", "x\nPRIORITY=0\n"))
    fields = fields_of(journald.recv(10000))
    assert fields["MESSAGE"].endswith("x\nPRIORITY=0\n")
    assert fields["PRIORITY"] == "4"


def test_what_is_too_large_for_a_datagram_goes_as_a_sealed_file(handler: Journal, journald: socket.socket) -> None:
    handler.handle(record("x" * 2_000_000))
    data, control, _, _ = journald.recvmsg(10, socket.CMSG_SPACE(4))
    assert data == b""
    ((_, _, fds),) = control
    with os.fdopen(array.array("i", fds)[0], "rb") as file:
        file.seek(0)
        assert fields_of(file.read())["MESSAGE"].endswith("x" * 2_000_000)
        with pytest.raises(OSError):
            os.ftruncate(file.fileno(), 0)


def test_a_journal_that_was_started_anew_is_found(handler: Journal, journald: socket.socket) -> None:
    path = journald.getsockname()
    journald.close()
    handler.handle(record("Into the void."))
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another:
        another.bind(path)
        handler.handle(record("Here again."))
        assert fields_of(another.recv(10000))["MESSAGE"].endswith("Here again.")


@pytest.mark.parametrize("kind", [Journal, Syslog])
def test_nothing_waits_for_long_for_a_log_that_hangs(kind: type[Journal | Syslog], journald: socket.socket) -> None:
    """It would be the disk that waits."""
    handler = kind(journald.getsockname())
    handler.setFormatter(Lines(LogFormat.CLASSIC))
    started = time.monotonic()
    for number in range(2000):  # far more than any socket takes
        handler.handle(record("Line %d.", number))
    assert time.monotonic() - started < 5, "each line does not wait anew"
    while b"Line 0" not in journald.recv(10000):
        pass
    handler.handle(record("It reads again."))
    journald.settimeout(1)
    while b"It reads again." not in journald.recv(10000):
        pass
    handler.close()


def test_the_journal_is_used_if_standard_error_leads_there(
    root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    assert not journal.takes_stderr({})
    assert not journal.takes_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
    assert journal.takes_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    monkeypatch.setattr(journal, "takes_stderr", lambda: True)
    logs.setup(LogSettings(True, 0))
    assert isinstance(root_logger.handlers[0], Journal)
