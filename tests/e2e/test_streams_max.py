"""One connection carries so many streams at once; the next one waits for a place, and takes nobody's."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.rpc.server import ServerOptions
from tests.support.stack import channel_to, pool, stack

STREAMS_MAX: Final = ServerOptions("", 1).streams_max
POOLS: Final = {"default": pool(floor=1, ceiling=2, demand={"enabled": False})}
SECONDS: Final = 10.0


def health(channel: grpc.aio.Channel) -> Any:
    """Anybody may watch it, for as long as he likes. (The types of the stub do not know that.)"""
    return health_pb2_grpc.HealthStub(channel)


async def first_word(call: Any) -> None:
    async with asyncio.timeout(SECONDS):
        assert isinstance(await anext(aiter(call)), health_pb2.HealthCheckResponse)


async def test_a_stream_too_many_on_one_connection_waits_for_the_end_of_another() -> None:
    async with stack(pools=POOLS) as (running, _), AsyncExitStack() as left:
        await running.until_warm(1)
        stub = health(running.channel)
        calls = list[Any]()

        def watch() -> "asyncio.Future[None]":
            calls.append(stub.Watch(health_pb2.HealthCheckRequest()))
            left.callback(calls[-1].cancel)
            return asyncio.ensure_future(first_word(calls[-1]))

        await asyncio.gather(*(watch() for _ in range(STREAMS_MAX)))
        late = watch()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 0.5)
        # Another connection is none the worse.
        async with channel_to(running.address) as channel:
            await first_word(health(channel).Watch(health_pb2.HealthCheckRequest()))
        calls[0].cancel()
        await late
