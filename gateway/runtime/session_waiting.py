"""What a caller is told while it waits for its line. Nothing else writes to the stream yet."""

import asyncio
from contextlib import suppress

from gateway.core import events as out
from gateway.runtime.lease import Place
from gateway.runtime.ports import CallerGoneError, CallerStream
from gateway.runtime.session_options import Ending


class Waiting:
    """Talks to one caller who has no line yet. Who does not read has no use for it."""

    def __init__(self, stream: CallerStream, patience_seconds: float) -> None:
        """Wait for each word to be read no longer than so."""
        self._stream = stream
        self._patience_seconds = patience_seconds

    async def tell_place(self, place: Place) -> None:
        """Tell where the caller stands. Raises `CallerGoneError`."""
        waited_ms, remaining_ms = round(place.waited_seconds * 1000), round(place.remaining_seconds * 1000)
        await self._tell(out.Queued(place.position, waited_ms, remaining_ms))

    async def tell_end(self, ending: Ending) -> None:
        """Tell that it will have none."""
        with suppress(CallerGoneError):
            await self._tell(out.Closed(ending.reason, out.Usage(), 0, detail=ending.detail))

    async def _tell(self, event: out.SessionEvent) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                await self._stream.write(out.Outgoing(event))
