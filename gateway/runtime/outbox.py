"""What one session still has to say, bounded in bytes. Filled by one reader, emptied by one writer."""

import asyncio
from collections import deque

from gateway.core.errors import CallerError, Reason
from gateway.core.events import Outgoing, OutputAudio, Raw

# What an event without audio or JSON is taken to weigh.
_SMALL_BYTES = 256


class Outbox:
    """First in, first out; audio can be flushed. `put` never waits, since the reader must not."""

    def __init__(self, max_bytes: int) -> None:
        """Begin empty."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: deque[Outgoing] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._under_way = False
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._items)

    def put(self, outgoing: Outgoing) -> None:
        """Add one event. Raises `CallerError` SLOW_CALLER when the caller has let too much pile up."""
        self._bytes += _weight(outgoing)
        if self._bytes > self._max_bytes:
            message = f"more than {self._max_bytes} bytes wait for the caller; read faster"
            raise CallerError(Reason.SLOW_CALLER, message)
        self._items.append(outgoing)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def flush_audio(self) -> None:
        """Drop the audio that was not sent."""
        kept = [each for each in self._items if type(each.event) is not OutputAudio]
        self._items = deque(kept)
        self._bytes = sum(map(_weight, kept))

    async def get(self) -> Outgoing:
        """Take the next event, waiting for one. One taker at a time."""
        while not self._items:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        outgoing = self._items.popleft()
        self._bytes -= _weight(outgoing)
        self._under_way = True
        return outgoing

    def sent(self) -> None:
        """Record that the event last taken has gone out."""
        self._under_way = False
        if not self._items:
            self._emptied.set()

    async def emptied(self, timeout_seconds: float) -> bool:
        """Wait until everything has gone out; return whether that came in time."""
        while self._items or self._under_way:
            self._emptied.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                return False
        return True


def _weight(outgoing: Outgoing) -> int:
    event = outgoing.event
    if type(event) is OutputAudio:
        return len(event.data) + _SMALL_BYTES
    if type(event) is Raw:
        return len(event.json) + _SMALL_BYTES
    return _SMALL_BYTES
