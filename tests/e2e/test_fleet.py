"""Several gateways on one Redis behind a balancer that knows nothing: a token is honoured wherever it is shown."""

import asyncio
from collections import Counter

import grpc
import pytest
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.fleet import at_rest, fleet
from tests.support.processes import on_linux
from tests.support.proxy import random_proxy
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator, Reserver
from tests.support.tools import tool

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(200)]
PAIRS, AT_ONCE, GATEWAYS, WARM = 1000, 4, 3, 24


async def test_a_thousand_reservations_are_opened_warm_whichever_gateway_the_balancer_picks() -> None:
    assert tool("redis-server")
    pools = {"default": pool(floor=WARM, ceiling=120, dials_max=16, wait_max_ms=10_000, demand={"enabled": False})}
    with fleet(GATEWAYS, pools=pools) as running:
        async with random_proxy(running.addresses) as address:
            channels = [channel_to(each) for each in running.addresses]
            operators = [Operator(each) for each in channels]
            await at_rest(operators, WARM)
            sources, waits = Counter[str](), list[int]()
            waited = Counter[str]()
            ways, crossed = Counter[tuple[str, str]](), 0
            numbers = iter(range(PAIRS))

            async def pairs() -> None:
                nonlocal crossed
                for _ in numbers:
                    # A connection of its own for each half: the balancer draws twice.
                    async with channel_to(address) as ringing, channel_to(address) as talking:
                        made = await Reserver(ringing).acquire(ttl_seconds=30)
                        caller = Caller(talking)
                        opened = await caller.open(lease_token=made.lease_token)
                        await caller.bye(now=True)
                        await caller.rest()
                        assert (await caller.status()).code is grpc.StatusCode.OK
                    sources[types.LineSource.Name(opened.source)] += 1
                    waits.append(opened.waited_ms)
                    if opened.source != types.LINE_SOURCE_WARM:
                        waited["home" if made.owner_address == opened.owner_address else "elsewhere"] += 1
                    ways[made.owner_address, opened.owner_address] += 1
                    crossed += made.owner_address != opened.owner_address

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(pairs())
                await at_rest(operators, WARM)
                warm = sum([(await each.pool()).warm for each in operators])
                seen = await asyncio.to_thread(running.provider.observe)
            finally:
                for each in channels:
                    await each.close()
        figures(
            "reservations over gateways",
            n=PAIRS,
            gateways=GATEWAYS,
            sources=dict(sources),
            crossed=crossed,
            waited=dict(waited),
            ways=len(ways),
            waited_ms_max=max(waits),
            sockets=seen["totals"],
        )
        assert sources == {"LINE_SOURCE_WARM": PAIRS}
        assert len(ways) == GATEWAYS**2
        assert PAIRS / 2 < crossed < PAIRS * 5 / 6
        # Every socket that is open stands on a shelf, and every one that is not was opened by a caller; but for
        # dials that hung for a second on a busy machine and were tried anew.
        assert seen["totals"]["open"] == warm
        assert warm + PAIRS <= seen["totals"]["accepted"] <= warm + PAIRS * 1.01
