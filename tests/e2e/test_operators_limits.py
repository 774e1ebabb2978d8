"""An operator gives a pool other bounds while callers use it."""

import grpc
import pytest
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.stack import stack
from tests.support.steered import FULL, STILL, has_turn, queued
from tests.support.steering import Operator, refusal_by
from tests.support.waiting import eventually


async def test_each_bound_is_set_and_the_others_stay() -> None:
    async with stack(pools=STILL) as (running, _):
        await running.until_warm(2)
        operator, before = Operator(running.channel), running.gateway.pools["default"].limits
        wanted = {"floor": 3, "ceiling": 9, "dials_max": 2, "waiters_max": 1, "wait_max_ms": 700}
        expected = {name: getattr(before, name) for name in wanted}
        for name, value in wanted.items():
            await operator.set_limits("default", **{name: value})
            expected[name] = value
            limits = running.gateway.pools["default"].limits
            assert {each: getattr(limits, each) for each in expected} == expected
            assert limits.reserve == before.reserve
        shown = await operator.pool()
        assert (shown.floor, shown.ceiling) == (3, 9)
        await running.until_warm(3)


async def test_nothing_is_changed_where_nothing_is_said() -> None:
    async with stack(pools=STILL) as (running, _):
        before = running.gateway.pools["default"].limits
        await Operator(running.channel).set_limits()
        assert running.gateway.pools["default"].limits == before


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"ceiling": 0}, "ceiling must be at least 1"),
        ({"dials_max": 0}, "dials_max must be at least 1"),
        ({"wait_max_ms": 0}, "wait_max_ms must be at least 1"),
        ({"floor": 7}, "floor 7 + reserve 0 is over ceiling 6"),
        ({"ceiling": 1}, "floor 2 + reserve 0 is over ceiling 1"),
        ({"ceiling": 2001}, "connections_max"),
        ({"floor": 2**32 - 1, "ceiling": 2**32 - 1}, "connections_max"),
        ({"dials_max": 2**32 - 1}, "dials_max must be at most"),
        ({"waiters_max": 2**32 - 1}, "waiters_max must be at most"),
        ({"wait_max_ms": 2**32 - 1}, "wait_max_ms must be at most"),
        ({"floor": 3, "wait_max_ms": 0}, "wait_max_ms must be at least 1"),
    ],
)
async def test_bounds_that_cannot_be_are_refused_and_change_nothing(limits: dict[str, int], words: str) -> None:
    async with stack(pools=STILL) as (running, _):
        before = running.gateway.pools["default"].limits
        status = await refusal_by(Operator(running.channel).set_limits, "default", **limits)
        assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FRAME")
        assert words in status.text
        assert running.gateway.pools["default"].limits == before


async def test_limits_of_a_pool_that_is_not_there_are_refused() -> None:
    async with stack(pools=STILL) as (running, _):
        for name in ("nonesuch", ""):
            status = await refusal_by(Operator(running.channel).set_limits, name, floor=1)
            assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TEMPLATE")


async def test_a_lower_ceiling_closes_idle_lines_and_no_call() -> None:
    async with stack(pools=STILL) as (running, provider):
        await Operator(running.channel).set_limits(floor=4)
        await running.until_warm(4)
        callers = [running.caller() for _ in range(2)]
        for each in callers:
            await each.open()
        await running.until_warm(4)
        shown = await Operator(running.channel).set_limits(floor=0, ceiling=1)
        assert (shown.ceiling, shown.warm, shown.leased) == (1, 0, 2)
        await eventually(lambda: running.pool().total == 2, "the idle lines are closed")
        for each in callers:
            await has_turn(each)
        late = running.caller()
        await late.send(open=session.Open())
        await late.until("queued")
        for each in callers:
            await each.bye()
            await each.rest()
            assert each.all("closed")[0].reason == event.CLOSED_REASON_BYE
        assert (await late.until("opened")).source == types.LINE_SOURCE_WAITED
        assert sum(each["state"] == "open" for each in provider.connections()) <= 1


async def test_who_waits_is_served_as_soon_as_the_ceiling_is_higher() -> None:
    async with stack(pools=FULL) as (running, _):
        _, waiter = await queued(running)
        await Operator(running.channel).set_limits(ceiling=2)
        assert (await waiter.until("opened")).source == types.LINE_SOURCE_WAITED


async def test_a_shorter_queue_keeps_who_stands_in_it_and_refuses_the_next() -> None:
    async with stack(pools=FULL) as (running, _):
        holder, waiter = await queued(running)
        await Operator(running.channel).set_limits(waiters_max=0)
        assert (await running.caller().refused()).reason == "QUEUE_FULL"
        await holder.bye()
        assert (await waiter.until("opened")).source == types.LINE_SOURCE_WAITED
