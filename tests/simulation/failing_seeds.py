"""Seeds of histories that once failed, each with a word on what it found; they are lived again on every run.

A seed names the same life only as long as nobody changes what histories are drawn from: whoever does that keeps the
seeds (they cost little), and makes sure that the mistake also has a test of its own that does not depend on them.
"""

FAILING_SEEDS = {
    100453: "half a sector, completed from the stale copy, was written over the good one",
    100510: "a secondary that could not record its gap answered flushes",
    200709: "a record of writing alone that failed was not tried again: the nodes never linked",
    500362: "half of a first copy, forced, was taken for a successor of the whole one",
    801863: "a secondary did not hear that it lacked a write begun alone and ended with the link up",
    1104314: "half a sector that was held was completed from what the good copy had before it was away",
    1795387822493: "half a sector, read while alone, was completed with the link that came meanwhile",
}
