"""What hastd is found by while it runs: its pidfile, the sockets it listens on and its control socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hastfs.address import Address
from hastfs.config.schema import Config
from hastfs.daemon import sockets
from hastfs.daemon.inheritance import InheritedDoors
from hastfs.daemon.pidfile import Pidfile
from hastfs.daemon.sockets import Place
from hastfs.errors import SystemFailure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The doors for one configuration. Some of them may be those for the configuration before."""

    pidfile: Pidfile
    listen: tuple[Address, ...]
    """What `listeners` were opened for."""
    listeners: Mapping[Place, socket.socket]
    control_path: str
    control: socket.socket
    metrics_address: Address | None = None
    """What `metrics` were opened for."""
    metrics: Mapping[Place, socket.socket] = field(default_factory=dict)

    @property
    def sockets(self) -> set[socket.socket]:
        return {*self.listeners.values(), self.control, *self.metrics.values()}

    def give_up_names(self, but: Opened | None = None) -> None:
        """Pidfile and control socket are gone from the file system, except those that are `but`'s too."""
        if but is None or but.pidfile is not self.pidfile:
            self.pidfile.remove()
        if but is None or but.control is not self.control:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.control_path)

    def close(self, but: Opened | None = None) -> None:
        """Everything, except what is `but`'s too. Not for sockets that are being served."""
        for sock in self.sockets - (but.sockets if but else set()):
            sock.close()
        self.give_up_names(but)


class Doors:
    """The doors of this daemon. Those who serve the sockets close them; `close` is for what is left at the end."""

    def __init__(self, config: Config, inherited: InheritedDoors | None = None) -> None:
        """SystemFailure, with nothing opened, if one of them cannot be had."""
        self._opened = _open(config, None) if inherited is None else _inherit(config, inherited)

    @property
    def listeners(self) -> Collection[socket.socket]:
        """What primaries connect to."""
        return self._opened.listeners.values()

    @property
    def control(self) -> socket.socket:
        """What hastctl connects to."""
        return self._opened.control

    @property
    def metrics(self) -> Collection[socket.socket]:
        """What Prometheus connects to."""
        return self._opened.metrics.values()

    def settle(self) -> None:
        """This process is the daemon: to be called after detaching. SystemFailure if the pidfile cannot be written."""
        self._opened.pidfile.write()
        sockets.own_control(self._opened.control)

    def open_for(self, config: Config) -> Opened:
        """Opens what `config` has and the configuration before has not; nothing is closed yet. It has to be `taken`
        or closed. May block while names are looked up. SystemFailure, with nothing opened, if one cannot be had.
        """
        return _open(config, self._opened)

    def take(self, opened: Opened) -> None:
        """From now on, `opened` are the doors of this daemon."""
        before, self._opened = self._opened, opened
        before.give_up_names(but=opened)

    def refuse(self, opened: Opened) -> None:
        """The doors stay as they are."""
        opened.close(but=self._opened)

    def bequeath(self, config: Config) -> InheritedDoors:
        """For the next program of this process. `config` is what they were opened for."""
        opened = self._opened
        return InheritedDoors(
            config.pidfile,
            config.control,
            tuple(address.text for address in config.listen),
            opened.pidfile.fileno(),
            opened.control.fileno(),
            tuple(sock.fileno() for sock in opened.listeners.values()),
        )

    def close(self) -> None:
        """For good."""
        self._opened.close()


def _inherit(config: Config, left: InheritedDoors) -> Opened:
    listeners = [socket.socket(fileno=fd) for fd in left.listener_fds]
    return Opened(
        Pidfile.inherit(config.pidfile, left.pidfile_fd),
        config.listen,
        {(sock.family, sock.getsockname()): sock for sock in listeners},
        config.control,
        socket.socket(fileno=left.control_fd),
        config.metrics,
        _anew(config.metrics),
    )


def _anew(metrics: Address | None) -> Mapping[Place, socket.socket]:
    """Those of the program before are closed by now. That they cannot be had is no reason to end."""
    try:
        return {} if metrics is None else sockets.listen_tcp((metrics,))
    except SystemFailure as error:
        log.error("No metrics: %s", error)
        return {}


def _open(config: Config, before: Opened | None) -> Opened:
    with contextlib.ExitStack() as new:
        # The pidfile's lock comes first: only its owner may touch the control socket, and what is mounted.
        if before is not None and _is_same(before.pidfile.path, config.pidfile):
            pidfile = before.pidfile
        else:
            pidfile = Pidfile(config.pidfile)
            new.callback(pidfile.remove)
            if before is not None:  # otherwise it is not yet known which process is going to be the daemon
                pidfile.write()
        if before is not None and before.listen == config.listen:
            listeners = before.listeners
        else:
            have = {} if before is None else before.listeners
            listeners = sockets.listen_tcp(config.listen, have)
            for place in listeners.keys() - have.keys():
                new.callback(listeners[place].close)
        metrics: Mapping[Place, socket.socket] = {}
        if before is not None and before.metrics_address == config.metrics:
            metrics = before.metrics
        elif config.metrics is not None:
            served = {} if before is None else before.metrics
            metrics = sockets.listen_tcp((config.metrics,), served)
            for place in metrics.keys() - served.keys():
                new.callback(metrics[place].close)
        if before is not None and _is_same(before.control_path, config.control):
            path, control = before.control_path, before.control
        else:
            path, control = config.control, sockets.listen_control(config.control)
        new.pop_all()
    return Opened(pidfile, config.listen, listeners, path, control, config.metrics, metrics)


def _is_same(path: str, other: str) -> bool:
    """Whatever symbolic links they lead through: /var/run is one to /run."""
    return os.path.realpath(path) == os.path.realpath(other)
