"""What operators do to a pool while callers use it."""

import asyncio

import grpc
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.stack import pool, stack
from tests.support.steering import Operator, Reserver, refusal_by
from tests.support.waiting import eventually

STILL = {"default": pool(floor=2, ceiling=4, wait_max_ms=5000, demand={"enabled": False})}
FULL = {"default": pool(floor=1, ceiling=1, wait_max_ms=5000, demand={"enabled": False})}


async def still_answers(caller: Caller) -> None:
    await caller.answer_please()
    assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def test_a_paused_pool_refuses_newcomers_with_numbers_and_lets_the_others_be() -> None:
    async with stack(pools=STILL) as (running, provider):
        await running.until_warm(2)
        operator = Operator(running.channel)
        talking = running.caller()
        await talking.open()
        made = await Reserver(running.channel).acquire()
        shown = await operator.pause()
        assert (shown.paused, shown.is_draining, shown.leased) == (True, False, 1)
        status = await running.caller().refused()
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "POOL_PAUSED")
        assert status.info.metadata["retryable"] == "true"
        assert status.numbers is not None
        assert (status.numbers.scope, status.numbers.pool, status.numbers.leased) == ("pool", "default", 1)
        assert status.retry_seconds
        # What was promised before is kept, and the shelf stays full.
        await still_answers(talking)
        assert (await running.caller().open(lease_token=made.lease_token)).source == types.LINE_SOURCE_WARM
        await running.until_warm(2)
        before = len(provider.connections())
        assert not (await operator.unpause()).paused
        assert (await running.caller().open()).source == types.LINE_SOURCE_WARM
        assert before == 4


async def test_who_waits_already_is_served_in_spite_of_a_pause() -> None:
    async with stack(pools=FULL) as (running, _):
        holder, waiter = running.caller(), running.caller()
        await holder.open()
        await waiter.send(open=session.Open())
        await waiter.until("queued")
        await Operator(running.channel).pause()
        await holder.bye()
        assert (await waiter.until("opened")).source == types.LINE_SOURCE_WAITED
        assert (await running.caller().refused()).reason == "POOL_PAUSED"


async def test_a_drained_pool_closes_its_idle_lines_and_lets_calls_finish() -> None:
    async with stack(pools=STILL) as (running, provider):
        await running.until_warm(2)
        operator, reserver = Operator(running.channel), Reserver(running.channel)
        talking = running.caller()
        await talking.open()
        made = await reserver.acquire()
        shown = await operator.drain()
        assert (shown.is_draining, shown.warm, shown.leased, shown.floor) == (True, 0, 1, 0)
        await eventually(lambda: running.pool().total == 1, "the idle lines are closed")
        await eventually(
            lambda: sum(each["state"] == "open" for each in provider.connections()) == 1, "at the provider too"
        )
        status = await running.caller().refused()
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert (await refusal_by(reserver.acquire)).reason == "DRAINING"
        assert (await running.caller().refused(lease_token=made.lease_token)).reason == "LEASE_ENDED"
        assert len(await operator.leases()) == 1
        await still_answers(talking)
        await talking.bye()
        await talking.rest()
        assert talking.all("closed")[0].reason == event.CLOSED_REASON_BYE
        await eventually(lambda: running.pool().total == 0, "nothing is left")
        await operator.unpause()
        await running.until_warm(2)
        assert (await running.caller().open()).source == types.LINE_SOURCE_WARM


async def test_who_waits_when_a_pool_is_drained_is_told_at_once() -> None:
    async with stack(pools=FULL) as (running, _):
        await running.caller().open()
        waiter = running.caller()
        await waiter.send(open=session.Open())
        await waiter.until("queued")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await Operator(running.channel).drain()
        await waiter.rest()
        assert (await waiter.status()).reason == "DRAINING"
        assert loop.time() - began < 1.0
        assert running.pool().waiting == 0


async def test_lines_of_the_newest_template_are_not_retired_and_an_unknown_version_is_refused() -> None:
    async with stack(pools=STILL) as (running, provider):
        await running.until_warm(2)
        operator = Operator(running.channel)
        assert await operator.retire() == 0
        assert await operator.retire("") == 0
        assert await operator.retire(below_version=(await operator.pool()).template_version) == 0
        assert (await refusal_by(operator.retire, below_version="0123")).reason == "INVALID_FRAME"
        assert len(provider.connections()) == 2


async def test_a_pool_that_is_not_there_is_named_with_those_that_are() -> None:
    async with stack(pools=STILL) as (running, _):
        operator = Operator(running.channel)
        for act in (operator.pause, operator.unpause, operator.drain, operator.retire):
            status = await refusal_by(act, "nonesuch")
            assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TEMPLATE")
            assert "default" in status.text


async def test_a_full_queue_is_refused_with_how_full_it_is_and_when_to_come_back() -> None:
    pools = {"default": pool(floor=1, ceiling=2, waiters_max=3, wait_max_ms=5000, demand={"enabled": False})}
    async with stack(pools=pools) as (running, _):
        holders = [running.caller() for _ in range(2)]
        for each in holders:
            await each.open()
        waiters = [running.caller() for _ in range(3)]
        for place, each in enumerate(waiters, start=1):
            await each.send(open=session.Open())
            assert (await each.until("queued")).position == place
        for refused in (running.caller().refused(), refusal_by(Reserver(running.channel).acquire)):
            status = await refused
            assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert status.numbers == errors.PoolNumbers(scope="pool", pool="default", total=2, leased=2, waiting=3)
            assert status.retry_seconds is not None
            assert 0 < status.retry_seconds < 60
        waiters[1].cancel()
        await waiters[2].until("queued")
        assert [each.position for each in waiters[2].all("queued")] == [3, 2]


async def test_who_waits_when_the_gateway_goes_away_is_sent_elsewhere_at_once_and_who_talks_may_finish() -> None:
    limits = {"drain_seconds": 10}
    async with stack(pools=FULL, limits=limits) as (running, _):
        talking, waiter = running.caller(), running.caller()
        await talking.open()
        await waiter.send(open=session.Open())
        await waiter.until("queued")
        reserving = asyncio.create_task(refusal_by(Reserver(running.channel).acquire, wait_max_ms=5000))
        await eventually(lambda: running.pool().waiting == 2, "both wait")
        loop = asyncio.get_running_loop()
        began = loop.time()
        running.stop.set()
        await waiter.rest()
        for status in (await waiter.status(), await reserving):
            assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert loop.time() - began < 1.0
        await still_answers(talking)
        await talking.bye()
        await talking.rest()
        assert talking.all("closed")[0].reason == event.CLOSED_REASON_BYE
