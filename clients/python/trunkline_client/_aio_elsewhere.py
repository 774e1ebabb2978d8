"""How an `open` on asyncio finds a gateway that stays, where the first one goes away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from grpc import aio

from trunkline_client._aio_call import AsyncCall
from trunkline_client._aio_dialling import AsyncDialler
from trunkline_client._resume import OPENINGS_MAX, OpeningAttempts
from trunkline_client.errors import TrunklineError


async def open_somewhere(
    dialler: AsyncDialler,
    open_on: Callable[[aio.Channel | None], Awaitable[AsyncCall]],
    is_turned_away: Callable[[TrunklineError], bool],
    attempts: OpeningAttempts,
) -> AsyncCall:
    """Open where all calls go (None), or over connections of its own where that gateway goes away.

    A connection that stands leads to the same gateway until that is gone; a balancer leads a new one to another.
    Bounded by its caller. Raises TIMED_OUT, with the last cause, if none can be found in time.
    """
    own = None
    for opening in range(1, OPENINGS_MAX + 1):
        try:
            return await open_on(own)
        except TrunklineError as refused:
            if opening == OPENINGS_MAX or not is_turned_away(refused):
                raise
            attempts.turn_away(refused)
        own = await _dialled(dialler, attempts)
    raise AssertionError("the last opening returns or raises")


async def _dialled(dialler: AsyncDialler, attempts: OpeningAttempts) -> aio.Channel:
    """Return a connection of its own."""
    while True:
        attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
        await asyncio.sleep(attempt.pause_seconds)
        try:
            return (await dialler.dial(attempt))[0]
        except TrunklineError as failure:
            attempts.fail(failure)
