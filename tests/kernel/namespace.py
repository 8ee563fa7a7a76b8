"""A network of its own for each node of a test, and wires between them that can break in every way."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.kernel import machine
from tests.kernel.waiting import wait_for


class Namespace:
    """A network namespace (ip-netns(8)), with the loopback device up."""

    def __init__(self, name: str) -> None:
        self.name = name
        machine.run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        machine.run("ip", "-n", self.name, *arguments)

    def command(self, *argv: str) -> list[str]:
        """The same command, to be run in here. Only the network is another one: mounts and names are the test's."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]

    def nft(self, rules: str) -> None:
        machine.run(*self.command("nft", rules))

    def kill(self) -> None:
        """SIGKILL to everything in here: the machine has lost its power."""

        def none_left() -> bool:
            pids = machine.run("ip", "netns", "pids", self.name, check=False).stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            return not pids

        wait_for(none_left, f"no process is left in {self.name}", timeout=20)

    def remove(self) -> None:
        """With what still runs in here."""
        self.kill()
        machine.run("ip", "netns", "del", self.name)


class Wire:
    """A pair of devices, one in `here`, one in `there`, with the addresses `here_ip` and `there_ip`."""

    def __init__(self, number: int, here: Namespace, there: Namespace) -> None:
        """`number`: 0 to 255, one for each wire of a test."""
        self.device = f"wire{number}"
        self.here, self.there = here, there
        self._lossy: list[Namespace] = []
        self.here_ip, self.there_ip = f"10.94.{number}.1", f"10.94.{number}.2"
        other_end = ("type", "veth", "peer", "name", self.device, "netns", there.name)
        here.ip("link", "add", "name", self.device, *other_end)
        for end, address in ((here, self.here_ip), (there, self.there_ip)):
            end.ip("addr", "add", f"{address}/24", "dev", self.device)
            end.ip("link", "set", self.device, "up")

    def lose(self, *ends: Namespace, verdict: str = "drop") -> None:
        """What arrives at these ends is lost, or gets nft's `verdict`: until `mend`."""
        for end in ends:
            rules = (
                f"table inet {self.device} {{ chain arriving {{ "
                f"type filter hook input priority 0; iifname {self.device} {verdict}; }}; }}"
            )
            end.nft(rules)
            self._lossy.append(end)

    def reset(self, *ends: Namespace) -> None:
        """What arrives at these ends is answered with a TCP reset, and the receiver knows nothing: until `mend`."""
        self.lose(*ends, verdict="meta l4proto tcp reject with tcp reset")

    def mend(self) -> None:
        while self._lossy:
            self._lossy.pop().nft(f"delete table inet {self.device}")

    def pull(self) -> None:
        """The cable is out: until `plug`."""
        self.there.ip("link", "set", self.device, "down")

    def plug(self) -> None:
        self.there.ip("link", "set", self.device, "up")

    def narrow(self, rate: str) -> None:
        """From `here` to `there` no more than `rate` (tc-tbf(8)) goes through."""
        shape = ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "500ms"]
        machine.run("tc", "-n", self.here.name, "qdisc", "add", "dev", self.device, *shape)
