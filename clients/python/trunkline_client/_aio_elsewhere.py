"""How an `open` on asyncio finds a gateway that stays, where the first one goes away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from trunkline_client._aio_call import AsyncCall
from trunkline_client._aio_dialling import AsyncDialler
from trunkline_client._resume import OPENINGS_MAX, Attempts
from trunkline_client.errors import TrunklineError


async def open_somewhere(
    dialler: AsyncDialler,
    open_on: Callable[[AsyncCall], Awaitable[AsyncCall]],
    is_turned_away: Callable[[TrunklineError], bool],
    attempts_after: Callable[[TrunklineError], Attempts],
) -> AsyncCall:
    """Open where all calls go, or over connections of its own where that gateway goes away; bounded by its caller.

    A connection that stands leads to the same gateway until that is gone; a balancer leads a new one to another.
    """
    call, attempts = dialler.start(None), None
    for opening in range(1, OPENINGS_MAX + 1):
        try:
            return await open_on(call)
        except TrunklineError as refused:
            if opening == OPENINGS_MAX or not is_turned_away(refused):
                raise
            attempts = attempts or attempts_after(refused)
        await call.aclose()
        call = await _started(dialler, attempts)
    raise AssertionError("the last opening returns or raises")


async def _started(dialler: AsyncDialler, attempts: Attempts) -> AsyncCall:
    """Return a stream over a connection of its own."""
    while True:
        attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
        await asyncio.sleep(attempt.pause_seconds)
        try:
            channel, _ = await dialler.dial(attempt)
        except TrunklineError as failure:
            attempts.fail(failure)
        else:
            return await dialler.started(channel)
