"""Callers that come at a steady pace, open, hold one turn and leave; and how long each of these took."""

import asyncio
import contextlib
import gc
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import grpc
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc

from tests.support.stack import channel_to

CALL_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 20.0
# So often a caller comes on a connection of its own.
FRESH_EVERY: Final = 4
_OPEN: Final = session.ConverseRequest(open=session.Open())
_TEXT: Final = session.ConverseRequest(control=control.Control(text=control.TextInput(text="Hello there")))
_ANSWER: Final = session.ConverseRequest(
    control=control.Control(create_response=control.CreateResponse(output_modality=control.OUTPUT_MODALITY_TEXT))
)
_BYE: Final = session.ConverseRequest(bye=session.Bye(now=True))


@dataclass(frozen=True)
class Talk:
    """One caller: when it came, how long `opened` and its answer took, or why there was none."""

    came_at: float
    open_ms: float = math.inf
    turn_ms: float = math.inf
    trouble: str = ""
    # Whether it had a connection of its own.
    fresh: bool = False


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


@dataclass
class Talks:
    """What is known of all of them."""

    had: list[Talk] = field(default_factory=list)

    def between(self, since: float, until: float) -> list[Talk]:
        return [each for each in self.had if since <= each.came_at < until]


def troubles(talks: Sequence[Talk]) -> dict[str, int]:
    return dict(Counter(each.trouble for each in talks if each.trouble))


@contextlib.asynccontextmanager
async def talking(
    address: str,
    per_second: float,
    token: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    fresh_every: int = FRESH_EVERY,
) -> AsyncIterator[Talks]:
    """Let callers come until the block ends. Our own garbage collector keeps quiet meanwhile.

    Each `fresh_every`th has a connection of its own, 0 = none; the others share one.
    """
    talks, calls, shared = Talks(), set[asyncio.Task[None]](), channel_to(address, credentials)

    async def one(number: int) -> None:
        fresh = bool(fresh_every) and number % fresh_every == 0
        channel = channel_to(address, credentials) if fresh else shared
        try:
            talks.had.append(replace(await _talk(channel, token), fresh=fresh))
        finally:
            if channel is not shared:
                await channel.close()

    async def come() -> None:
        began, number = time.monotonic(), 0
        while True:
            task = asyncio.create_task(one(number))
            calls.add(task)
            task.add_done_callback(calls.discard)
            number += 1
            await asyncio.sleep(began + number / per_second - time.monotonic())

    coming = asyncio.create_task(come())
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield talks
    finally:
        gc.enable()
        gc.unfreeze()
        coming.cancel()
        async with asyncio.timeout(DRAIN_SECONDS):
            await asyncio.gather(*calls)
        await shared.close()


async def _talk(channel: grpc.aio.Channel, token: str) -> Talk:
    came_at = time.monotonic()
    open_ms = math.inf
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    call: Any = session_pb2_grpc.SessionServiceStub(channel).Converse(timeout=CALL_SECONDS, metadata=metadata)
    try:
        await call.write(_OPEN)
        await _until(call, "opened")
        opened_at = time.monotonic()
        open_ms = (opened_at - came_at) * 1000
        await call.write(_TEXT)
        await call.write(_ANSWER)
        await _until(call, "response_done")
        turn_ms = (time.monotonic() - opened_at) * 1000
        await call.write(_BYE)
        await _until(call, "")
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, EOFError):
        status = await call.code()
        return Talk(came_at, open_ms, trouble=f"{status.name}: {await call.details()}")
    return Talk(came_at, open_ms, turn_ms)


async def _until(call: Any, kind: str) -> None:
    """Read until a message of a kind; "" = to the end of the call, which is an end too early for any other kind."""
    while (message := await call.read()) is not grpc.aio.EOF:
        if message.WhichOneof("message") == kind:
            return
    if kind:
        raise EOFError
