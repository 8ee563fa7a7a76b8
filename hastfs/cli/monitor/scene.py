"""What the monitor shows, and how keys and news change it. Pure: the time is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hastfs.cli.monitor.keys import Key
from hastfs.cli.monitor.rates import Track
from hastfs.cli.table import Look

EVENTS_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of the event log."""

    when: float
    """Seconds since the epoch."""
    resource: str
    text: str


@dataclass(slots=True)
class Scene:
    """Everything that is on the screen. While it is paused, looks and events are not taken in."""

    node: str
    now: float = 0.0
    """Seconds since the epoch: when hastd was asked last."""
    tracks: dict[str, Track] = field(default_factory=dict)
    chosen: int = 0
    paused: bool = False
    help: bool = False
    trouble: str = ""
    """Why there is nothing new; empty if there is."""
    events: deque[Happening] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))

    @property
    def name(self) -> str | None:
        """Of the chosen resource; None: there is none."""
        return list(self.tracks)[self.chosen] if self.tracks else None

    @property
    def track(self) -> Track | None:
        """The chosen one."""
        return None if self.name is None else self.tracks[self.name]

    def looked(self, looks: Sequence[Look], *, now: float, at: float) -> None:
        """hastd has answered. `at`: seconds of a clock that only runs forward."""
        self.trouble = ""
        if self.paused:
            return
        self.now = now
        chosen = self.name
        self.tracks = {look.status.resource: self.tracks.get(look.status.resource, Track()) for look in looks}
        for look in looks:
            self.tracks[look.status.resource].add(look, at)
        names = list(self.tracks)
        # A reload may bring others, or take some away.
        self.chosen = names.index(chosen) if chosen in names else min(self.chosen, max(len(names) - 1, 0))

    def mapped(self, name: str, dirty_map: tuple[int, ...]) -> None:
        """Where a resource is dirty."""
        if name in self.tracks and not self.paused:
            self.tracks[name].dirty_map = dirty_map

    def lost(self, why: str) -> None:
        """hastd does not answer."""
        self.trouble = why

    def happened(self, event: Happening) -> None:
        if not self.paused:
            self.events.append(event)

    def press(self, key: Key) -> bool:
        """False: that is enough."""
        if key is Key.QUIT:
            return False
        if self.help:
            self.help = False
        elif key is Key.HELP:
            self.help = True
        elif key is Key.PAUSE:
            self.paused = not self.paused
        elif key in (Key.UP, Key.DOWN) and self.tracks:
            self.chosen = (self.chosen + (1 if key is Key.DOWN else -1)) % len(self.tracks)
        return True
