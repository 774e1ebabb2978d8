"""Events between gRPC and the caller's `async for`, bounded in bytes.

It exists because gRPC ends a call whose `read()` is cancelled: with it, a cancelled wait for an
event (`asyncio.timeout`, `wait_for`) loses nothing.
"""

import asyncio
import sys
from collections import deque

from trunkline_client.events import Event


class Inbox:
    """One writer, any number of readers. `put` waits while `max_bytes` or more are unread."""

    def __init__(self, max_bytes: int) -> None:
        """Begin empty."""
        self._max_bytes = max_bytes
        self._unread: deque[tuple[Event, int]] = deque()
        self._unread_bytes = 0
        self._ended = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, event: Event, size_bytes: int) -> None:
        """Add one event (none after `end`), then wait for room. Safe to cancel: it stays."""
        self.add(event, size_bytes)
        # Bounded by the session: whoever ends it calls `end`.
        await self._room.wait()

    def add(self, event: Event, size_bytes: int) -> None:
        """Add one event as `put` does, and leave the wait to the next."""
        if self._ended:
            return
        self._unread.append((event, size_bytes))
        self._unread_bytes += size_bytes
        self._arrived.set()
        if self._unread_bytes >= self._max_bytes:
            self._room.clear()

    async def get(self) -> Event | None:
        """Return the next event; None = there will be no more. Safe to cancel: nothing is taken."""
        while not self._unread:
            if self._ended:
                return None
            self._arrived.clear()
            # Bounded by the session: its deadline, and the pings that find a dead gateway.
            await self._arrived.wait()
        event, size_bytes = self._unread.popleft()
        self._unread_bytes -= size_bytes
        if self._unread_bytes < self._max_bytes:
            self._room.set()
        return event

    def lift_bound(self) -> None:
        """Let in all that is to come: what gRPC holds of an ended stream is bounded already."""
        self._max_bytes = sys.maxsize
        self._room.set()

    def end(self) -> None:
        """Take no more events; those that are there can still be read."""
        self._ended = True
        self._arrived.set()
        self._room.set()

    def discard(self) -> None:
        """Drop what is unread and take no more."""
        self._unread.clear()
        self._unread_bytes = 0
        self.end()
