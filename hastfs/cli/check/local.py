"""What can be seen on this node alone, with or without a running hastd. Looks, and changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from hastfs.cli import words
from hastfs.cli.check.findings import Finding, ok, problem, warning
from hastfs.cli.client import Client
from hastfs.config.schema import Config, ResourceConfig
from hastfs.details import Details
from hastfs.errors import HastError
from hastfs.model import Consistency, Role
from hastfs.ondisk.metadata import Metadata
from hastfs.protocol.control import ALL, ControlCommand, Request, ResourceStatus
from hastfs.resource.provision import read_metadata

FUSE = "/dev/fuse"
LOOP_CONTROL = "/dev/loop-control"
DEVICES = "/dev/hast"

_FEW_DESCRIPTORS = 256
"""Left for the whole machine."""

_SHORT_TIMEOUT = 5
"""Seconds; below that a busy node is taken for a dead one now and then."""


def running(config: Config, within: float) -> tuple[Finding, Mapping[str, ResourceStatus]]:
    """Whether hastd runs here, and what it says of its resources."""
    try:
        with Client(config.control, within) as client:
            found = client.ask(Request(ControlCommand.STATUS, resources=(ALL,), details=True)).resources
    except HastError as error:
        if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            return _not_running(config), {}
        return problem("hastd", str(error)), {}
    return ok("hastd", f"hastd runs here, with {words.several(len(found), 'resource')}."), {
        each.resource: each for each in found
    }


def _not_running(config: Config) -> Finding:
    return warning("hastd", f"hastd does not run here (nobody listens on {config.control}).", "hastd")


def node(config: Config) -> Iterator[Finding]:
    """What all resources share."""
    yield ok("configuration", f"{config.path} can be used: {words.several(len(config.resources), 'resource')}.")
    for text in config.warnings:
        yield warning("configuration", text)
    yield _device_file("fuse", FUSE, "disks of a primary cannot be shown: modprobe fuse")
    if any(resource.device for resource in config.resources.values()):
        yield _device_file("loop", LOOP_CONTROL, "there will be no /dev/hast/NAME: modprobe loop, or `device off`")
    yield _mountdir(config.mountdir)
    yield _descriptors()


def _device_file(check: str, path: str, without: str) -> Finding:
    if not os.path.exists(path):
        return problem(check, f"There is no {path}: {without}.")
    if not os.access(path, os.R_OK | os.W_OK):
        return problem(check, f"{path} cannot be opened: hastd and hastctl are for root.")
    return ok(check, f"{path} is there.")


def _mountdir(path: str) -> Finding:
    """hastd makes it, but not where something else is in its way."""
    above = path
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        return problem("mountdir", f"{above} is no directory: the disks of a primary have no place.")
    if not os.access(above, os.W_OK | os.X_OK) or os.statvfs(above).f_flag & os.ST_RDONLY:
        return problem("mountdir", f"{above} cannot be written: the disks of a primary have no place.")
    return ok("mountdir", f"{path} can be used.")


def _descriptors() -> Finding:
    with open("/proc/sys/fs/file-nr") as file:
        used, _, most = map(int, file.read().split())
    if most - used < _FEW_DESCRIPTORS:
        return problem("descriptors", f"This machine has {most - used} file descriptors left (fs.file-max is {most}).")
    return ok("descriptors", "There are enough file descriptors.")


def resource(
    config: Config, resource: ResourceConfig, status: ResourceStatus | None
) -> tuple[list[Finding], Metadata | None]:
    """What this node has of one of them. `status`: hastd's word, None if it does not run or does not know it."""
    findings, metadata = _component(resource, status)
    findings += _in_force(resource, status)
    findings += _names(config, resource)
    if resource.exec is not None and not (os.path.isfile(resource.exec) and os.access(resource.exec, os.X_OK)):
        findings.append(problem("exec", f"{resource.exec} cannot be run: there will be no hooks."))
    if resource.timeout < _SHORT_TIMEOUT:
        text = f"A timeout of {resource.timeout} s is short: a busy node will be taken for a dead one."
        findings.append(warning("timeout", text))
    return findings, metadata


def role(status: ResourceStatus | None) -> Role | None:
    """None: hastd does not say."""
    return None if status is None or status.role is None else Role.from_word(status.role)


def _component(resource: ResourceConfig, status: ResourceStatus | None) -> tuple[list[Finding], Metadata | None]:
    create = f"hastctl create {resource.name}"
    try:
        kind = os.stat(resource.local).st_mode
    except OSError as error:
        text = f"Component {resource.local}: {error.strerror}."
        return [problem("component", text, f"{create} (a file also needs its size: -m)")], None
    if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
        return [problem("component", f"{resource.local} is neither a file nor a block device.")], None
    if not os.access(resource.local, os.R_OK | os.W_OK):
        return [problem("component", f"{resource.local} cannot be read and written: are you root?")], None
    try:
        metadata = read_metadata(resource)
    except HastError as error:
        return [problem("component", str(error), create)], None
    size = f"{words.size(metadata.datasize)}, extents of {words.size(metadata.extentsize)}"
    findings = [ok("component", f"{resource.local}: {size}.")]
    if metadata.consistency is not Consistency.CONSISTENT:
        text = "The data here is in the middle of a resync: it cannot be primary before that is complete."
        findings.append(warning("consistency", text))
    if status is not None and status.error and status.errmsg:
        findings.append(problem("hastd", status.errmsg))
    elif status is not None and status.details is not None:
        findings += _state(status.details)
    return findings, metadata


def _state(details: Details) -> Iterator[Finding]:
    """What hastd itself knows to be wrong, but for what the look at the other node tells better."""
    if details.connection == "split-brain" or details.disk == "detached" or details.held or not details.answered:
        yield problem("state", details.problem, details.remedy)


def _in_force(resource: ResourceConfig, status: ResourceStatus | None) -> list[Finding]:
    """hastd goes by the file that it has read."""
    if status is None or status.localpath is None:
        return []
    remote = "none" if resource.remote is None else resource.remote.text
    ours = (resource.provider, resource.local, remote, resource.replication.value)
    if ours == (status.provname, status.localpath, status.remoteaddr, status.replication):
        return []
    return [warning("configuration", "hastd has not read this hast.conf yet.", "hastctl reload")]


def _names(config: Config, resource: ResourceConfig) -> list[Finding]:
    """What is to appear has its place."""
    findings = []
    image, device = f"{config.mountdir}/{resource.provider}", f"{DEVICES}/{resource.provider}"
    if os.path.islink(image) or os.path.isdir(image):
        findings.append(problem("image", f"{image} is in the way of the primary's disk."))
    if resource.device and os.path.lexists(device) and not os.path.islink(device):
        findings.append(problem("device", f"{device} is in the way of the primary's device."))
    return findings
