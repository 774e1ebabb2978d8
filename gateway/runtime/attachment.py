"""One stream of a session's caller, and how far it has come."""

import asyncio

from gateway.core.errors import GatewayError
from gateway.core.events import CallerAck
from gateway.runtime.ports import CallerStream


class Attachment:
    """A stream that carries a session now. The session's owner pumps it; the call that it is waits for `over`."""

    def __init__(self, stream: CallerStream, now: float) -> None:
        """Begin with nothing read or written. `now` = loop time, in seconds."""
        self.stream = stream
        # Done when the call is to end: the error for its status, None = OK.
        self.over: asyncio.Future[GatewayError | None] = asyncio.get_running_loop().create_future()
        self.came_at = self.heard_at = self.written_at = self.told_at = now
        # How many bytes the caller has read of it, and how much of the input it was told to be taken.
        self.read_bytes = self.told_samples = self.told_cseq = 0
        # Whether somebody waits for the caller's next word.
        self.is_reading = False
        # Newest token that was written here, and behind how many bytes: who has read so many has it.
        self.token: tuple[int, int] | None = None
        self.is_left = asyncio.Event()
        # Another stream carries the session: nothing more is read here.
        self.is_superseded = asyncio.Event()
        self._read = asyncio.Event()

    def leave(self) -> None:
        """Record that the caller is not there any more."""
        self.is_left.set()

    def end(self, error: GatewayError | None) -> None:
        """Let the call end; the first end counts."""
        if not self.over.done():
            self.over.set_result(error)

    def acknowledged(self, ack: CallerAck) -> None:
        """Record how much has been read."""
        self.read_bytes = max(self.read_bytes, ack.read_bytes)
        self._read.set()

    async def room(self, window_bytes: int) -> None:
        """Return when no more than so much is under way; the owner bounds the wait."""
        while self.stream.written_bytes - self.read_bytes >= window_bytes:
            self._read.clear()
            await self._read.wait()
