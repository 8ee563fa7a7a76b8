"""What happens to a resource that hooks and people want to hear of (hast.conf(5), exec)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias


class Event(enum.Enum):
    """The values are the words that hooks get as their first argument."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    SYNCSTART = "syncstart"
    SYNCDONE = "syncdone"
    SYNCINTR = "syncintr"
    SPLIT_BRAIN = "split-brain"


Notify: TypeAlias = Callable[[Event], None]
