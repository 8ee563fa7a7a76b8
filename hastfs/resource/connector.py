"""Keeps the primary linked to the other node: connects, judges what it says, serves the link, begins again."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import trio

from hastfs.config.schema import ResourceConfig
from hastfs.errors import BusyError, ComponentError, HastError, ProtocolError, plain
from hastfs.facts import about
from hastfs.model import Consistency, Replication, SyncSource
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.handshake import SPLIT_BRAIN, Joining
from hastfs.protocol.verdict import Facts, Scope, SplitBrain, decide, facts_of_primary
from hastfs.resource.alone import random_id
from hastfs.resource.connecting import Connected, Dial, MakeDial, NotAnswered, Refused, connect
from hastfs.resource.events import Event, Notify, split_brain_advice
from hastfs.resource.link import MEMSYNC_SINCE, STATE_SINCE, Link, LinkLost
from hastfs.resource.replica import Replica
from hastfs.resource.synchronizer import Synchronizer
from hastfs.resource.waiting import plain_errors

log = logging.getLogger(__name__)

FIRST_WAIT = 2.0
"""Seconds a starting primary waits for an answer of the other node before it goes on alone."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
"""Seconds between attempts to connect: doubled each time, until a link was good (the original: always 10)."""

_FIRST_KNOWN = 1
"""The version every peer is taken to speak at first; only the very first release of the original speaks but 0."""

_LARGEST_MAP = 16 << 20
"""Bytes of a peer's map that are accepted at least: with another extent size it may be longer than ours."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a primary's link: `Details.connection`, and what is wrong with it, in a sentence."""

    connection: str
    problem: str = ""


