"""News of hastd as lines of the event log. Pure."""

from __future__ import annotations

from typing import Final

from hastfs.cli.monitor.scene import Happening
from hastfs.cli.table import printable
from hastfs.news import Kind, News

_WORDS: Final = {
    Kind.CREATE: "new in hast.conf",
    Kind.DESTROY: "gone from hast.conf",
    Kind.MISSED: "events were missed here: hastd was upgraded, or there were too many",
}
_STATES: Final = ("role", "connection", "disk", "peer_disk")
"""What is worth a line; progress is shown elsewhere."""


def happening(news: News) -> Happening | None:
    """None for what is no event: the state of things, and mere progress."""
    if news.kind is Kind.CALL:
        facts = [str(news.facts.get("happening"))]
    elif news.kind is Kind.CHANGE:
        facts = [f"{name.replace('_', ' ')} {news.facts[name]}" for name in _STATES if name in news.facts]
        if news.facts.get("problem"):
            facts.append(str(news.facts["problem"]))
    else:
        facts = [_WORDS[news.kind]] if news.kind in _WORDS else []
    return Happening(news.time, printable(news.resource or "hastd"), printable(", ".join(facts))) if facts else None
