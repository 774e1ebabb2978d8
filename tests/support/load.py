"""Callers that come at a steady pace, each for a moment, and what became of each."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller

DRAIN_SECONDS = 20.0


@dataclass(frozen=True)
class Came:
    """One caller: when it asked, and how it was answered."""

    asked_at: float
    seconds: float
    # WARM, WAITED, or the reason of the refusal.
    outcome: str
    waited_ms: int


@dataclass
class Load:
    """What is known of all of them."""

    came: list[Came] = field(default_factory=list)

    def between(self, since: float, until: float) -> list[Came]:
        return [each for each in self.came if since <= each.asked_at < until]


def outcomes(came: Sequence[Came]) -> dict[str, int]:
    return dict(Counter(each.outcome for each in came))


def median_ms(came: Sequence[Came]) -> float:
    ordered = sorted(each.seconds for each in came)
    return round(ordered[len(ordered) // 2] * 1000, 1) if ordered else 0.0


@contextlib.asynccontextmanager
async def load(channels: Sequence[grpc.aio.Channel], per_second: float) -> AsyncIterator[Load]:
    """Let callers come until the block ends, to each channel in turn; then wait for the last of them."""
    made, loop = Load(), asyncio.get_running_loop()
    calls = set[asyncio.Task[None]]()

    async def one(channel: grpc.aio.Channel) -> None:
        caller, asked_at = Caller(channel), loop.time()
        await caller.send(open=session.Open())
        while (message := await caller.read()) is not None:
            if message.WhichOneof("message") == "opened":
                break
        seconds = loop.time() - asked_at
        if message is None:
            made.came.append(Came(asked_at, seconds, (await caller.status()).reason, 0))
            return
        outcome = types.LineSource.Name(message.opened.source).removeprefix("LINE_SOURCE_")
        made.came.append(Came(asked_at, seconds, outcome, message.opened.waited_ms))
        await caller.bye(now=True)
        await caller.rest()

    async def come() -> None:
        began, number = loop.time(), 0
        while True:
            task = asyncio.create_task(one(channels[number % len(channels)]))
            calls.add(task)
            number += 1
            await asyncio.sleep(began + number / per_second - loop.time())

    coming = asyncio.create_task(come())
    try:
        yield made
    finally:
        coming.cancel()
        async with asyncio.timeout(DRAIN_SECONDS):
            await asyncio.gather(*calls)
