"""The monitor's screen, keys and rates, without a terminal."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hastfs.cli.monitor import chronicle, keys, rates, view
from hastfs.cli.monitor.keys import Key
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.table import Look
from hastfs.details import LATENCY_BOUNDS, Details, Histogram
from hastfs.news import Kind, News
from hastfs.protocol.control import ResourceStatus

NOW = 1_800_000_000.0
MIB = 1 << 20


def histogram(count: int, bucket: int = 3) -> Histogram:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    counts[bucket] = count
    return Histogram(tuple(counts))


def look(name: str = "shared", *, seconds: int = 0, started: float = 1.0) -> Look:
    """After `seconds` with 100 writes of 1 MiB each, and 50 reads."""
    details = Details(
        role="primary",
        connection="connected",
        disk="up-to-date",
        peer_disk="up-to-date",
        started=started,
        counters={
            **{"writes": 100 * seconds, "reads": 50 * seconds, "flushes": 0},
            **{"write_bytes": 100 * MIB * seconds, "read_bytes": MIB * seconds, "sent_bytes": 101 * MIB * seconds},
        },
        gauges={"requests": 7, "held": 3, "dirty_bytes": 5 * MIB, "send_queue_bytes": 2048},
        latency={"total": histogram(100 * seconds), "read": histogram(50)},
    )
    return Look(ResourceStatus(name), details)


def scene(*names: str) -> Scene:
    made = Scene("alpha")
    for seconds in range(3):
        made.looked([look(name, seconds=seconds) for name in names], now=NOW + seconds, at=float(seconds))
    return made


def chosen(of: Scene) -> str | None:
    return of.name


def screen(of: Scene, width: int = 80, height: int = 24, *, ascii_only: bool = False) -> list[str]:
    return [line.plain for line in view.render(of, width=width, height=height, ascii_only=ascii_only)]


# -- rates


def test_what_grew_between_two_looks_is_told_by_the_second() -> None:
    interval = rates.between(look(seconds=1), look(seconds=3), 4.0)
    assert interval is not None
    assert (interval.counters["writes"], interval.counters["reads"], interval.counters["flushes"]) == (50.0, 25.0, 0.0)
    assert interval.counters["write_bytes"] == 50 * MIB
    assert sum(interval.latency["total"].counts) == 200
    assert interval.latency["read"].percentile(0.5) is None


def test_a_new_worker_has_no_rates_before_the_second_look_at_it() -> None:
    assert rates.between(look(seconds=9), look(seconds=10, started=2.0), 1.0) is None
    assert rates.between(look(seconds=9), look(seconds=3), 1.0) is None
    assert rates.between(look(seconds=1), look(seconds=3), 0.0) is None


def test_no_negative_rate_is_ever_remembered() -> None:
    track = rates.Track()
    for at, seconds in enumerate((5, 6, 0, 1)):
        track.add(look(seconds=seconds), float(at))
    assert list(track.writes) == [100 * MIB, 0.0, 100 * MIB]


def test_a_worker_that_does_not_answer_has_no_rates() -> None:
    track = rates.Track()
    track.add(look(seconds=1), 0.0)
    track.add(Look(ResourceStatus("shared"), Details(role="primary", started=1.0, answered=False)), 1.0)
    track.add(look(seconds=9), 2.0)
    assert track.interval.counters == {}


# -- keys


@pytest.mark.parametrize(
    ("data", "pressed"),
    [
        (b"q", [Key.QUIT]),
        (b"\x1b[A", [Key.UP]),
        (b"\x1bOB", [Key.DOWN]),
        (b"\x1b[1;5B", [Key.DOWN]),
        (b"\t\x1b[Z", [Key.DOWN, Key.UP]),
        (b"jk p?h", [Key.DOWN, Key.UP, Key.PAUSE, Key.PAUSE, Key.HELP, Key.HELP]),
        (b"\x1b", [Key.OTHER]),
        (b"\x1b[15~\x1b[Hx\r", [Key.OTHER] * 4),
        (b"\x1b[Aq", [Key.UP, Key.QUIT]),
    ],
)
def test_keys_are_read_from_what_terminals_send(data: bytes, pressed: list[Key]) -> None:
    assert keys.read(data) == pressed


@given(st.binary())
def test_no_bytes_disturb_the_keys(data: bytes) -> None:
    keys.read(data)


# -- the scene


def test_up_and_down_choose_a_resource_and_come_round() -> None:
    made = scene("one", "two", "three")
    names = []
    for key in (Key.DOWN, Key.DOWN, Key.DOWN, Key.UP):
        assert made.press(key)
        names.append(chosen(made))
    assert names == ["two", "three", "one", "three"]


def test_the_chosen_resource_stays_chosen_when_others_come_and_go() -> None:
    made = scene("one", "two", "three")
    made.press(Key.DOWN)
    made.looked([look("zero"), look("one"), look("two")], now=NOW, at=9.0)
    assert chosen(made) == "two"
    made.looked([look("zero")], now=NOW, at=10.0)
    assert chosen(made) == "zero"
    made.looked([], now=NOW, at=11.0)
    assert chosen(made) is None
    assert made.press(Key.DOWN)
    assert any("No resources." in line for line in screen(made))


def test_nothing_changes_while_it_is_paused() -> None:
    made = scene("shared")
    made.press(Key.PAUSE)
    before = screen(made)
    made.looked([look("other", seconds=9)], now=NOW + 9, at=9.0)
    made.happened(Happening(NOW, "shared", "connect"))
    assert screen(made) == before
    assert "PAUSED" in before[0]
    made.press(Key.PAUSE)
    made.looked([look("other", seconds=10)], now=NOW + 10, at=10.0)
    assert "other" in screen(made)[2]


def test_help_covers_the_screen_until_a_key_is_pressed() -> None:
    made = scene("shared")
    made.press(Key.HELP)
    assert any("pause: nothing on the screen changes" in line for line in screen(made))
    assert made.press(Key.OTHER)
    assert not any("pause: nothing" in line for line in screen(made))


def test_quitting_works_from_everywhere() -> None:
    made = scene("shared")
    made.press(Key.HELP)
    made.press(Key.PAUSE)
    assert not made.press(Key.QUIT)


# -- the event log


@pytest.mark.parametrize(
    ("news", "said"),
    [
        (News(NOW, Kind.CALL, "x", {"happening": "split-brain"}), "split-brain"),
        (News(NOW, Kind.CHANGE, "x", {"peer_disk": "outdated", "behind": 7}), "peer disk outdated"),
        (News(NOW, Kind.CHANGE, "x", {"disk": "detached", "problem": "It failed."}), "disk detached, It failed."),
        (News(NOW, Kind.CREATE, "x", {"role": "init"}), "new in hast.conf"),
        (News(NOW, Kind.DESTROY, "x"), "gone from hast.conf"),
    ],
)
def test_news_that_matter_are_a_line_of_the_log(news: News, said: str) -> None:
    assert chronicle.happening(news) == Happening(NOW, "x", said)


@pytest.mark.parametrize(
    "news",
    [
        News(NOW, Kind.EXISTS, "x", {"role": "primary"}),
        News(NOW, Kind.EXISTS),
        News(NOW, Kind.CHANGE, "x", {"sync_left": 5, "behind": 7, "problem": None}),
    ],
)
def test_state_and_progress_are_no_events(news: News) -> None:
    assert chronicle.happening(news) is None


def test_a_gap_in_the_news_is_told() -> None:
    gap = chronicle.happening(News(NOW, Kind.MISSED))
    assert gap is not None
    assert gap.resource == "hastd"
    assert gap.text.startswith("events were missed")


# -- the screen


def test_the_chosen_resource_is_told_in_full() -> None:
    lines = screen(scene("one", "shared"))
    assert lines[2].startswith("> one ")
    assert lines[3].startswith("  shared ")
    words = [line.split() for line in lines]
    assert words[6][:4] == ["Read", "50", "1.0", "MiB/s"]
    assert words[7][:4] == ["Write", "100", "100", "MiB/s"]
    assert words[7][-6:] == ["96", "us", "127", "us", "128", "us"]
    assert ["Queues", "requests", "7", "local", "0", "remote", "0", "held", "3", "to", "send", "2.0", "KiB"] in words
    assert ["Dirty", "5.0", "MiB", "being", "written,", "nothing", "missing"] in words


def test_the_map_shows_where_and_how_much_is_dirty() -> None:
    made = Scene("alpha")
    permille = (0, 1, 49, 50, 249, 250, 599, 600, 1000)
    made.looked([look()], now=NOW, at=0.0)
    made.mapped("shared", (*permille, *[0] * (view.cells(80, 24) - len(permille))))
    made.mapped("gone", (1000,))
    lines = screen(made)
    assert " ·░░▒▒▓▓██" + "·" * 69 in lines
    assert " " + "·" * 78 in lines


def test_what_is_only_being_written_does_not_alarm() -> None:
    made = Scene("alpha")
    for behind, style, said in ((0, "cyan", True), (MIB, "bold red", False)):
        details = dataclasses.replace(look().details, behind=behind)
        made.looked([Look(ResourceStatus("shared"), details)], now=NOW, at=0.0)
        made.mapped("shared", (1000,) * view.cells(80, 24))
        lines = view.render(made, width=80, height=24)
        assert any("nothing missing" in line.plain for line in lines) is said
        assert [str(span.style) for line in lines if "█" * 78 in line.plain for span in line.spans] == [style] * 2


def test_events_are_at_the_bottom_the_newest_last() -> None:
    made = scene("shared")
    for number in range(50):
        made.happened(Happening(NOW, "shared", f"event {number}"))
    lines = screen(made)
    assert lines[-2].endswith("shared  event 49")
    assert any(line.startswith("── Events") for line in lines)


def test_a_daemon_that_does_not_answer_is_named_above_what_was_known_last() -> None:
    made = scene("shared")
    made.lost("Unable to connect to hastd via /run/hastctl: Connection refused.")
    lines = screen(made)
    assert lines[0].startswith(" hastd does not answer: Unable to connect")
    assert lines[2].startswith("> shared")
    made.looked([look()], now=NOW, at=9.0)
    assert "does not answer" not in screen(made)[0]


def test_of_many_resources_the_chosen_one_is_always_in_sight() -> None:
    made = scene(*(f"disk{number}" for number in range(100)))
    for number in range(101):
        lines = screen(made)
        assert [line.split()[1] for line in lines if line.startswith("> ")] == [f"disk{number % 100}"]
        assert any(line.startswith("── Events") for line in lines)
        made.press(Key.DOWN)


@given(st.integers(1, 200), st.integers(1, 80), st.integers(0, 12), st.booleans(), st.booleans())
def test_any_terminal_is_filled_exactly(width: int, height: int, count: int, ascii_only: bool, helping: bool) -> None:
    made = scene(*(f"disk{number}" for number in range(count)))
    made.help = helping
    troubled = dataclasses.replace(
        look().details, problem="It is broken, and that in many words. " * 4, remedy="mend it"
    )
    made.looked([Look(ResourceStatus("x"), troubled)], now=NOW, at=9.0)
    made.mapped("x", (5,) * 500)
    made.happened(Happening(NOW, "x", "connect"))
    lines = screen(made, width, height, ascii_only=ascii_only)
    assert len(lines) == height
    assert all(cell_len(line) <= width for line in lines)
    assert not ascii_only or all(line.isascii() for line in lines)
