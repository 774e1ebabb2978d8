"""Calls that are in the middle of an answer while something happens to their gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tests.support.calls import Caller

PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def talking(channel: grpc.aio.Channel, calls: int, token: str = "") -> AsyncIterator[list[Caller]]:
    """Open so many calls; each of them has begun to hear an answer."""
    callers = [Caller(channel, token) for _ in range(calls)]
    try:
        for each in callers:
            each.patience_seconds = PATIENCE_SECONDS
            await each.open()
            await each.say("Tell me something long, please. " * 6)
            await each.answer_please()
        for each in callers:
            await each.until("audio")
        yield callers
    finally:
        for each in callers:
            each.cancel()


def heard_out(caller: Caller) -> bool:
    """Whether its answer has ended."""
    return "response_done" in caller.kinds()


async def finished(caller: Caller) -> tuple[bool, grpc.StatusCode]:
    """Hear the answer out and say goodbye; return whether the call was closed, and with which status."""
    await caller.until("response_done")
    await caller.bye()
    await caller.rest()
    return "closed" in caller.kinds(), (await caller.status()).code
