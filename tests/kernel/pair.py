"""Two nodes on this machine that are each other's remote, with a wire of their own in each direction."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from tests.kernel import machine
from tests.kernel.component import first_difference
from tests.kernel.node import Node, Options
from tests.kernel.proxy import Proxy
from tests.kernel.waiting import wait_for


class Pair:
    """Nodes `a` and `b`. What a sends to b goes through `to_b`, and the other way round.

    With `device on` both nodes would make the same /dev/hast/NAME; `own_names` gives each provider a name of its own,
    so that both can be primary on this one machine.
    """

    def __init__(self, root: Path, options: Options, *, own_names: bool) -> None:
        self.root = root
        names = (f"{root.name}-a", f"{root.name}-b") if own_names else (root.name, root.name)
        self.a = Node(root, "a", names[0], options)
        self.b = Node(root, "b", names[1], options)
        self.users: list[subprocess.Popen[bytes]] = []
        """Programs that use a disk of the pair: they can be waited for at the latest when the nodes are gone."""
        self.to_a = Proxy(self.a.port)
        self.to_b = Proxy(self.b.port)
        self.a.write_config(self.to_b.port)
        self.b.write_config(self.to_a.port)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return (self.a, self.b)

    def start(self) -> None:
        """Both components created, both daemons up, both roles init."""
        self.heal()
        for node in self.nodes:
            node.create()
            node.launch()
        for node in self.nodes:
            node.wait_ready()

    def connect(self) -> None:
        """a is primary, b secondary, and they have met."""
        self.b.role("secondary")
        self.a.become_primary()
        self.a.until_status("complete")

    def cut(self) -> None:
        self.to_a.cut()
        self.to_b.cut()

    def heal(self) -> None:
        self.to_a.heal()
        self.to_b.heal()

    def rest(self) -> None:
        """Nobody has a role any more, so that nothing writes while components are compared. The primary goes first."""
        for node in sorted(self.nodes, key=lambda node: node.status().role != "primary"):
            node.role("init")

    def difference(self) -> str:
        """Where the data areas differ, in words; empty when they are the same byte for byte."""
        return first_difference(self.a.data_area(), self.b.data_area())

    def assert_equal(self) -> None:
        """The data areas are the same; what is on its way between page caches gets a moment to arrive."""
        wait_for(
            lambda: self.difference() == "", "equal components", timeout=10, interval=0.5, otherwise=self.difference
        )

    def kill(self) -> None:
        """SIGKILL to all that the nodes run; whoever waits for one of their disks gets an error."""
        machine.kill_sessions([session for node in self.nodes for session in node.sessions])

    def clean_up(self) -> None:
        """Nothing of the pair is left but its files."""
        with contextlib.ExitStack() as steps:  # every step is done, also when one fails
            steps.callback(self.cut)
            for user in self.users:
                steps.callback(user.communicate, timeout=20)
            for node in self.nodes:
                steps.callback(node.clean_up)
            steps.callback(self.kill)

    def logs(self) -> str:
        return "\n".join(node.tail() for node in self.nodes)
