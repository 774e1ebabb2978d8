"""What waits to be written to one socket: bounded, in order, with the closing of the socket as its last entry."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from gateway.simulator.events import Event

# Whoever adds waits for room first, so the bound is passed by one message's answers at most.
_PENDING_MAX_BYTES: Final = 1024 * 1024
# A peer that takes nothing for so long is gone.
_SEND_DEADLINE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Closing:
    """How a socket is to be closed."""

    code: int
    reason: str

    def frame(self) -> bytes:
        """Return the payload of the close frame."""
        return self.code.to_bytes(2, "big") + self.reason.encode()


class Outbox:
    """Events on their way out. `put` never waits; producers call `room` before they make more."""

    def __init__(self) -> None:
        """Empty and open."""
        self.events_put = 0
        self._pending = deque[bytes]()
        self._pending_bytes = 0
        self._closing: Closing | None = None
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, event: Event) -> None:
        """Queue an event as it is now; silently nothing once closing."""
        if self._closing is not None:
            return
        message = msgspec.json.encode(event)
        self.events_put += 1
        self._pending.append(message)
        self._pending_bytes += len(message)
        if self._pending_bytes > _PENDING_MAX_BYTES:
            self._drained.clear()
        self._filled.set()

    @property
    def closing(self) -> bool:
        """Whether the close frame is queued or sent."""
        return self._closing is not None

    def close(self, code: int, reason: str) -> None:
        """Close the socket behind what is queued. The first call counts."""
        self._closing = self._closing or Closing(code, reason)
        self._filled.set()

    async def room(self) -> None:
        """Wait until less than the bound is queued. No deadline of its own: `deliver` has one for every message."""
        await self._drained.wait()

    async def deliver(self, socket: web.WebSocketResponse) -> None:
        """Write up to and with the close frame; the peer's answer to that is the reader's business.

        Raises TimeoutError if the peer stops reading, ConnectionError if it went.
        """
        while True:
            await self._filled.wait()
            while self._pending:
                message = self._pending.popleft()
                async with asyncio.timeout(_SEND_DEADLINE_SECONDS):
                    await socket.send_frame(message, WSMsgType.TEXT)
                self._pending_bytes -= len(message)
                if self._pending_bytes <= _PENDING_MAX_BYTES:
                    self._drained.set()
            self._filled.clear()
            if self._closing is not None:
                async with asyncio.timeout(_SEND_DEADLINE_SECONDS):
                    await socket.send_frame(self._closing.frame(), WSMsgType.CLOSE)
                return
