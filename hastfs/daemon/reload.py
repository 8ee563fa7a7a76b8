"""What a new hast.conf means for the resources that run under the old one (hast.md, daemon and control). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hastfs.config.schema import Config, ResourceConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """By resource name, each in one place at most: a resource that stays as it is is nowhere."""

    removed: tuple[str, ...]
    """Not in the file any more: stopped."""
    added: tuple[str, ...]
    """New in the file, with the role init."""
    restarted: tuple[str, ...]
    """Component, image or device are others now: stopped, and given the role again that they had."""
    applied: tuple[str, ...]
    """Changed in a way that takes effect while they go on."""

    @property
    def stopped(self) -> tuple[str, ...]:
        """Those that leave their role, for good or for a moment."""
        return self.removed + self.restarted


def compare(old: Config, new: Config) -> Plan:
    """What there is to do."""
    restarted, applied = [], []
    for name in old.resources.keys() & new.resources.keys():
        before, after = old.resources[name], new.resources[name]
        if _needs_restart(before, after) or old.mountdir != new.mountdir:
            restarted.append(name)
        elif before != after:
            applied.append(name)
    return Plan(
        removed=tuple(name for name in old.resources if name not in new.resources),
        added=tuple(name for name in new.resources if name not in old.resources),
        restarted=tuple(sorted(restarted)),
        applied=tuple(sorted(applied)),
    )


def _needs_restart(before: ResourceConfig, after: ResourceConfig) -> bool:
    return (before.provider, before.local, before.device) != (after.provider, after.local, after.device)
