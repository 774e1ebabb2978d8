"""Five hundred callers in one moment: the warm ones at once, the rest in the order in which they came."""

import asyncio
import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.runtime.lease import Wish
from tests.support.calls import Caller
from tests.support.dials import watched
from tests.support.simulated import simulated_provider
from tests.support.slots import figures
from tests.support.stack import Running, channel_to, gateway_on, pool
from tests.support.waiting import eventually

CALLERS, WARM, DIALS_MAX = 500, 64, 16
CALLS = 100


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


async def opened_in_time(caller: Caller) -> session.Opened:
    async with asyncio.timeout(40):
        while (message := await caller.read()) is not None:
            if message.WhichOneof("message") == "opened":
                return message.opened
    raise AssertionError(await caller.status())


def together(running: Running, callers: int) -> None:
    """Let callers ask only when all of them are there: on a busy machine their messages come over seconds."""
    chosen: Any = running.gateway.pools["default"]
    acquire, everybody = chosen._acquire, asyncio.Barrier(callers)

    async def acquire_together(wish: Wish) -> Any:
        async with asyncio.timeout(40):
            await everybody.wait()
        return await acquire(wish)

    chosen._acquire = acquire_together


async def _burst(callers: int, warm: int, dials_max: int) -> None:
    pools = {
        "default": pool(
            floor=warm,
            ceiling=callers + 2 * warm + 12,
            dials_max=dials_max,
            waiters_max=callers,
            wait_max_ms=30_000,
            demand={"enabled": False},
        )
    }
    # 100 to 300 ms until a line has its session.
    faults = ["connect-delay:ms=200,probability=0.5"]
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        sim = stack.enter_context(simulated_provider(folder, created_delay_ms=100, faults=faults))
        limits = {"drain_seconds": 0.5, "sessions_max": 1000}
        running = await stack.enter_async_context(gateway_on(sim.url, pools=pools, limits=limits))
        await running.until_warm(warm)
        before = (await asyncio.to_thread(sim.observe))["totals"]["accepted"]
        dials = watched(running)
        # One connection carries so many calls at most.
        channels = [await stack.enter_async_context(channel_to(running.address)) for _ in range(0, callers, CALLS)]
        each = [Caller(channels[number // CALLS]) for number in range(callers)]
        running.callers += each
        together(running, callers)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(caller.send(open=session.Open()) for caller in each))
        opened = await asyncio.gather(*(opened_in_time(caller) for caller in each))
        lasted = loop.time() - began
        sources = Counter(types.LineSource.Name(one.source) for one in opened)
        waits = [one.waited_ms / 1000 for one in opened if one.source == types.LINE_SOURCE_WAITED]
        dial_p99, wait_p99 = percentile(dials.seconds, 0.99), percentile(waits, 0.99)
        bound = (len(waits) / dials_max + 1) * dial_p99
        await eventually(lambda: running.pool().ready == warm and not running.pool().dialling, "the floor is back")
        dialled = (await asyncio.to_thread(sim.observe))["totals"]["accepted"] - before
        figures(
            "burst",
            n=callers,
            sources=dict(sources),
            lasted_s=round(lasted, 2),
            wait_p50_s=round(percentile(waits, 0.5), 3),
            wait_p99_s=round(wait_p99, 3),
            bound_s=round(bound, 3),
            dial_p50_s=round(percentile(dials.seconds, 0.5), 3),
            dial_p99_s=round(dial_p99, 3),
            dials_n=len(dials.seconds),
            dials_at_once=dials.highest,
            dialled=dialled,
            given_up=dials.failed.total(),
            told=sum(len(caller.all("queued")) for caller in each),
        )
        assert sources == {"LINE_SOURCE_WARM": warm, "LINE_SOURCE_WAITED": callers - warm}
        assert dials.granted == sorted(dials.granted)
        assert len(dials.granted) == callers
        for caller in each:
            places = [queued.position for queued in caller.all("queued")]
            assert all(later < earlier for earlier, later in pairwise(places)), places
        assert sum(bool(caller.all("queued")) for caller in each) == callers - warm
        assert dials.highest <= dials_max
        assert dials.beyond <= 0
        # One for each who waited, one for each line of the floor, and none but in place of one that hung.
        assert callers <= dialled <= callers + dials.failed.total()
        assert wait_p99 <= bound


async def test_forty_callers_on_eight_warm_lines_are_served_in_the_order_in_which_they_came() -> None:
    await _burst(40, 8, 4)


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_five_hundred_callers_on_sixty_four_warm_lines_are_served_in_the_order_in_which_they_came() -> None:
    await _burst(CALLERS, WARM, DIALS_MAX)
