"""Redis is killed under load and comes back empty: nobody is refused, nobody is cut, and the places add up again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import pytest
from trunkline.v1 import event_pb2 as event

from gateway.store.keys import account_keys
from tests.support.calls import Caller
from tests.support.fleet import Fleet, fleet
from tests.support.load import load, median_ms, outcomes
from tests.support.processes import on_linux
from tests.support.redis_server import RedisServer
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.tools import tool

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(150)]

GATEWAYS, CAP, FLOOR = 2, 40, 6
CALLS_EACH, CALLS_PER_SECOND = 5, 6.0
CALM_SECONDS = 8.0
# An event on the control lane may be held for so long while nobody knows that the store is gone.
HOLD_SECONDS = 0.25
ACCOUNTS: Final = {"main": {"connections_max": CAP, "dials_per_second": 50, "dials_burst": 20}}
# Within what each gateway may hold by itself: its part of the cap.
POOLS: Final = {
    "default": pool(floor=FLOOR, ceiling=CAP // GATEWAYS - 1, dials_max=8, wait_max_ms=2000, demand={"enabled": False})
}


class Talk:
    """A call that goes on: question, answer at the pace of speech, question, …; every message has its time."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._now = asyncio.get_running_loop().time
        self.times: list[float] = []
        self.controls: list[float] = []
        self.answers = 0

    async def run(self) -> None:
        while True:
            await self._caller.say("Tell me about the history of the telephone.")
            await self._caller.answer_please()
            while (message := await self._caller.read()) is not None:
                self.times.append(self._now())
                if message.seq:
                    self.controls.append(self._now())
                if message.WhichOneof("message") == "response_done":
                    assert message.response_done.status == event.RESPONSE_STATUS_COMPLETED
                    self.answers += 1
                    break
            if message is None:
                raise AssertionError(f"it was cut: {await self._caller.status()}")
            self._caller.seen.clear()

    def gap(self, since: float, until: float) -> float:
        """The longest time in which nothing came."""
        times = [since, *(each for each in self.times if since <= each < until), until]
        return max(later - earlier for earlier, later in pairwise(times))


@contextlib.asynccontextmanager
async def talks(channels: Sequence[Any]) -> AsyncIterator[list[Talk]]:
    """Hold calls; any that ends fails the test."""
    async with asyncio.TaskGroup() as group:
        callers = [Caller(channel, deadline_seconds=140) for channel in channels for _ in range(CALLS_EACH)]
        for each in callers:
            await each.open()
        made = [Talk(each) for each in callers]
        tasks = [group.create_task(each.run()) for each in made]
        yield made
        for task in tasks:
            task.cancel()
        for each in callers:
            each.cancel()


def counted(server: RedisServer) -> Iterator[int]:
    """What each gateway says it holds, as Redis has it."""
    with server.client() as client:
        fields: Any = client.hgetall(account_keys("main").counts)
    for raw in fields.values():
        leased, warm, spare, *_ = raw.split()
        yield int(leased) + int(warm) + int(spare)


async def agreed(running: Fleet, operators: Sequence[Operator], seconds: float) -> tuple[list[int], int]:
    """Wait until the provider's sockets, the pools' lines and the places in Redis are the same number."""
    async with asyncio.timeout(seconds):
        while True:
            places = sorted(await asyncio.to_thread(lambda: list(counted(running.redis))))
            pools = [await each.pool() for each in operators]
            lines = sorted(each.dialling + each.warm + each.leased + each.draining for each in pools)
            sockets = (await asyncio.to_thread(running.provider.observe))["totals"]["open"]
            if places == lines and sum(places) == sockets:
                return places, sockets
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seconds", [10, 30])
async def test_nobody_is_refused_or_cut_while_redis_is_dead_and_the_places_agree_when_it_is_back(seconds: int) -> None:
    assert tool("redis-server")
    with fleet(GATEWAYS, {"speed": 1.0}, pools=POOLS, accounts=ACCOUNTS) as running:
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(channel_to(each)) for each in running.addresses]
            operators = [Operator(each) for each in channels]
            await agreed(running, operators, 20)
            now = asyncio.get_running_loop().time
            async with talks(channels) as calls:
                async with load(channels, CALLS_PER_SECOND) as callers:
                    began = now()
                    await asyncio.sleep(CALM_SECONDS)
                    killed_at = now()
                    await asyncio.to_thread(running.redis.kill)
                    await asyncio.sleep(seconds)
                    await asyncio.to_thread(running.redis.start)
                    back_at = now()
                    await asyncio.sleep(4)
                ended_at = now()
                places, sockets = await agreed(running, operators, 20)
                agreed_at = now()
            calm, dead = callers.between(began, killed_at), callers.between(killed_at, back_at)
            calm_gap = max(each.gap(began, killed_at) for each in calls)
            dead_gap = max(each.gap(killed_at, ended_at) for each in calls)
            figures(
                "redis killed",
                seconds=seconds,
                opens=len(callers.came),
                calm=outcomes(calm),
                dead=outcomes(dead),
                after=outcomes(callers.between(back_at, ended_at)),
                open_ms_calm=median_ms(calm),
                open_ms_dead=median_ms(dead),
                calls=len(calls),
                answers=sum(each.answers for each in calls),
                controls_while_dead=sum(killed_at <= at < back_at for each in calls for at in each.controls),
                gap_calm_ms=round(calm_gap * 1000),
                gap_dead_ms=round(dead_gap * 1000),
                places=places,
                sockets=sockets,
                agreed_after_s=round(agreed_at - back_at, 1),
            )
            assert {each.outcome for each in callers.came} <= {"WARM", "WAITED"}
            assert dead_gap <= calm_gap + HOLD_SECONDS + 0.25
            assert all(any(killed_at <= at < back_at for at in each.controls) for each in calls)
