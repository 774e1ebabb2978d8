"""One open line, as the runtime's `Upstream`. Bytes in, bytes out; nothing is parsed here."""

import asyncio
import contextlib
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.upstream import failures

CLOSE_SECONDS: Final = 2.0


class RealtimeConnection:
    """A line after its configuration was confirmed."""

    def __init__(self, socket: ClientConnection, session_id: str, life_seconds: float | None) -> None:
        """Take over an open WebSocket."""
        self.session_id = session_id
        self.life_seconds = life_seconds
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        """Send one client event. Success proves nothing: the peer may be gone."""
        try:
            await self._socket.send(frame, text=True)
        except ConnectionClosed as closed:
            raise failures.of_close(closed) from None

    async def receive(self) -> bytes:
        """Return the next server event; the caller must not pause between calls."""
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise failures.of_close(closed) from None

    async def wait_closed(self) -> str:
        """Return why, once the line is closed."""
        await self._socket.wait_closed()
        code, reason = self._socket.close_code, self._socket.close_reason
        return f"{code} {reason or ''}".strip()

    async def close(self) -> None:
        """Close with a close frame, or without one when the peer does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
                return
        self._socket.transport.abort()
