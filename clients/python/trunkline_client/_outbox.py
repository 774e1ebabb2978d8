"""Requests between the caller's threads and gRPC's, bounded in bytes."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Self

from trunkline.v1.session_pb2 import ConverseRequest


class Outbox(Iterator[ConverseRequest]):
    """First in, first out. Every method but `__next__` wants `changed` held by its caller."""

    def __init__(self, changed: threading.Condition, max_bytes: int) -> None:
        """Begin empty; `max_bytes` or more of waiting requests leave no room for another."""
        self._changed = changed
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[ConverseRequest, int]] = deque()
        self._waiting_bytes = 0
        self.ended = False

    def await_room(self, timeout_seconds: float) -> bool:
        """Return True once there is room or the end, False after `timeout_seconds`."""
        if self._has_room():
            return True
        return self._changed.wait_for(self._has_room, timeout_seconds)

    def _has_room(self) -> bool:
        return self.ended or self._waiting_bytes < self._max_bytes

    def put(self, request: ConverseRequest) -> None:
        """Add a request at the end."""
        size_bytes = request.ByteSize()
        self._waiting.append((request, size_bytes))
        self._waiting_bytes += size_bytes
        self._changed.notify_all()

    def end(self) -> None:
        """Let gRPC's thread go, and everyone who waits for room."""
        self.ended = True
        self._changed.notify_all()

    # gRPC's side.

    def __iter__(self) -> Self:
        """Return itself: the one reader is gRPC."""
        return self

    def __next__(self) -> ConverseRequest:
        """Return the next request; blocks until there is one, at most until the call is over."""
        with self._changed:
            while not self._waiting:
                if self.ended:
                    raise StopIteration
                self._changed.wait()
            request, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            self._changed.notify_all()
            return request
