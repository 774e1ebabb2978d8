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


_NO_STATUS: Final = (0, 1005)
ABNORMAL: Final = 1006


class Binary(bytes):
    """A message that is not text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Closing:
    """How a socket is to be closed. 0 and 1005 stand for a frame without a code, 1006 for no frame."""

    code: int
    reason: str

    def frame(self) -> bytes:
        """Return the payload of the close frame."""
        return b"" if self.code in _NO_STATUS else self.code.to_bytes(2, "big") + self.reason.encode()


class Outbox:
    """Events on their way out. `put` never waits; producers call `room` before they make more."""

    def __init__(self) -> None:
        """Empty and open."""
        self.events_put = 0
        self._pending = deque[bytes]()
        self._pending_bytes = 0
        self._closing: Closing | None = None
        self._released: asyncio.Event | None = None
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, event: Event) -> None:
        """Queue an event as it is now; silently nothing once closing."""
        if self._closing is not None:
            return
        self.events_put += 1
        self._queue(msgspec.json.encode(event))

    def put_frame(self, payload: bytes, *, text: bool) -> None:
        """Queue a message as it is, whatever it is."""
        if self._closing is None:
            self._queue(payload if text else Binary(payload))

    def _queue(self, message: bytes) -> None:
        self._pending.append(message)
        self._pending_bytes += len(message)
        if self._pending_bytes > _PENDING_MAX_BYTES:
            self._drained.clear()
        self._filled.set()

    @property
    def closing(self) -> bool:
        """Whether the close frame is queued or sent."""
        return self._closing is not None

    def hold(self) -> None:
        """Write nothing until `release`."""
        self._released = self._released or asyncio.Event()

    def release(self) -> None:
        """Write on."""
        if self._released is not None:
            self._released.set()
            self._released = None

    def close(self, code: int, reason: str) -> None:
        """Close the socket behind what is queued. The first call counts."""
        self._closing = self._closing or Closing(code, reason)
        self._filled.set()

    async def room(self) -> None:
        """Wait until less than the bound is queued. No deadline of its own: `deliver` has one for every message."""
        await self._drained.wait()

    async def deliver(self, socket: web.WebSocketResponse) -> Closing:
        """Write up to and with the close frame; the peer's answer to that is the reader's business.

        Raises TimeoutError if the peer stops reading, ConnectionError if it went.
        """
        while True:
            await self._filled.wait()
            while self._pending:
                if self._released is not None:
                    await self._released.wait()
                message = self._pending.popleft()
                kind = WSMsgType.BINARY if type(message) is Binary else WSMsgType.TEXT
                async with asyncio.timeout(_SEND_DEADLINE_SECONDS):
                    await socket.send_frame(message, kind)
                self._pending_bytes -= len(message)
                if self._pending_bytes <= _PENDING_MAX_BYTES:
                    self._drained.set()
            self._filled.clear()
            if self._closing is not None:
                await self._end(socket, self._closing)
                return self._closing

    async def _end(self, socket: web.WebSocketResponse, closing: Closing) -> None:
        if self._released is not None:
            await self._released.wait()
        if closing.code != ABNORMAL:
            async with asyncio.timeout(_SEND_DEADLINE_SECONDS):
                await socket.send_frame(closing.frame(), WSMsgType.CLOSE)
