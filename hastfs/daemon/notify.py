"""What systemd wants to know of hastd (sd_notify(3)): that it serves, what it is doing, that its loop still turns.

A datagram of `NAME=VALUE` lines to the socket in NOTIFY_SOCKET. Nobody there, or no socket: nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping

import trio

LOOK_INTERVAL = 5.0
"""Seconds, at most, until a change of the status is told; less if the watchdog wants to hear of us more often."""


_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def take(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Takes what is for this process only out of `environment`: nothing that it starts is to speak to systemd."""
    return {name: environment.pop(name) for name in _VARIABLES if name in environment}


class Notifier:
    """Never waits, never fails: systemd must not be able to stop a disk. What it has no room for, it is told later."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: what was there to `take`."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = _watchdog(environment)
        self._status = ""
        self._untold: tuple[str, ...] = ()  # the last of what `ready` and its like had to say

    def ready(self) -> None:
        """It serves, and did not before, or reads its configuration no more."""
        self._say("READY=1", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        """It reads its configuration, until `ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It ends in order."""
        self._say("STOPPING=1")

    async def run(self, status: Callable[[], str]) -> None:
        """Tells `status()`, one line, and that we are alive. Runs for ever; a loop that hangs stops it."""
        if not self._address:
            return
        interval = LOOK_INTERVAL if self._watchdog is None else min(LOOK_INTERVAL, self._watchdog / 2)
        while True:
            self._say(*self._untold)
            lines = [] if self._watchdog is None else ["WATCHDOG=1"]
            if (now := status()) != self._status:
                lines.append(f"STATUS={now}")
            if lines and self._told(*lines):
                self._status = now
            await trio.sleep(interval)

    def _say(self, *lines: str) -> None:
        """What systemd may be waiting for."""
        self._untold = () if not lines or self._told(*lines) else lines

    def _told(self, *lines: str) -> bool:
        """False if it was not taken."""
        if not self._address:
            return True
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._address)
            return True
        return False


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants to hear of this process; None if it does not (sd_watchdog_enabled(3))."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environment.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) else None