class Connector:
    """The one task that makes links, to where `make_dial` says that the replica's configuration leads."""

    def __init__(
        self, replica: Replica, make_dial: MakeDial, notify: Notify, *, force: bool, patient: bool = True
    ) -> None:
        """`patient`: the other node is given a moment to answer before this one starts without it."""
        self._replica = replica
        self._make_dial = make_dial
        self._linking = trio.CancelScope()
        self._peer = "none"
        self._notify = notify
        self._force = force
        self._patient = patient
        self._reported = ""
        self._was_up = False  # and nobody was told yet why that is over
        self._failure: Exception | None = None  # of the last attempt
        self._settled = False
        self._delay = FIRST_DELAY
        self._known = _FIRST_KNOWN
        self._unheard = False
        """Whether an older node may have been virgin and taken our resuid (step 3) without our hearing of it."""
        self._task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when it is known whether this node may be primary: linked, or nobody there who objects.

        Raises BusyError if the other node still is primary `timeout` seconds later.
        """
        self._task_status = task_status
        if not self._patient:
            self._settle()
        patience = trio.current_time() + self._config.timeout
        while True:
            with trio.CancelScope() as self._linking:
                await self._keep_linked(patience)

    def apply(self, before: ResourceConfig) -> None:
        """The replica's configuration has changed from `before`: a link that it does not lead to is given up, what is
        not yet a link begins anew, any other goes on.
        """
        config, link = self._config, self._replica.link
        moved = (config.remote, config.source) != (before.remote, before.source)
        if moved:
            self._reported, self._failure = "", None
            self._known = _FIRST_KNOWN
        if link is None or moved:
            self._delay = FIRST_DELAY
            self._linking.cancel()
        else:
            link.pack_as(config.compression, config.checksum)
            link.set_timeout(config.timeout)

    @property
    def standing(self) -> Standing:
        """How it stands with the link."""
        if self._config.remote is None:
            return Standing("none")
        if self._replica.link is not None:
            return Standing("connected")
        problem = f"No connection to {self._peer}: {self._reported}" if self._reported else ""
        if isinstance(self._failure, SplitBrain):
            return Standing("split-brain", problem)
        return Standing("refused" if isinstance(self._failure, Refused) else "connecting", problem)

    @property
    def _config(self) -> ResourceConfig:
        return self._replica.config

    async def _keep_linked(self, patience: float) -> None:
        """To one `remote`; runs until cancelled."""
        self._peer = "none" if self._config.remote is None else self._config.remote.text
        while True:
            dial = self._make_dial(self._config)
            if dial is None:
                self._settle()
                await trio.sleep_forever()
            try:
                await self._attempt(dial)
            except Refused as refused:
                self._refused(refused)
                if refused.wait and not self._settled and not self._force:
                    await self._be_patient(patience)
                    continue
            except (LinkLost, ProtocolError, SplitBrain, ComponentError, OSError) as error:
                if isinstance(error, NotAnswered):
                    self._known = 0 if self._known else _FIRST_KNOWN
                self._report(error)
            self._settle()
            await trio.sleep(self._delay)
            self._delay = min(2 * self._delay, LONGEST_DELAY)

    async def _be_patient(self, until: float) -> None:
        """The other node is still primary: it may be about to step down."""
        if trio.current_time() >= until:
            raise BusyError(
                f"The other node ({self._peer}) still is primary for {self._config.name}. Make it secondary first; "
                "to have two primaries, and a split brain, use -f."
            )
        await trio.sleep(1)

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._task_status.started()

    def _refused(self, refused: Refused) -> None:
        if str(refused) == SPLIT_BRAIN:
            self._report(SplitBrain())
        else:
            self._report(refused)

    def _report(self, error: Exception) -> None:
        """Once per reason, not once per attempt."""
        self._failure = error
        reason = _reason(error)
        if reason == self._reported:
            log.debug("Unable to connect to %s: %s", self._peer, reason)
            return
        self._reported = reason
        log.warning("No connection to %s: %s", self._peer, reason, extra=about(peer=str(self._peer), reason=reason))
        if isinstance(error, SplitBrain):
            log.error("%s", split_brain_advice(self._replica.metastore.metadata), extra=about("split-brain"))
            self._notify(Event.SPLIT_BRAIN)

    async def _attempt(self, dial: Dial) -> None:
        """One connection, from dialling to its loss. Returns or raises LinkLost when it is over."""
        limit = self._config.timeout if self._settled else FIRST_WAIT
        unheard = self._unheard
        connected: Connected | None = None
        with trio.move_on_after(limit):
            maximum = max(_LARGEST_MAP, 2 * self._replica.component.layout.mapsize)
            try:
                connected = await connect(dial, self._config.name, self._prepare, known=self._known, max_map=maximum)
            except Refused:
                self._unheard = unheard  # One that refuses takes over nothing.
                raise
        if connected is None:
            raise LinkLost(f"no answer within {limit:.0f} s")
        link = Link(
            connected.outgoing,
            connected.incoming,
            version=connected.version,
            compression=self._config.compression,
            checksum=self._config.checksum,
            timeout=self._config.timeout,
            generations=connected.terms.generations,
            boot=connected.terms.boot,
        )
        synchronizer = Synchronizer(self._replica, link, connected.terms, self._notify)
        since = trio.current_time()
        try:
            await self._serve(link, connected, synchronizer, unheard=unheard)
        finally:
            if synchronizer.agreed or trio.current_time() - since > LONGEST_DELAY:
                self._delay = FIRST_DELAY

    async def _serve(self, link: Link, connected: Connected, synchronizer: Synchronizer, *, unheard: bool) -> None:
        reason = ""
        try:
            with plain_errors():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(link.run, lambda: self._lost(synchronizer))
                    await self._join(link, connected, unheard=unheard)
                    self._connected(link.version)
                    await synchronizer.run()
        except (HastError, OSError) as error:
            reason = _reason(error)
            raise
        finally:
            self._say_lost(reason)

    def _connected(self, version: int) -> None:
        self._reported, self._failure = "", None
        log.info("Connected to %s.", self._peer, extra=about("connect", peer=str(self._peer), version=version))
        if self._config.replication is Replication.MEMSYNC and version < MEMSYNC_SINCE:
            log.warning(
                "The 'memsync' replication mode is not supported by the remote node, falling back to 'fullsync' mode."
            )
        self._notify(Event.CONNECT)
        self._settle()

    def _lost(self, synchronizer: Synchronizer) -> None:
        was_up = self._replica.link is not None
        self._replica.link_down()
        if was_up:
            synchronizer.interrupted()
            self._was_up = True
            self._notify(Event.DISCONNECT)

    def _say_lost(self, reason: str) -> None:
        """`reason`: empty if this node ended it. It is said here, and not again as one for which there is no link."""
        if not self._was_up:
            return
        self._was_up = False
        self._reported = reason
        words = f": {reason}" if reason else "."
        told = about("disconnect", peer=str(self._peer), reason=reason)
        log.warning("Disconnected from %s%s", self._peer, words, extra=told)

    # -- the handshake's decisions ---------------------------------------------------------------------------------

    async def _prepare(self, version: int, token: bytes) -> Joining:
        """Who we are. The very first time, the pair gets its identity now, durably before anyone hears of it.

        Only that time the other node is told `virgin`: it may be the same as we are but for what our map says.
        """
        self._known = version
        metastore = self._replica.metastore
        virgin = _is_virgin(metastore.metadata)
        if virgin:
            await metastore.revise(_identified)
        elif version < STATE_SINCE:
            self._unheard = True
        metadata = metastore.metadata
        return Joining(
            self._config.name,
            token,
            virgin,
            metadata.resuid,
            metadata.localcnt,
            metadata.remotecnt,
            metadata.generations if version >= STATE_SINCE else None,
            metadata.consistency,
            self._replica.detached and version >= STATE_SINCE,
            *((metadata.datasize, metadata.extentsize) if version >= STATE_SINCE else ()),
        )

    async def _join(self, link: Link, connected: Connected, *, unheard: bool) -> None:
        """Checks the secondary's terms and makes them true here; then the link is up.

        The merged map is durable before the first request goes out, because the secondary clears its own then. And it
        is durable before the counter that tells of it: a full map needs no counter.
        """
        replica, terms, joining = self._replica, connected.terms, connected.joining
        self._check_sizes(connected)
        self._check_copy(connected)
        # One that was virgin when we last asked does not say so again, and has not counted anything.
        empty = terms.virgin or (unheard and not terms.localcnt and not terms.remotecnt)
        outdated = empty and terms.syncsrc is SyncSource.PRIMARY and not joining.virgin
        if self._check_verdict(connected) is Scope.EVERYTHING or outdated:
            replica.map.everything()
        if terms.syncsrc is SyncSource.SECONDARY:
            await self._become_stale(joining)
        replica.map.merge(bytes(terms.map))
        await replica.metastore.make_durable()
        if outdated and not joining.localcnt:
            await replica.metastore.update(localcnt=1)  # hast(8): the secondary is out of date from now on
        self._unheard = False
        if terms.generations is not None:
            link.told = (terms.consistency, terms.generations)
        link.check()  # from here on to `link_up` without a pause: nobody would take a lost link down
        if (replica.detaching or replica.detached) != joining.detached:
            # The other node does not know that it keeps the map.
            raise LinkLost("the component failed while connecting")
        if terms.syncsrc is SyncSource.PRIMARY:
            replica.map.link_made()
        if terms.syncsrc is SyncSource.PRIMARY and not replica.map.in_sync and terms.generations is not None:
            # Goes ahead of every write: a secondary in the middle of a resync knows it (promise 6).
            link.state(Consistency.INCONSISTENT, terms.generations, link.state_answered)
        replica.link_up(link)

    def _check_sizes(self, connected: Connected) -> None:
        """A secondary that knows ours from step 3 has checked them, too, so that its administrator hears of it."""
        metadata, terms = self._replica.metastore.metadata, connected.terms
        for what, ours, theirs in (
            ("Data size", metadata.datasize, terms.datasize),
            ("Extent size", metadata.extentsize, terms.extentsize),
        ):
            if ours != theirs:
                raise ProtocolError(f"{what} differs between nodes (local={ours}, remote={theirs}).")

    def _check_copy(self, connected: Connected) -> None:
        """Without a component: the other node's data has to be the very data that applications saw last."""
        if not self._replica.detached:
            return
        ours, terms = self._replica.metastore.metadata.generations, connected.terms
        if terms.generations is None or terms.generations.current != ours.current:
            raise SplitBrain("The other node's data has changed without this one, which has no component of its own.")

    def _check_verdict(self, connected: Connected) -> Scope:
        """The secondary's verdict must be ours: neither its rule nor its honesty is taken on trust (promise 5)."""
        joining, terms = connected.joining, connected.terms
        versioned = terms.generations is not None and joining.generations is not None
        theirs = Facts(
            0 if terms.virgin else joining.resuid,
            terms.localcnt,
            terms.remotecnt,
            terms.virgin,
            terms.generations if versioned else None,
            terms.consistency is Consistency.CONSISTENT,
        )
        try:
            verdict = decide(facts_of_primary(joining, versioned=versioned), theirs)
        except SplitBrain:
            raise
        except HastError as error:
            raise LinkLost(str(error)) from error
        if verdict.source is not terms.syncsrc:
            raise ProtocolError(
                f"the other node takes the {terms.syncsrc.name.lower()} for the source of a resync, "
                f"by our counters it is the {verdict.source.name.lower()}"
            )
        return verdict.scope

    async def _become_stale(self, joining: Joining) -> None:
        """The other node has the good copy. Nothing may have been written here since the handshake began."""
        replica = self._replica
        metadata = replica.metastore.metadata
        facts = (metadata.localcnt, metadata.remotecnt)
        if replica.writing_alone or replica.alone.wanted or facts != (joining.localcnt, joining.remotecnt):
            replica.alone.when_recorded(lambda error: None)  # once more, if that has failed: nobody else may ask for it
            if replica.fencing.held:
                raise LinkLost(
                    "the other node was primary meanwhile, and this one has begun writes that it did not answer: "
                    f"give them up by `hastctl role -f secondary {self._config.name}`"
                )
            raise LinkLost("written to alone while connecting")
        replica.stale = True
        if metadata.consistency is not Consistency.INCONSISTENT:
            await replica.metastore.update(consistency=Consistency.INCONSISTENT)


def _reason(error: Exception) -> str:
    return f"{plain(error)}." if isinstance(error, OSError) else plain(error)


def _is_virgin(metadata: Metadata) -> bool:
    return metadata.virgin or not metadata.resuid


def _identified(metadata: Metadata) -> Metadata:
    """With the identity of a new pair, if a first write alone has not given it one; no longer virgin."""
    generations = metadata.generations
    if not metadata.resuid:
        generations = generations.diverge(random_id(), used=False)
    return dataclasses.replace(
        metadata, resuid=metadata.resuid or random_id(), generations=generations.rejoined(), virgin=False
    )
