"""Seeds of histories that once failed, each with a word on what it found; they are lived again on every run.

A seed names the same life only as long as nobody changes what histories are drawn from: whoever does that keeps the
seeds (they cost little), and makes sure that the mistake also has a test of its own that does not depend on them.
"""

FAILING_SEEDS = {
    100453: "half a sector, completed from the stale copy, was written over the good one",
    100510: "a secondary that could not record its gap answered flushes",
    500362: "half of a first copy, forced, was taken for a successor of the whole one",
    200709: "a record of writing alone that failed was not tried again: the nodes never linked",
}
