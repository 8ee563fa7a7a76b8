"""What the other node's answer means, beside what is known of this one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hastfs.cli import words
from hastfs.cli.check.findings import Finding, ok, problem, warning
from hastfs.config.schema import ResourceConfig
from hastfs.errors import one_line
from hastfs.model import Role
from hastfs.ondisk.geometry import create_command
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol import handshake
from hastfs.protocol.handshake import Refusal
from hastfs.protocol.probe import Answer, Component

CLOCKS_DIFFER = 1.0
"""Seconds from which on it is worth a warning: lines of both logs cannot be put in order any more."""

_OLDER = "The other node runs, but its version does not answer checks"


@dataclass(frozen=True, slots=True)
class Here:
    """This node."""

    config: ResourceConfig
    metadata: Metadata | None
    """None if the component cannot be used."""
    role: Role | None
    """None: hastd does not run here."""
    program: str
    """HastFS's version."""


def refused(refusal: Refusal, here: str) -> list[Finding]:
    """`here`: the address from which this node asked."""
    if refusal.errmsg == handshake.NOT_CONFIGURED:
        return [problem("peer", "The other node's hast.conf does not have this resource.")]
    if refusal.errmsg == handshake.NO_ACCESS:
        return [problem("peer", f"`remote` in the other node's section is not {here}, this node's address.")]
    roles = {handshake.acts_as(role): role.word for role in (Role.INIT, Role.PRIMARY)}
    role = "secondary" if refusal.errmsg == handshake.BAD_TOKEN else roles.get(refusal.errmsg)
    if role is None:
        return [problem("peer", f"The other node refuses: {one_line(refusal.errmsg)}")]
    return [
        ok("peer", "The other node answers."),
        warning("version", f"{_OLDER}: sizes and settings are not compared. Its role is {role}."),
    ]


def compare(here: Here, answer: Answer, seconds: float) -> list[Finding]:
    """`seconds`: by which the other node's clock is ahead."""
    return [
        _version(here, answer),
        _clock(seconds),
        _role(here.role, answer.role),
        *_component(here, answer),
        *_settings(here.config, answer),
    ]


def _version(here: Here, answer: Answer) -> Finding:
    if answer.program != here.program:
        text = f"This node has HastFS {here.program}, the other one {answer.program}: upgrade the older one soon."
        return warning("version", text)
    return ok("version", f"Both nodes have HastFS {answer.program}.")


def _clock(seconds: float) -> Finding:
    ahead = "ahead of" if seconds > 0 else "behind"
    if abs(seconds) > CLOCKS_DIFFER:
        text = f"The other node's clock is {abs(seconds):.1f} s {ahead} this one's: times in logs and status mislead."
        return warning("clock", text)
    return ok("clock", "The clocks agree.")


def _role(ours: Role | None, theirs: Role) -> Finding:
    text = f"This node is {'not running hastd' if ours is None else ours.word}, the other one {theirs.word}."
    if ours is theirs is Role.PRIMARY:
        return problem("role", "Both nodes are primary: their data goes separate ways.")
    return ok("role", text)


def _component(here: Here, answer: Answer) -> Iterator[Finding]:
    name = here.config.name
    if answer.component is Component.MISSING:
        ours = here.metadata
        create = create_command(name) if ours is None else create_command(name, ours.extentsize, ours.keepdirty)
        yield problem("peer-component", "The other node has no component.", f"there: {create}")
    elif answer.component is Component.UNUSABLE:
        text = "The other node's component cannot be used: `hastctl check` there says why."
        yield problem("peer-component", text, f"there: hastctl check {name}")
    elif answer.component is Component.SILENT:
        yield problem("peer-component", "The other node's disk does not answer.")
    else:
        yield ok("peer-component", "The other node's component can be used.")
        if here.metadata is not None:
            yield _sizes(here, here.metadata, answer)
            if here.metadata.resuid and answer.resuid and here.metadata.resuid != answer.resuid:
                text = "The components belong to different pairs: one of them has to be made anew, and loses its data."
                yield problem("pair", text)


def _sizes(here: Here, metadata: Metadata, answer: Answer) -> Finding:
    name = here.config.name
    if here.role is Role.SECONDARY or (answer.resuid and not metadata.resuid):
        remedy = f"there: hastctl check {name}"  # only that node knows its own whole size
    else:
        mediasize = metadata.localoff + metadata.datasize
        create = create_command(name, metadata.extentsize, metadata.keepdirty, mediasize)
        remedy = f"there: hastctl role init {name} && {create} && hastctl role secondary {name}"
    for what, ours, theirs in (
        ("a disk", metadata.datasize, answer.datasize),
        ("an extent", metadata.extentsize, answer.extentsize),
    ):
        if ours != theirs:
            text = f"Sizes differ: {what} has {ours} bytes here and {theirs} there."
            text += " One of the components has to be made anew, and loses its data."
            if what == "a disk" and theirs < ours:
                text += " If the other one is a file, remove it first: `create` makes no file longer."
            return problem("size", text, remedy)
    return ok("size", f"Both have {words.size(answer.datasize)} in extents of {words.size(answer.extentsize)}.")


def _settings(config: ResourceConfig, answer: Answer) -> Iterator[Finding]:
    """One hast.conf serves both nodes; where they differ, the primary's counts: until the next failover."""
    differ = [
        f"{what} ({ours} here, {theirs} there)"
        for what, ours, theirs in (
            ("replication", config.replication.value, answer.replication.value),
            ("checksum", config.checksum.value, answer.checksum.value),
            ("compression", config.compression.value, answer.compression.value),
            ("timeout", config.timeout, answer.timeout),
        )
        if ours != theirs
    ]
    if differ:
        yield warning("settings", f"hast.conf differs: {', '.join(differ)}.")
    else:
        yield ok("settings", "Replication, checksum, compression and timeout are the same.")
