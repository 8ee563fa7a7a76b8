"""A node with several resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hastfs.cli.client import Client
from hastfs.protocol.control import ControlCommand, Request, ResourceStatus
from tests.kernel.component import DataArea
from tests.kernel.node import MIB, Node, Options

SIZE = 24 * MIB
"""Bytes of each component."""


class ManyNode(Node):
    """Its components are in its folder, under the names of the resources."""

    listen = ""
    """Addresses; empty: the node's port on the loopback device."""

    def __init__(self, root: Path, label: str, timeout: int) -> None:
        """`timeout` as in hast.conf(5)."""
        super().__init__(root, label, "", Options(timeout=timeout))

    def configure(self, resources: Mapping[str, str]) -> None:
        """From the names of the resources to what else hast.conf says about them."""
        blocks = "".join(
            f"resource {name} {{ name {self.provider_of(name)} local {self.root}/{name} {special} }}\n"
            for name, special in resources.items()
        )
        self.hook.write_text(f'#!/bin/sh\necho "$*" >> {self.hook_log}\n')
        self.hook.chmod(0o755)
        self.config.write_text(
            f"control {self.control} pidfile {self.pidfile} listen {self.listen or f'tcp4://127.0.0.1:{self.port}'}\n"
            f"mountdir {self.mountdir} timeout {self.options.timeout} exec {self.hook}\n{blocks}"
        )

    def make_components(self, *names: str) -> None:
        for name in names:
            with (self.root / name).open("wb") as component:
                component.truncate(SIZE)
        self.hastctl("create", "-e", "256k", *names)

    def provider_of(self, name: str) -> str:
        """What no other node of a test that runs at the same time calls its own."""
        return f"{self.root.parent.name}-{self.label}-{name}"

    def image_of(self, name: str) -> Path:
        return self.mountdir / self.provider_of(name)

    def device_of(self, name: str) -> Path:
        return Path("/dev/hast") / self.provider_of(name)

    def area_of(self, name: str) -> DataArea:
        fields = dict(re.findall(r"^ +(\w+): (\d+)", self.hastctl("dump", name).stdout, re.MULTILINE))
        return DataArea(self.root / name, int(fields["localoff"]), int(fields["datasize"]))

    def ask(self, name: str) -> ResourceStatus:
        """As `hastctl list`, and from any thread."""
        with Client(str(self.control), 10) as client:
            return client.ask(Request(ControlCommand.STATUS, resources=(name,))).resources[0]

    def supervisor(self) -> int:
        """Its pid."""
        assert self.process is not None
        return self.process.pid

    def has_worker(self, name: str) -> bool:
        return bool(self.ask(name).workerpid)

    def worker(self, name: str) -> int:
        """Its pid."""
        pid = self.ask(name).workerpid
        assert pid, f"{name} has no worker on {self.label}"
        return pid

    def lines_of(self, name: str) -> list[str]:
        """Of the log."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if f"[{name}]" in line]

    def said(self, event: str, name: str) -> int:
        """How often the hook was called."""
        return self.events().count(f"{event} {name}")
