"""One open line, as the runtime's `Upstream`. Bytes in, bytes out; nothing is parsed here."""

import asyncio
import itertools
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.upstream import failures

CLOSE_SECONDS: Final = 2.0


class RealtimeConnection:
    """A line after its configuration was confirmed, or a bare one after `session.created`."""

    def __init__(
        self, socket: ClientConnection, session_id: str, life_seconds: float | None, hide: failures.Hide
    ) -> None:
        """Take over an open WebSocket; `hide` takes its account's key out of what the provider says at its end."""
        self._hide = hide
        self.session_id = session_id
        self.life_seconds = life_seconds
        self._socket = socket
        self._pings = itertools.count(1)
        # What `has_unread` has read ahead.
        self._unread: bytes | None = None

    async def send(self, frame: bytes) -> None:
        """Send one client event. Success proves nothing: the peer may be gone."""
        try:
            await self._socket.send(frame, text=True)
        except ConnectionClosed as closed:
            raise failures.of_close(closed, self._hide) from None

    async def receive(self) -> bytes:
        """Return the next server event; the caller must not pause between calls."""
        if self._unread is not None:
            frame, self._unread = self._unread, None
            return frame
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise failures.of_close(closed, self._hide) from None

    async def has_unread(self) -> bool:
        """Return whether the peer has said something that nobody has read; nothing is lost by asking.

        Waits for nobody. Not for a line that somebody reads: a frame would come to one of the two.
        """
        if self._unread is None:
            # The library promises that a cancelled `recv` loses nothing, and one with a message at hand does
            # not pause: the deadline has no moment to strike.
            try:
                async with asyncio.timeout(0):
                    self._unread = await self._socket.recv(decode=False)
            except (TimeoutError, ConnectionClosed):
                return False
        return True

    async def ping(self) -> None:
        """Return when the other side has answered; raises `UpstreamClosedError`.

        No deadline of its own: the caller has one. An answer comes in its order, so on a line with more unread
        events than the library holds it waits until they are read.
        """
        payload = b"%d" % next(self._pings)
        try:
            await (await self._socket.ping(payload))
        except ConnectionClosed as closed:
            raise failures.of_close(closed, self._hide) from None
        except asyncio.CancelledError:
            # The library keeps each waiter until an answer comes, and a frozen peer never answers. It has no
            # call to forget one, and cancelled while it writes it has not even handed the waiter out.
            self._socket.pending_pings.pop(payload, None)
            raise

    async def wait_closed(self) -> str:
        """Return why, once the line is closed; without words of the provider, which may be a caller's."""
        await self._socket.wait_closed()
        return failures.of_close(self._socket.protocol.close_exc, quoting=False).message

    async def close(self) -> None:
        """Close with a close frame, or without one when the peer does not answer."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        except TimeoutError:
            self._socket.transport.abort()
        except BaseException:  # the library's own deadline ends with whoever waits
            self._socket.transport.abort()
            raise
