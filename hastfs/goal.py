"""What one can wait for (`hastctl wait --for`), and when it is so."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from hastfs.model import Role

if TYPE_CHECKING:
    from hastfs.news import Facts, Picture

READY_WITHIN = 60.0
"""Seconds that `Goal.of_role` is waited for, if nobody says otherwise."""


class Goal(Enum):
    """The values are the words that users say."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    CONNECTED = "connected"
    SYNCED = "synced"
    """Connected, and both nodes have the same data."""
    DISCONNECTED = "disconnected"
    """There is no link to the other node: also with the role init, or without another node."""
    USABLE = "usable"
    """Applications can use it: it is primary, and a worker serves it and holds nothing back (hast.conf(5), fence)."""

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """In the order in which they are shown to users."""
        return tuple(goal.value for goal in cls)

    @classmethod
    def of_role(cls, role: Role) -> Goal | None:
        """What a role is for (`role --wait`): a primary to be used, a secondary to be connected, `init` for nothing."""
        return {Role.PRIMARY: cls.USABLE, Role.SECONDARY: cls.CONNECTED}.get(role)

    def reached(self, facts: Facts) -> bool:
        """Whether it is so of one resource."""
        match self:
            case Goal.PRIMARY | Goal.SECONDARY:
                return facts.get("role") == str(self.value)
            case Goal.CONNECTED:
                return facts.get("connection") == "connected"
            case Goal.DISCONNECTED:
                # A worker that says nothing may well be connected.
                return facts.get("connection") != "connected" and facts.get("answered") is True
            case Goal.SYNCED | Goal.USABLE:
                return facts.get(str(self.value)) is True

    def missing(self, picture: Picture) -> list[str]:
        """The resources in the picture of which it is not so; they are in the order in which they were told."""
        return [name for name, facts in picture.facts.items() if not self.reached(facts)]
