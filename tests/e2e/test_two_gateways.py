"""A reservation that was made at one gateway and is shown at another."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import types_pb2 as types

from gateway.simulator import Simulator
from tests.support.processes import UNLIMITED
from tests.support.redis_server import redis_server
from tests.support.stack import Running, caller_settings, gateway_on, pool, simulator
from tests.support.steering import Operator, Reserver
from tests.support.waiting import eventually

POOLS: dict[str, Any] = {"default": pool(floor=1, ceiling=2, wait_max_ms=3000, demand={"enabled": False})}


@contextlib.asynccontextmanager
async def two_gateways(**changes: Any) -> AsyncIterator[tuple[Running, Running, Simulator]]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        server = stack.enter_context(redis_server(folder))
        sim = await stack.enter_async_context(simulator())
        here, there = [
            await stack.enter_async_context(gateway_on(sim.url, **{"pools": POOLS, **server.settings, **changes}))
            for _ in range(2)
        ]
        for each in (here, there):
            await each.until_warm(1)
        yield here, there, sim


async def test_a_token_opens_a_warm_line_at_another_gateway_once_and_is_released_at_home() -> None:
    async with two_gateways() as (here, there, _):
        made = await Reserver(here.channel).acquire()
        opened = await there.caller().open(lease_token=made.lease_token)
        assert (opened.source, opened.waited_ms) == (types.LINE_SOURCE_WARM, 0)
        await eventually(lambda: here.pool().reserved == 0, "it is released at home", seconds=3)
        assert await Operator(here.channel).leases() == []
        for each in (here, there):
            status = await each.caller().refused(lease_token=made.lease_token)
            assert (status.code, status.reason) == (grpc.StatusCode.ABORTED, "LEASE_ENDED")


async def test_a_token_shown_at_two_gateways_at_once_opens_one_session() -> None:
    async with two_gateways() as (here, there, _):
        for _ in range(5):
            made = await Reserver(here.channel).acquire()
            callers = [each.caller() for each in (here, there)]

            async def attempt(caller: Any, token: str) -> str:
                try:
                    return types.LineSource.Name((await caller.open(lease_token=token)).source)
                except AssertionError:
                    return str((await caller.status()).reason)

            found = await asyncio.gather(*(attempt(each, made.lease_token) for each in callers))
            assert sorted(found) == ["LEASE_ENDED", "LINE_SOURCE_WARM"]
            for each in callers:
                each.cancel()
            for gateway in (here, there):
                await gateway.until_free()
                await gateway.until_warm(1)


async def test_a_release_at_another_gateway_frees_the_unit_at_home() -> None:
    async with two_gateways() as (here, there, sim):
        made = await Reserver(here.channel).acquire()
        assert [await Reserver(there.channel).release(made.lease_token) for _ in range(2)] == [True, False]
        await eventually(lambda: here.pool().reserved == 0, "it is released at home", seconds=3)
        assert all(each["state"] == "open" for each in sim.connections())


async def test_a_reservation_is_kept_alive_through_any_gateway() -> None:
    async with two_gateways() as (here, there, _):
        made = await Reserver(here.channel).acquire(ttl_seconds=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < 2.2:
            assert await Reserver(there.channel).keep_alive(made.lease_token) == [(made.lease_id, 1)]
            await asyncio.sleep(0.3)
        assert here.pool().reserved == 1
        opened = await here.caller().open(lease_token=made.lease_token)
        assert opened.source == types.LINE_SOURCE_WARM


@pytest.mark.parametrize("who", ["home", "elsewhere"])
async def test_an_expired_token_is_refused_everywhere(who: str) -> None:
    async with two_gateways() as (here, there, _):
        made = await Reserver(here.channel).acquire(ttl_seconds=1)
        await eventually(lambda: here.pool().reserved == 0, "it expires", seconds=3)
        await asyncio.sleep(0.2)  # the book's own clock
        status = await (here if who == "home" else there).caller().refused(lease_token=made.lease_token)
        assert (status.code, status.reason) == (grpc.StatusCode.ABORTED, "LEASE_ENDED")


async def test_a_tenant_is_held_to_its_limit_over_both_gateways(tmp_path: Path) -> None:
    callers = [
        caller_settings(tmp_path, f"{name}-token", "converse", name=name, tenant=name) for name in ("acme", "globex")
    ]
    accounts = {"main": {**UNLIMITED["main"], "tenant_lines_max": 2}}
    async with two_gateways(callers=callers, accounts=accounts, pools={"default": pool(floor=1, ceiling=4)}) as (
        here,
        there,
        _,
    ):
        for each in (here, there):
            await each.caller("acme-token").open()
        await asyncio.sleep(1.5)  # each has heard of the other
        for each in (here, there):
            status = await each.caller("acme-token").refused()
            assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
            numbers = status.detail(errors.PoolNumbers)
            assert numbers is not None
            assert (numbers.scope, numbers.total) == ("tenant", 2)
            await each.caller("globex-token").open()
        here.callers[0].cancel()
        await eventually(lambda: here.pool().leased == 1, "it has hung up", seconds=3)
        await asyncio.sleep(1.5)
        await there.caller("acme-token").open()
