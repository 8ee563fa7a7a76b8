"""What a line of the log is about, besides its words: for logs that programs read (docs/logs.md). Pure.

log.warning("Disconnected from %s.", peer, extra=about("disconnect", peer=peer))
"""

from __future__ import annotations

from typing import Any, TypeAlias

Fact: TypeAlias = str | int | float


def about(event: str = "", **facts: Fact) -> dict[str, Any]:
    """For `extra` of a logging call. `event`: the stable word of a change of state, of which no line is ever left out;
    empty for everything else. `facts`: what the words say, each under a name of its own; sizes in bytes, times in
    seconds.
    """
    return {"event": event, "facts": facts}
