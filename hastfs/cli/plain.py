"""What `--json` writes: plain values under names that stay (docs/json.md, schema.json).

One resource that has an error spoils no other: its `error` says it, and what is not known of it is left out.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from hastfs.config import files
from hastfs.details import Details, Sync
from hastfs.errors import HastError
from hastfs.news import News
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.answer import reason
from hastfs.protocol.control import ERROR_NO_RESOURCE, ResourceStatus

VERSION: Final = 1
"""Raised when a field goes away or changes its sense; not when one is added."""

Plain: TypeAlias = dict[str, Any]


def document(resources: Iterable[Plain]) -> str:
    """The whole answer, on one line."""
    now = time.time()
    return encode({"version": VERSION, "node": files.node_names()[0], "time": now, "resources": list(resources)})


def encode(plain: Plain) -> str:
    """JSON, on one line. A number that JSON does not have (a rate that is none) is null."""
    try:
        return json.dumps(plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(plain))


def _finite(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def news(one: News) -> Plain:
    """A line of `hastctl events --json`."""
    return {"version": VERSION, **one.as_plain()}


def status(resource: ResourceStatus) -> Plain:
    """Of `hastctl status`."""
    return _told(resource, _status)


def listed(resource: ResourceStatus) -> Plain:
    """Of `hastctl list`: all of status, and all the rest."""
    return _told(resource, lambda told, details: {**_status(told, details), **_rest(told, details)})


def failed(name: str, error: HastError, code: int | None = None) -> Plain:
    """A resource of which there is nothing to say but this; `code`: its exit code, if not the error's own."""
    return {"name": name, "error": {"code": error.exit_code if code is None else code, "message": str(error)}}


def dumped(metadata: Metadata) -> Plain:
    """Of `hastctl dump`."""
    return {
        "name": metadata.resource,
        "error": None,
        "datasize": metadata.datasize,
        "extentsize": metadata.extentsize,
        "keepdirty": metadata.keepdirty,
        "localoff": metadata.localoff,
        "resuid": metadata.resuid,
        "localcnt": metadata.localcnt,
        "remotecnt": metadata.remotecnt,
        "prevrole": metadata.prevrole.word,
    }


def _told(resource: ResourceStatus, say: Any) -> Plain:
    details = resource.details
    error = _error(resource)
    plain = {"name": resource.resource, "error": error}
    if resource.error == ERROR_NO_RESOURCE or (details is None and error is not None):
        return plain
    assert details is not None
    return {**plain, **say(resource, details)}


def _error(resource: ResourceStatus) -> Plain | None:
    if resource.error:
        return {"code": resource.error, "message": reason(resource)}
    if resource.details is None:
        return {"code": os.EX_PROTOCOL, "message": "hastd is too old to tell details: hastctl upgrade."}
    return None


def _status(resource: ResourceStatus, details: Details) -> Plain:
    return {
        "role": details.role,
        "status": resource.status,
        "answered": details.answered,
        "held": details.held,
        "connection": details.connection,
        "disk": details.disk,
        "peer_disk": details.peer_disk,
        "size": details.size,
        "behind": details.behind,
        "last_in_sync": details.last_in_sync,
        "connected_since": details.connected_since,
        "started": details.started,
        "sync": None if details.sync is None else _sync(details.sync),
        "problem": details.problem or None,
        "remedy": details.remedy or None,
        "local": resource.localpath,
        "remote": None if resource.remoteaddr == "none" else resource.remoteaddr,
    }


def _sync(sync: Sync) -> Plain:
    return {
        "direction": sync.direction,
        "total": sync.total,
        "left": sync.left,
        "rate": sync.rate,
        "eta": sync.eta,
        "started": sync.started,
    }


def _rest(resource: ResourceStatus, details: Details) -> Plain:
    return {
        "provider": resource.provname,
        "source": resource.sourceaddr,
        "replication": resource.replication,
        "checksum": resource.checksum,
        "compression": resource.compression,
        "workerpid": resource.workerpid or None,
        "dirty": resource.dirty,
        "extentsize": resource.extentsize or None,
        "keepdirty": resource.keepdirty,
        "statistics": resource.stats,
        "counters": details.counters,
        "gauges": details.gauges,
        "latency": {name: histogram.as_plain() for name, histogram in details.latency.items()},
    }
