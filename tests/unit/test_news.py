"""hastfs.news: what `hastctl events` tells, as text, as JSON, and as a picture in the mind of who listens."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.details import Details, Sync
from hastfs.goal import Goal
from hastfs.news import Fact, Kind, News, Picture, differences, facts, text

FACTS = st.dictionaries(
    st.sampled_from(["role", "connection", "behind", "problem"]),
    st.none() | st.booleans() | st.integers(0, 1 << 64) | st.text(max_size=8),
)
CONNECTED = Details("primary", "connected", "up-to-date", "up-to-date", started=1.0)


def test_a_line_has_time_kind_resource_and_facts() -> None:
    news = News(1e9 + 0.25, Kind.CHANGE, "disk", {"role": "primary", "synced": True, "behind": 7, "sync": None})
    assert news.line() == (
        "2001-09-09T01:46:40.250000+00:00 change resource name:disk role:primary synced:yes behind:7 sync:-"
    )


def test_what_is_about_no_resource_has_a_dash() -> None:
    assert News(0, Kind.EXISTS).line() == "1970-01-01T00:00:00.000000+00:00 exists -"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("up-to-date", "up-to-date"),
        ("/dev/hast:1", "/dev/hast:1"),
        ("", '""'),
        ("-", '"-"'),
        ("two words", '"two words"'),
        ('a"b', '"a\\"b"'),
        ("line\nline", '"line\\nline"'),
        ("\x1b[2J", '"\\u001b[2J"'),
    ],
)
def test_what_is_not_one_word_is_quoted(value: str, shown: str) -> None:
    assert text(value) == shown


@given(st.text())
def test_a_value_is_one_word_or_json(value: str) -> None:
    shown = text(value)
    assert shown == value or json.loads(shown) == value
    assert shown.isprintable()
    assert shown not in ("", "-")


@given(FACTS, st.sampled_from(Kind), st.none() | st.text(max_size=5))
def test_news_survive_json(about: dict[str, Fact], kind: Kind, resource: str | None) -> None:
    news = News(1.5, kind, resource, about)
    assert News.from_plain(json.loads(json.dumps(news.as_plain()))) == news


@pytest.mark.parametrize(
    "change",
    [
        {"time": "soon"},
        {"time": float("nan")},
        {"time": 10**400},
        {"time": 1e300},
        {"time": -1},
        {"event": "rumour"},
        {"resource": 3},
        {"facts": {"a b": 1}},
        {"facts": {"a": []}},
        {"facts": {"a" * 65: 1}},
        {"facts": None},
        {"facts": [[1, 2]]},
    ],
)
def test_what_are_no_news_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no news|no fact|not a valid"):
        News.from_plain(News(1, Kind.CALL, "disk").as_plain() | change)


@given(FACTS, FACTS)
def test_the_differences_make_the_new_facts_of_the_old(before: dict[str, Fact], after: dict[str, Fact]) -> None:
    changed = differences(before, after)
    assert {**before, **changed} == {**dict.fromkeys(before), **after}
    assert differences(after, after) == {}


def test_progress_is_in_whole_bytes_and_seconds() -> None:
    about = facts(Details("primary", sync=Sync("to-peer", 100, 50, 3.0, 0.0)))
    assert {key: about[key] for key in about if key.startswith("sync_")} == {
        "sync_total": 100,
        "sync_left": 50,
        "sync_rate": 3,
        "sync_eta": 17,
    }


def test_a_picture_is_whole_when_the_state_is_at_its_end() -> None:
    picture = Picture(["one", "two"])
    picture.take(News(0, Kind.EXISTS, "one", {"role": "init"}))
    assert (picture.whole, picture.unknown()) == (False, [])
    picture.take(News(0, Kind.EXISTS))
    assert (picture.whole, picture.unknown()) == (True, ["two"])
    picture.take(News(0, Kind.CHANGE, "one", {"role": "primary"}))
    assert picture.facts == {"one": {"role": "primary"}}
    picture.take(News(0, Kind.MISSED))
    assert (picture.whole, picture.facts) == (False, {})


@pytest.mark.parametrize(
    ("details", "reached"),
    [
        (Details(), {Goal.DISCONNECTED}),
        (Details("secondary", "connecting"), {Goal.SECONDARY, Goal.DISCONNECTED}),
        (Details("primary", "connecting"), {Goal.PRIMARY, Goal.DISCONNECTED}),
        (Details("primary", "none", started=1.0), {Goal.PRIMARY, Goal.DISCONNECTED, Goal.USABLE}),
        (Details("primary", "connected", "up-to-date", "inconsistent"), {Goal.PRIMARY, Goal.CONNECTED}),
        (Details("primary", "connecting", answered=False), {Goal.PRIMARY}),
        (Details("primary", "connecting", started=1.0, held=True), {Goal.PRIMARY, Goal.DISCONNECTED}),
        (CONNECTED, {Goal.PRIMARY, Goal.CONNECTED, Goal.SYNCED, Goal.USABLE}),
    ],
)
def test_goals_are_reached_by_what_is_so(details: Details, reached: set[Goal]) -> None:
    assert {goal for goal in Goal if goal.reached(facts(details))} == reached
