"""The secondary's side of the handshake, from a primary's step 3 to our step 4 (docs/protocol.md)."""

from __future__ import annotations

from typing import Any

from hastfs.config.schema import ResourceConfig
from hastfs.errors import HastError
from hastfs.model import Consistency, Role, SyncSource
from hastfs.ondisk.layout import Layout
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.frame import for_version
from hastfs.protocol.handshake import Joining, Refusal, Standing, Terms, size_mismatch
from hastfs.protocol.payload import understood
from hastfs.protocol.verdict import Facts, Scope, SplitBrain, Verdict, decide, facts_of_primary
from hastfs.resource.channel import Channel
from hastfs.resource.connecting import send_frame
from hastfs.resource.metastore import Metastore
from hastfs.volume import Buffer


class SizeMismatch(HastError):
    """The components were created with different sizes."""


async def admit(
    channel: Channel,
    config: ResourceConfig,
    metastore: Metastore,
    layout: Layout,
    *,
    joining: Joining,
    version: int,
    boot: int,
) -> Verdict:
    """Judges the primary and sends it our terms. Raises SplitBrain or another HastError after a refusal, OSError."""
    metadata = metastore.metadata
    versioned = version >= 3 and joining.generations is not None
    ours = Facts(
        metadata.resuid,
        metadata.localcnt,
        metadata.remotecnt,
        not metadata.resuid,
        metadata.generations if versioned else None,
        metadata.consistency is Consistency.CONSISTENT,
    )
    try:
        verdict = decide(facts_of_primary(joining, versioned=versioned), ours)
        _check_sizes(joining, metadata)
    except HastError as error:
        await send_frame(channel, for_version(_refusal(error, metastore).encode(), version))
        raise
    await _write_down(verdict, metastore, joining, versioned=versioned)
    terms = _terms(verdict, metastore, layout, virgin=ours.virgin, versioned=versioned, boot=boot)
    packing = understood(version, config.compression, config.checksum)
    await send_frame(channel, for_version(terms.encode(*packing), version))
    return verdict


def _check_sizes(joining: Joining, metadata: Metadata) -> None:
    """SizeMismatch. A primary that does not say its sizes checks ours, and only its own log has the reason."""
    for what, theirs, ours in (
        ("Data", joining.datasize, metadata.datasize),
        ("Extent", joining.extentsize, metadata.extentsize),
    ):
        if theirs and theirs != ours:
            raise SizeMismatch(size_mismatch(what, theirs, ours))


async def _write_down(verdict: Verdict, metastore: Metastore, joining: Joining, *, versioned: bool) -> None:
    """What the verdict makes of this node is on its disk before the primary hears of it.

    A node that is to get everything is inconsistent from now on: a crash before the first byte arrives must not leave
    one that looks equal to the primary. (A version 2 primary could never end that state.)
    """
    changes: dict[str, Any] = {}
    if not metastore.metadata.resuid:
        # A former primary keeps `primary` as its previous role: the original writes it only for a new resource.
        changes = {"resuid": joining.resuid, "prevrole": Role.SECONDARY}
    if versioned and verdict.scope is Scope.NOTHING:
        changes["generations"] = joining.generations
        if joining.localcnt:  # the primary was written to: what its map says is still to come
            changes["consistency"] = Consistency.INCONSISTENT
    elif versioned and verdict.scope is Scope.EVERYTHING and verdict.source is SyncSource.PRIMARY:
        changes["consistency"] = Consistency.INCONSISTENT
    if changes:
        await metastore.update(**changes)


def _refusal(error: HastError, metastore: Metastore) -> Refusal:
    metadata = metastore.metadata
    standing = None
    if isinstance(error, SplitBrain):
        standing = Standing(metadata.datasize, metadata.extentsize, metadata.localcnt, metadata.remotecnt)
    return Refusal(str(error), standing=standing)


def _terms(
    verdict: Verdict, metastore: Metastore, layout: Layout, *, virgin: bool, versioned: bool, boot: int
) -> Terms:
    metadata = metastore.metadata
    activemap: Buffer = b""
    if verdict.scope is Scope.EVERYTHING:
        activemap = b"\xff" * layout.mapsize
    elif verdict.scope is Scope.DIRTY or not metastore.activemap.in_sync:
        # Also of a virgin: it may have been a primary that ended in its first write, before that was on record.
        activemap = metastore.activemap.to_bytes(layout.mapsize)
    return Terms(
        datasize=metadata.datasize,
        extentsize=metadata.extentsize,
        localcnt=metadata.localcnt,
        remotecnt=metadata.remotecnt,
        virgin=virgin,
        syncsrc=verdict.source,
        map=activemap,
        generations=metadata.generations if versioned else None,
        consistency=metadata.consistency,
        boot=boot,
    )
