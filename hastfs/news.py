"""What `hastctl events` tells: the state of resources as flat facts, what changed of them, and what happened to them.

After drbdsetup's events2: first the state (`exists`, one for each resource, and one without a resource as its end),
then what is new. Pure; `daemon.newsroom` makes news, the control socket carries them as JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self, TypeAlias

from hastfs.checks import check_real
from hastfs.details import Details

Fact: TypeAlias = str | int | bool | None
Facts: TypeAlias = Mapping[str, Fact]

_LONGEST_KEY: Final = 64  # characters
_LAST: Final = 253402214400  # Seconds since the epoch, with a day to spare: a year has four digits.
_BARE = re.compile(r"[^\s\"\\-][^\s\"\\]*|-[^\s\"\\]+")


class Kind(Enum):
    """The values are the words that users see."""

    EXISTS = "exists"
    """All facts of a resource; without a resource: that was the state, changes follow."""
    CREATE = "create"
    """All facts of a resource that is new in hast.conf."""
    CHANGE = "change"
    """The facts that are others than before."""
    DESTROY = "destroy"
    """There is no such resource in hast.conf any more."""
    CALL = "call"
    """Something happened, with hast.conf(5)'s word for it (exec): `happening`."""
    MISSED = "missed"
    """What happened lately is not known: the state follows again."""
    END = "end"
    """hastd tells no more: `reason` is `stop`, or `upgrade` if the program after it does."""


@dataclass(frozen=True, slots=True)
class News:
    """One line. `time` in seconds since the epoch."""

    time: float
    kind: Kind
    resource: str | None = None
    facts: Facts = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"time": self.time, "event": self.kind.value, "resource": self.resource, "facts": dict(self.facts)}

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """Raises ValueError for what is no news, or news of a kind that is not known here."""
        try:
            news = cls(check_real(plain["time"]), Kind(plain["event"]), plain["resource"], dict(plain["facts"]))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{plain!r:.80} are no news") from error
        if news.time > _LAST or not isinstance(news.resource, str | None):
            raise ValueError(f"{plain!r:.80} are no news")
        for key, value in news.facts.items():
            if not _is_key(key) or not isinstance(value, str | int | None):
                raise ValueError(f"{key!r}: {value!r:.80} is no fact")
        return news

    def line(self) -> str:
        """As text: time stamp (UTC), kind, and `resource` with `key:value`, or `-`."""
        from datetime import UTC, datetime  # noqa: PLC0415  # `hastctl role` has no time to load it

        stamp = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="microseconds")
        facts = [f"{key}:{text(value)}" for key, value in self.facts.items()]
        subject = ["-"] if self.resource is None else ["resource", f"name:{text(self.resource)}"]
        return " ".join((stamp, self.kind.value, *subject, *facts))


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and len(key) <= _LONGEST_KEY


def text(value: Fact) -> str:
    """`-` for None, yes or no, a number, or a text: as it is, or as JSON's string if it would not be one word."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (_BARE.fullmatch(value) and value.isprintable()):
        return str(value)
    return json.dumps(value)


def facts(details: Details) -> dict[str, Fact]:
    """What is worth a line when it changes. Bytes and seconds, whole."""
    sync = details.sync
    synced = details.connection == "connected" and details.disk == details.peer_disk == "up-to-date" and sync is None
    return {
        "role": details.role,
        "connection": details.connection,
        "disk": details.disk,
        "peer_disk": details.peer_disk,
        "synced": synced,
        "answered": details.answered,
        "held": details.held,
        "usable": details.role == "primary" and details.started is not None and not details.held,
        "size": details.size,
        "behind": details.behind,
        "sync": None if sync is None else sync.direction,
        "sync_total": None if sync is None else sync.total,
        "sync_left": None if sync is None else sync.left,
        "sync_rate": None if sync is None else _whole(sync.rate),
        "sync_eta": None if sync is None else _whole(sync.eta),
        "problem": details.problem or None,
        "remedy": details.remedy or None,
    }


def _whole(number: float | None) -> int | None:
    return None if number is None or not math.isfinite(number) else round(number)


def differences(before: Facts, after: Facts) -> dict[str, Fact]:
    """The facts of `after` that are new or others than `before`; what is gone is None."""
    gone = dict.fromkeys(before.keys() - after.keys())
    return {**{key: value for key, value in after.items() if key not in before or before[key] != value}, **gone}


class Picture:
    """What is known of some resources, by the news so far. `names`: empty for all there are."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self.facts: dict[str, dict[str, Fact]] = {}
        self.whole = False
        """The state has been told to its end; what is known is how it is."""

    def take(self, news: News) -> None:
        """Goes on from what was known."""
        match news.kind:
            case Kind.MISSED:
                self.facts.clear()
                self.whole = False
            case Kind.EXISTS if news.resource is None:
                self.whole = True
            case Kind.EXISTS | Kind.CREATE if news.resource is not None:
                self.facts[news.resource] = dict(news.facts)
            case Kind.CHANGE if news.resource in self.facts:
                self.facts[news.resource].update(news.facts)
            case Kind.DESTROY if news.resource is not None:
                self.facts.pop(news.resource, None)

    def unknown(self) -> list[str]:
        """Of the names that matter, those that hast.conf does not have (any more)."""
        return sorted(self.names - self.facts.keys()) if self.whole else []
