"""What is wrong with a resource, and the one command that helps (pure)."""

from __future__ import annotations

from dataclasses import replace

from hastfs.details import Details
from hastfs.model import Role
from hastfs.ondisk.geometry import create_command
from hastfs.protocol.handshake import acts_as

_SPLIT_BRAIN = (
    "Split brain: both nodes were written to separately, and both keep their data. Decide whose is to be thrown away: "
    "the remedy is for that node."
)


def diagnosed(details: Details, name: str, extentsize: int = 0, keepdirty: int = 0) -> Details:
    """With `problem` and `remedy` of the resource `name`; a `problem` that a worker knows of is only completed.

    `extentsize` (bytes) and `keepdirty` are its component's, 0 if not known.
    """
    problem, remedy = _diagnosis(details, name, create_command(name, extentsize, keepdirty))
    return replace(details, problem=problem, remedy=remedy)


def unanswered(details: Details, pid: int) -> Details:
    """Of a resource whose worker process does not say anything."""
    return replace(
        details,
        answered=False,
        problem=f"Worker process {pid} does not answer: its disk may hang. Killed, it is replaced by another.",
        remedy=f"kill -9 {pid}",
    )


def _diagnosis(details: Details, name: str, create: str) -> tuple[str, str]:  # noqa: PLR0911 - cases, the worst first
    if details.role == "init":
        return details.problem, ""
    if details.connection == "split-brain":
        return _SPLIT_BRAIN, f"hastctl role init {name} && {create} && hastctl role secondary {name}"
    linked = details.connection == "connected"
    if details.disk == "detached":
        return _detached(name, linked=linked)
    if details.role == "primary" and details.disk == "inconsistent" and not linked:
        return (
            "This node's data is incomplete and the other node, which has the rest, is away: applications wait. "
            f"{details.problem}".strip(),
            f"hastctl role secondary {name}  # on the other node",
        )
    if details.connection == "refused" and not any(acts_as(role) in details.problem for role in Role):
        return details.problem, f"hastctl check {name}"
    if details.role == "primary" and details.connection in ("connecting", "refused"):
        remedy = f"hastctl role secondary {name}  # on the other node" if details.problem else ""
        return details.problem, remedy
    if details.role == "secondary" and details.connection == "connecting":
        if details.problem:
            return details.problem, ""
        return "No primary is connected.", f"hastctl role primary {name}  # on the other node"
    return details.problem, ""


def _detached(name: str, *, linked: bool) -> tuple[str, str]:
    where = "the other node's data alone" if linked else "the other node's data, but that node is away: they wait"
    return (
        f"This node's disk failed; applications go on with {where}. Repair the disk first.",
        f"hastctl attach {name}",
    )
