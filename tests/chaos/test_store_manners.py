"""The store is slow, frozen, killed or emptied under running calls: no audio waits, no tool call is late, nothing is
lost in silence."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import types_pb2 as types

from gateway.simulator import speech
from gateway.store.options import RedisOptions
from tests.support.calls import Caller
from tests.support.processes import on_linux, process_stack
from tests.support.proxy import Route, route_to
from tests.support.redis_server import RedisServer, plain_redis
from tests.support.simulated import simulated_provider
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.store_calls import Call, ToolCall, held, missing

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(300)]

FLOOR: Final = 6
SILENCE: Final = bytes(48_000)
POOLS: Final = {
    "default": pool(floor=FLOOR, ceiling=40, dials_max=8, demand={"enabled": False}),
    "paced": pool(floor=4, ceiling=8),
}


@dataclass
class Stand:
    """A gateway whose way to Redis is in the test's hand."""

    redis: RedisServer
    route: Route
    address: str


@contextlib.asynccontextmanager
async def stand(first_audio_ms: int = 0) -> AsyncIterator[Stand]:
    """Run it. Template `default` is answered after that time and at once, `paced` at the pace of speech."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(plain_redis())
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp"))) for _ in range(2)]
        instant = stack.enter_context(simulated_provider(folders[0], first_audio_ms=first_audio_ms))
        paced = stack.enter_context(simulated_provider(folders[1], speed=1.0))
        async with route_to(f"127.0.0.1:{redis.port}") as route:
            changes = {
                "redis": {"url": f"redis://{route.address}"},
                "store": redis.settings["store"],
                "targets": {"openai": {"url": instant.url}, "paced": {"url": paced.url}},
                "templates": {"default": {}, "paced": {"target": "paced"}},
                "pools": POOLS,
            }
            # In a thread: the route is carried by this loop.
            gateway = process_stack(**changes)
            running = await asyncio.to_thread(gateway.__enter__)
            try:
                yield Stand(redis, route, running.address)
            finally:
                await asyncio.to_thread(gateway.__exit__, None, None, None)


# Slow.

ROUNDS, CALLS_EACH = 6, 8
# One call after the other, at a pace at which both samples find the machine equally awake.
CALL_EVERY_SECONDS: Final = 0.6
NOISE: Final = 1.1
# What a busy machine adds to one sample and not to the other. Who waits for the store waits a hundred times as long.
NOISE_MS: Final = 1.0


class Sample:
    """What callers waited for, in milliseconds."""

    def __init__(self) -> None:
        self.opens = list[float]()
        self.first_audios = list[float]()

    async def take(self, channel: grpc.aio.Channel, pcm: bytes) -> None:
        """Open a warm line, say something, and hear when the answer begins, which voice detection asks for."""
        now, operator = asyncio.get_running_loop().time, Operator(channel)
        began = now()
        for number in range(CALLS_EACH):
            await until_warm(operator)
            await asyncio.sleep(began + number * CALL_EVERY_SECONDS - now())
            caller, asked = Caller(channel), now()
            opened = await caller.open()
            self.opens.append((now() - asked) * 1000)
            assert opened.source == types.LINE_SOURCE_WARM
            # Nothing is dialled while it is listened for.
            await until_warm(operator)
            await caller.speak(pcm)
            said = now()
            await caller.speak(SILENCE)
            await caller.until("audio")
            self.first_audios.append((now() - said) * 1000)
            await caller.bye(now=True)
            await caller.rest()


@pytest.mark.parametrize("round_trip_seconds", [0.15, 0.5])
async def test_no_open_and_no_first_audio_waits_for_a_slow_store(round_trip_seconds: float) -> None:
    pcm, slow, calm = speech.questions()[1].pcm, Sample(), Sample()
    async with stand(first_audio_ms=100) as at, channel_to(at.address) as channel:
        await Sample().take(channel, pcm)
        for number in range(ROUNDS):
            # Neither of them always comes first.
            turns = ((slow, round_trip_seconds / 2), (calm, 0.0))
            for sample, delay_seconds in turns if number % 2 else turns[::-1]:
                at.route.heal()
                await until_stored(channel)
                # What follows at once is in the sample: the change itself must not be felt either.
                at.route.delay_seconds = delay_seconds
                await sample.take(channel, pcm)
    opens = [median(each.opens) for each in (slow, calm)]
    audios = [median(each.first_audios) for each in (slow, calm)]
    figures(
        "slow store",
        round_trip_ms=round(round_trip_seconds * 1000),
        n=len(slow.opens),
        open_p50_ms_slow_calm=[round(each, 2) for each in opens],
        open_p90_ms_slow_calm=[round(quantiles(each.opens, n=10)[8], 2) for each in (slow, calm)],
        first_audio_p50_ms_slow_calm=[round(each, 2) for each in audios],
        first_audio_p90_ms_slow_calm=[round(quantiles(each.first_audios, n=10)[8], 2) for each in (slow, calm)],
    )
    assert opens[0] <= NOISE * opens[1] + NOISE_MS
    assert audios[0] <= NOISE * audios[1]


async def until_warm(operator: Operator) -> None:
    async with asyncio.timeout(20):
        while (await operator.pool()).warm < FLOOR:  # noqa: ASYNC110 it is another process
            await asyncio.sleep(0.02)


async def until_stored(channel: grpc.aio.Channel) -> None:
    """Wait until events are stored before they are told."""
    async with asyncio.timeout(20):
        while True:
            caller = Caller(channel)
            opened = await caller.open()
            await caller.bye(now=True)
            await caller.rest()
            if opened.durability != types.DURABILITY_NONE:
                return
            await asyncio.sleep(0.05)


# Frozen, killed, emptied.

TOOL_CALLS, SPEECH_CALLS = 10, 3
CALM_SECONDS, AFTER_SECONDS = 4.0, 4.0
TOOL_CALL_MS = 300.0
# A busy machine; what waits for the store would wait for 250 ms.
GAP_SECONDS = 0.15


async def frozen(at: Stand) -> None:
    await asyncio.to_thread(at.redis.freeze)
    await asyncio.sleep(10)
    await asyncio.to_thread(at.redis.thaw)


async def killed(at: Stand) -> None:
    await asyncio.to_thread(at.redis.kill)
    await asyncio.sleep(30)
    await asyncio.to_thread(at.redis.start)


async def emptied(at: Stand) -> None:
    for _ in range(3):
        await asyncio.to_thread(at.redis.ask, "FLUSHALL")
        await asyncio.sleep(1)


@pytest.mark.parametrize("fault", [frozen, killed, emptied])
async def test_calls_go_on_and_nothing_is_lost_in_silence(fault: Callable[[Stand], Any]) -> None:
    now = asyncio.get_running_loop().time
    async with stand() as at, channel_to(at.address) as channel:
        tools = [ToolCall(channel) for _ in range(TOOL_CALLS)]
        spoken = [Call(channel, template="paced") for _ in range(SPEECH_CALLS)]
        calls = [*tools, *spoken]
        async with held(calls) as enough:
            began = now()
            await asyncio.sleep(CALM_SECONDS)
            struck_at = now()
            await fault(at)
            healed_at = now()
            await asyncio.sleep(AFTER_SECONDS)
            ended_at = now()
            enough.set()
            lost = await until_whole(at, calls)
        delays = [seconds * 1000 for each in tools for asked_at, seconds in each.delays if asked_at >= struck_at - 0.5]
        p99 = quantiles(delays, n=100)[98]
        calm_gap = max(each.audio_gap(began, struck_at) for each in spoken)
        gap = max(each.audio_gap(struck_at, ended_at) for each in spoken)
        figures(
            f"store {fault.__name__}",
            seconds=round(healed_at - struck_at, 1),
            calls=len(calls),
            turns=sum(each.turns for each in calls),
            tool_calls=len(delays),
            tool_call_p50_ms=round(median(delays), 1),
            tool_call_p99_ms=round(p99, 1),
            tool_call_max_ms=round(max(delays), 1),
            audio_gap_calm_ms=round(calm_gap * 1000),
            audio_gap_ms=round(gap * 1000),
            told=sorted({cause for each in calls for cause in each.causes()}),
            not_durable=sum(not durable for each in calls for durable in each.numbers.values()),
            named=sum(len(each.named_lost()) for each in calls),
            lost=sum(map(len, lost)),
        )
        assert p99 <= TOOL_CALL_MS
        assert gap <= calm_gap + GAP_SECONDS
        assert lost == [set()] * len(calls)


async def until_whole(at: Stand, calls: list[Call]) -> list[set[int]]:
    """Wait for what is stored late; return what is neither stored nor named after that."""
    options = RedisOptions(url=at.redis.url, deadline_seconds=2.0)
    lost = list[set[int]]()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while any(lost := await missing(options, calls)) or not lost:  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.2)
    return lost
