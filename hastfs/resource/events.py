"""What happens to a resource that hooks and people want to hear of (hast.conf(5), exec)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

from hastfs.ondisk.geometry import create_command
from hastfs.ondisk.metadata import Metadata


class Event(enum.Enum):
    """The values are the words that hooks get as their first argument."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    SYNCSTART = "syncstart"
    SYNCDONE = "syncdone"
    SYNCINTR = "syncintr"
    SPLIT_BRAIN = "split-brain"
    DETACH = "detach"
    """Ours: the primary's component failed, and the resource goes on with the other node's."""
    ATTACH = "attach"
    """Ours: the primary has a component again; what it lacks comes by a resync."""


def split_brain_advice(metadata: Metadata) -> str:
    """What an administrator has to do. `metadata`: of the resource's component here."""
    name = metadata.resource
    create = create_command(name, metadata.extentsize, metadata.keepdirty)
    return (
        "Split-brain: both nodes were written to separately. Both keep their data. Decide whose is to be thrown away, "
        f"and on that node: hastctl role init {name}; {create}; hastctl role secondary {name}"
    )


Notify: TypeAlias = Callable[[Event], None]
