"""What one can wait for (`hastctl wait --for`), and when it is so."""

from __future__ import annotations

import enum

from hastfs.details import Details


class Goal(enum.Enum):
    """The values are the words that users say."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    CONNECTED = "connected"
    SYNCED = "synced"
    """Connected, and both nodes have the same data."""
    DISCONNECTED = "disconnected"
    """There is no link to the other node: also with the role init, or without another node."""
    USABLE = "usable"
    """Applications can use it: primary, with data to be used."""

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """In the order in which they are shown to users."""
        return tuple(goal.value for goal in cls)

    def reached(self, details: Details) -> bool:
        """Whether it is so, as far as this look tells."""
        connected = details.connection == "connected"
        match self:
            case Goal.PRIMARY | Goal.SECONDARY:
                reached = bool(details.role == self.value)
            case Goal.CONNECTED:
                reached = connected
            case Goal.DISCONNECTED:
                reached = not connected
            case Goal.SYNCED:
                equal = details.disk == details.peer_disk == "up-to-date"
                reached = connected and equal and details.sync is None
            case Goal.USABLE:
                reached = details.role == "primary" and details.started is not None
        return reached
