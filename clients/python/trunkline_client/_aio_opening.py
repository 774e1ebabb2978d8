"""How a session on asyncio begins that may outlive its stream: as the gateway serves it, and not left half open."""

import asyncio
import contextlib

from grpc import aio
from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._aio_call import AsyncCall, StreamOverError
from trunkline_client._aio_session import AsyncSession
from trunkline_client._movable import MovableCore
from trunkline_client._requests import UNASK
from trunkline_client.errors import TrunklineError


class OpeningAsyncSession(AsyncSession):
    """An `AsyncSession` that is plain where the gateway does not serve more."""

    _core: MovableCore

    async def _open_on(self, own: aio.Channel | None, request: ConverseRequest) -> AsyncCall:
        # A stream that was refused before may have set it.
        self._asked.clear()
        # A task of its own: gRPC cancels a call whose read is cancelled, and the gateway would park the session.
        opening = asyncio.create_task(self._open_as_served(own, request), name="trunkline opens")
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await self._unask(opening)
            raise

    async def _open_as_served(self, own: aio.Channel | None, request: ConverseRequest) -> AsyncCall:
        try:
            return await super()._open_on(own, request)
        except TrunklineError as refused:
            plain = self._core.reopen_request(self._message, refused)
            if plain is None:
                raise
        # The gateway that refused the features is asked, over the same connection; the stream is over by its word.
        return await self._open(self._dialler.start(own), plain)

    async def _say_bye(self, opening: asyncio.Task[AsyncCall]) -> None:
        """Say it and read what is left; nothing of that counts."""
        if self._call is not None:
            await self._call.write(UNASK)
            await asyncio.wait({opening})
            while await self._call.read() is not None:
                pass

    async def _unask(self, opening: asyncio.Task[AsyncCall]) -> None:
        """Say `bye` to a session that may have begun: nobody could ever resume it."""
        try:
            with contextlib.suppress(TimeoutError, StreamOverError, TrunklineError):
                async with asyncio.timeout(self._options.close_timeout_seconds):
                    opening.add_done_callback(lambda _: self._asked.set())
                    # gRPC takes one message at a time.
                    await self._asked.wait()
                    await self._say_bye(opening)
        finally:
            self._core.abandon()
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
