"""A wire that can be cut: a forwarder whose connections a test resets, refuses, or lets stand still."""

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from .scripted_gateway import free_port

_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Cutter:
    """Forwards a port to another, in threads: blocking clients are tested too."""

    def __init__(self, target: str) -> None:
        self.lead_to(target)
        self.address = f"127.0.0.1:{free_port()}"
        self.connections = self.refused = 0
        # Cleared: who connects is reset at once.
        self.lets_in = threading.Event()
        self.lets_in.set()
        # Cleared: nothing passes on the connections that were made with it. The last is for new ones.
        self._flows = [_set_event()]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._changing = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", int(self.address.partition(":")[2])))
        self._threads = [_begun(self._accept)]

    def lead_to(self, *targets: str) -> None:
        """Lead new connections to these, one after the other, again and again: a balancer."""
        self._targets = itertools.cycle(targets)

    def cut(self, *, lets_in: bool = True) -> None:
        """Reset every connection: RST, nothing is delivered that was on the way."""
        with self._changing:
            if not lets_in:
                self.lets_in.clear()
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                _reset(each)

    def freeze(self) -> None:
        """Let nothing pass on the connections that are there, and tell nobody."""
        self._flows[-1].clear()
        self._flows.append(_set_event())

    def close(self) -> None:
        for flows in self._flows:
            flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5)
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._changing:
                if self.lets_in.is_set():
                    self._forward(near)
                else:
                    self.refused += 1
                    _reset(near)

    def _forward(self, near: socket.socket) -> None:
        self.connections += 1
        host, _, port = next(self._targets).partition(":")
        try:
            far = socket.create_connection((host, int(port)))
        except OSError:
            # Nobody is there, and nobody says so.
            self._pairs.append((near, near))
            return
        self._pairs.append((near, far))
        for each in (near, far):
            # As gRPC does: otherwise each small message waits for an acknowledgement.
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flows = self._flows[-1]
        for source, sink in ((near, far), (far, near)):
            self._threads.append(_begun(partial(self._pipe, source, sink, flows)))

    def _pipe(self, source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
        with suppress(OSError):
            while content := source.recv(65_536):
                flows.wait(30)
                sink.sendall(content)
            # A cut is no end in order.
            if any(sink in pair for pair in self._pairs):
                sink.shutdown(socket.SHUT_WR)


def _begun(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        # A thread that still reads would keep it open.
        each.shutdown(socket.SHUT_RD)
    each.close()


@contextmanager
def cuttable(target: str) -> Iterator[Cutter]:
    cutter = Cutter(target)
    try:
        yield cutter
    finally:
        cutter.close()
