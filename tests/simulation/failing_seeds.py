"""Seeds of histories that once failed, each with a word on what it found; they are lived again on every run.

No mistake: of the engines; it was the model that did not know what is promised.

A seed names the same life only as long as nobody changes what histories are drawn from: whoever does that keeps the
seeds (they cost little), and makes sure that the mistake also has a test of its own that does not depend on them.
"""

FAILING_SEEDS = {
    100453: "half a sector, completed from the stale copy, was written over the good one",
    100510: "a secondary that could not record its gap answered flushes",
    200709: "a record of writing alone that failed was not tried again: the nodes never linked",
    500362: "half of a first copy, forced, was taken for a successor of the whole one",
    500534: "no mistake: a target did not know yet that its source had lost power, and showed what that one had had",
    700447: "no mistake: the only copy to be lost power before the component was given up",
    700798: "no mistake: the same, and the next flush said so",
    701000: "no mistake: a target caught up after its source had lost power",
    701031: "no mistake: a message that lied left the other node without a write",
    702479: "no mistake: a flush told of a cache that was lost before the resync",
    801863: "a secondary did not hear that it lacked a write begun alone and ended with the link up",
    1104314: "half a sector that was held was completed from what the good copy had before it was away",
    2000794: "a worker did not know what the one before had left in the cache of the only good copy",
    2001035: "a worker did not know that the cache was lost before it came",
    2014273: "no mistake: a node was killed while it stopped",
    2017170: "no mistake: a target caught up just before its source lost power",
    2027417: "a flush that had to tell of a lost cache succeeded when the link broke",
    2044744: "no mistake: what was just being written was read as it was before",
    2049379: "no mistake: a component was made anew when word was on the way that it had caught up",
    2064055: "a write that could not be completed left an extent out of sync, and no resync came",
    9203975: "a flush was acknowledged before the other node knew that it lacked what it had refused",
    32659508: "no mistake: a role was left when the link had just been lost, and what was held got errors",
    81022990: "no mistake: a worker did not know that the one before had flushed all",
    83299433: "no mistake: a write joined an update of the map that had failed already",
    84081108: "no mistake: a role was left while it was held, and the link was back before all was answered",
    88001638: "no mistake: a target that had caught up wrote what its dead primary had sent after that",
    89006833: "a flush failed for a read that was answered only after the loss",
    92002358: "a flush failed for what only the rest of a write's sector was completed with",
    92020458: "a flush failed for a loss before which nobody had read or written anything",
    1795387822493: "half a sector, read while alone, was completed with the link that came meanwhile",
    1795394920951: "a flush was acknowledged before the other node knew that it lacked what it had refused",
}

FAILING_FENCED_SEEDS = {
    82006477: "no mistake: a node was made primary when its word that it is secondary was on the way",
    82009250: "no mistake: an old node was made anew, and whoever had told it who it is died",
}
"""The same of lives that have a fence program because the test says so (`run(seed, print, fenced=True)`)."""
