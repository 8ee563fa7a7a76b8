"""A wire between two nodes that can be cut, slowed down and measured: a small TCP proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.kernel.machine import free_port

PIECE = 64 * 1024


class Proxy:
    """Forwards `port` on 127.0.0.1 to `target_port`. `sent` counts the bytes from whoever connects to the target."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.sent = 0
        self.rate: int | None = None
        """Bytes a second towards the target; None: as fast as it goes."""
        self._target_port = target_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def heal(self) -> None:
        """The wire works (again)."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        self._spawn(partial(self._accept, listener))

    def cut(self) -> None:
        """Every connection ends and new ones are refused, until `heal`."""
        with self._lock:
            listener, self._listener = self._listener, None
            ended = list(self._open)
        for one in ended if listener is None else [listener, *ended]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive(), "a thread of the proxy hangs"
        self._threads.clear()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # cut
                try:
                    target = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                except OSError:
                    client.close()
                    continue
                target.settimeout(None)
                self._join(listener, client, target)

    def _join(self, listener: socket.socket, client: socket.socket, target: socket.socket) -> None:
        with self._lock:
            if self._listener is not listener:  # cut in the meantime
                client.close()
                target.close()
                return
            self._open |= {client, target}
        ends = threading.Barrier(2)
        self._spawn(partial(self._pump, client, target, ends, counted=True))
        self._spawn(partial(self._pump, target, client, ends, counted=False))

    def _pump(self, source: socket.socket, sink: socket.socket, ends: threading.Barrier, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                if counted:
                    self._count(len(data))
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        ends.wait()  # both directions are done: nobody uses the descriptors any more
        source.close()
        with self._lock:
            self._open.discard(source)

    def _count(self, length: int) -> None:
        with self._lock:  # a replication link has two connections
            self.sent += length
        if self.rate is not None:
            time.sleep(length / self.rate)
