"""What stands between the threads of a blocking session that outlives its streams."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._movable import MovableCore
from trunkline_client._sync_call import ConverseCall
from trunkline_client._sync_dialling import OwnChannel
from trunkline_client.events import Event


class SyncInbox:
    """Events between the thread that reads and the caller's, bounded in bytes."""

    def __init__(self, lock: threading.RLock, max_bytes: int) -> None:
        """Begin empty."""
        self._max_bytes = max_bytes
        self._unread: deque[tuple[Event, int]] = deque()
        self._unread_bytes = 0
        self._ended = False
        self._holds_up = True
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def put(self, event: Event, size_bytes: int) -> None:
        """Add one event (none after `end`), then wait for room."""
        with self._room:
            self.add(event, size_bytes)
            # Bounded by the session: whoever ends it calls `end`.
            while self._holds_up and self._unread_bytes >= self._max_bytes and not self._ended:
                self._room.wait()

    def hold_up(self, *, holds_up: bool) -> None:
        """Let whoever writes wait for room, or not: a stream that is to be left must not be waited on."""
        with self._room:
            self._holds_up = holds_up
            self._room.notify_all()

    def add(self, event: Event, size_bytes: int) -> None:
        """Add one event as `put` does, and leave the wait to the next."""
        with self._arrived:
            if not self._ended:
                self._unread.append((event, size_bytes))
                self._unread_bytes += size_bytes
                self._arrived.notify()

    def get(self) -> Event | None:
        """Block until the next event; None = there will be no more."""
        with self._arrived:
            while not self._unread:
                if self._ended:
                    return None
                # Bounded by the session: its deadlines, and the silence that ends a stream.
                self._arrived.wait()
            event, size_bytes = self._unread.popleft()
            self._unread_bytes -= size_bytes
            self._room.notify()
            return event

    def end(self) -> None:
        """Take no more events; those that are there can still be read."""
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()
            self._room.notify_all()

    def discard(self) -> None:
        """Drop what is unread and take no more."""
        with self._arrived:
            self._unread.clear()
            self._unread_bytes = 0
            self.end()


class Feed(Iterator[ConverseRequest]):
    """What gRPC's thread reads of one stream: its first message, then what the core gives out."""

    def __init__(
        self,
        changed: threading.Condition,
        core: MovableCore,
        first: ConverseRequest,
        on_idle: Callable[[], None],
    ) -> None:
        """Begin with `open` or `resume`; more comes once it is attached. `on_idle` is called before it waits."""
        self._changed = changed
        self._on_idle = on_idle
        self._core = core
        self._said: ConverseRequest | None = first
        self._attached = False
        self.is_over = False

    def attach(self) -> None:
        """Give out what the core has from now on."""
        with self._changed:
            self._attached = True
            self._changed.notify_all()

    def say(self, request: ConverseRequest) -> None:
        """Give out one message before it is attached, for a second time."""
        with self._changed:
            self._said = request
            self._changed.notify_all()

    def has_said(self) -> bool:
        """Tell whether gRPC has what was said, or wants nothing any more."""
        return self._said is None or self.is_over

    def end(self) -> None:
        """Let gRPC's thread go: the call is over."""
        with self._changed:
            if self._attached and not self.is_over:
                # Reading may come to it much later, where the application does not read.
                self._core.detach()
            self.is_over = True
            self._changed.notify_all()

    # gRPC's side.

    def __iter__(self) -> Self:
        """Return itself: the one reader is gRPC."""
        return self

    def __next__(self) -> ConverseRequest:
        """Return the next request; blocks until there is one, at most until the call is over."""
        with self._changed:
            while True:
                if self.is_over:
                    raise StopIteration
                request, self._said = self._said or self._due(), None
                if request is not None:
                    self._changed.notify_all()
                    return request
                if self._attached and self._core.has_finished:
                    raise StopIteration
                self._on_idle()
                self._changed.wait()

    def _due(self) -> ConverseRequest | None:
        return self._core.next_request(time.monotonic()) if self._attached else None


@dataclass(frozen=True, slots=True)
class Stream:
    """One call with what is there for it alone."""

    call: ConverseCall
    own: OwnChannel | None
    feed: Feed

    def close(self) -> None:
        """Cut it. The call before the feed: gRPC would tell the end of that as a polite one."""
        self.call.cancel()
        self.feed.end()
        if self.own is not None:
            self.own.close()
