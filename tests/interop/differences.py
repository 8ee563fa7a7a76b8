"""Where we deliberately do not say, take or store what the original does, and why.

docs/protocol.md shows the same table. A replay that departs from a captured transcript names its row here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Difference(NamedTuple):
    """What one does, what the other does, and the reason."""

    original: str
    ours: str
    reason: str


DIFFERENCES: Final[dict[str, Difference]] = {
    "version": Difference(
        "offers `version` 2 in step 1",
        "offers 3",
        "an original answers 2, a node of ours 3",
    ),
    "resync": Difference(
        "`seq` 1 for every request of a resync, one under way",
        "numbers of their own, several under way",
        "no number is in use twice, and a resync does not wait for each round trip",
    ),
    "flush": Difference(
        "a resync ends with its last reply",
        "a FLUSH follows",
        "promise 3: nothing is called clean before both nodes have flushed it",
    ),
    "delete": Difference(
        "DELETE alone",
        "to a peer of version 2 or less, DELETE and then WRITEs of zeros",
        "the original does not promise that a deleted range reads as zeros",
    ),
    "no data": Difference(
        "answers a WRITE without data as if it were done",
        "drops the link",
        "nothing was written",
    ),
    "no command": Difference(
        "a request without a command, or with an unknown one, aborts the worker",
        "it drops the link",
        "a bad peer costs the link, not the process",
    ),
    "refused write": Difference(
        "takes the data of a refused WRITE for the next message",
        "reads it and drops it; the stream goes on",
        "a refused request must not cost the link",
    ),
    "failed write": Difference(
        "a WRITE that failed on the secondary alone counts as done",
        "its extents stay dirty and are sent again",
        "the nodes are not equal",
    ),
    "failed flush": Difference(
        "a FLUSH that failed on the secondary alone counts as done",
        "costs the link, and what was not flushed is sent again over the next; ENOTTY and EOPNOTSUPP count as done",
        "what such a disk has acknowledged may be lost; one that knows no flush does all that it can",
    ),
    "unreadable": Difference(
        "asks the secondary for the very bytes that it cannot read itself, time and again",
        "asks for the pages that they are in, once: it writes them anew",
        "a disk gives a bad sector another place when it is written",
    ),
    "still primary": Difference(
        "a primary that is told `wait` for `timeout` seconds takes the role all the same",
        "refuses it, unless it is forced",
        "two primaries end as a split brain",
    ),
    "reconnect": Difference(
        "connects again every 10 s",
        "after 0.5 s, then twice as long each time, up to 10 s",
        "a link is back sooner",
    ),
    "silent client": Difference(
        "closes a connection that says nothing after 20 s, and answers nobody else until then",
        "after 10 s; others are served meanwhile",
        "a silent client must not make a node deaf",
    ),
    "first write": Difference(
        "a first write without a secondary leaves `resuid` and `localcnt` on the disk 0",
        "both are on the disk before it is acknowledged",
        "promise 4: a restart must not forget it",
    ),
    "previous role": Difference(
        "`prevrole` on the disk becomes `primary` with the first write alone",
        "when it takes the role",
        "it is what the node was; nothing is decided by it",
    ),
    "clean": Difference(
        "leaves the last `keepdirty` extents dirty on the disk when a connected primary gives up its role",
        "leaves none: both nodes have flushed",
        "nothing is left to be copied",
    ),
    "lazily": Difference(
        "clears the bits on the disk as soon as a sync from the secondary ends",
        "when many have gathered, or when it gives up the role",
        "a bit too many costs a copy, an update costs time",
    ),
}
