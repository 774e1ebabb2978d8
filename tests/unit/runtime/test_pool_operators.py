"""What operators do to a pool and see of it, and what a refused caller learns of the state that it found."""

import asyncio

import pytest

from gateway.core.errors import CapacityError, Reason, UpstreamError
from gateway.core.reservation import ReservationEvent
from tests.support.virtual_time import now, turns
from tests.unit.runtime.holders import IDENTITY, Holder, holding, wish
from tests.unit.runtime.stage import Stage


async def refused(holder: Holder) -> CapacityError:
    error = await holder.error()
    assert isinstance(error, CapacityError)
    return error


# Pause, drain.


async def test_a_paused_pool_refuses_new_callers_and_serves_those_who_wait() -> None:
    stage = Stage(floor=0)
    stage.exchange.may_answer.clear()
    waiting = Holder(stage)
    await turns(3)
    stage.pool.pause()
    assert stage.pool.stats().paused
    error = await refused(Holder(stage))
    assert (error.reason, error.retryable) == (Reason.POOL_PAUSED, True)
    assert "an operator has paused it" in error.message
    stage.exchange.may_answer.set()
    await waiting.has_line
    await waiting.end()
    await stage.everything_is_given_back()
    await stage.clear()


async def test_a_pause_ends(stage: Stage) -> None:
    await stage.warm()
    stage.pool.pause()
    stage.pool.unpause()
    holder = await holding(stage)
    await holder.end()
    assert stage.observer.results == ["hit"]


async def test_a_pause_of_one_template_leaves_the_others() -> None:
    stage = Stage(names=("default", "second"))
    await stage.warm()
    stage.pool.pause()
    assert (await refused(Holder(stage))).reason is Reason.POOL_PAUSED
    holder = await holding(stage, pool="second")
    await holder.end()
    await stage.everything_is_given_back()
    await stage.clear()


async def test_a_drain_of_one_template_leaves_the_others_and_ends() -> None:
    stage = Stage(names=("default", "second"))
    await stage.warm()
    await asyncio.sleep(0.5)
    stage.pool.drain()
    await turns(5)
    assert (stage.pool.stats().ready, stage.pools["second"].stats().ready) == (0, 1)
    stage.pool.unpause()
    await turns(10)
    assert stage.pool.stats().ready == 1
    await stage.clear()


async def test_lines_of_another_version_are_replaced_and_leased_ones_live_on() -> None:
    stage = Stage(floor=2)
    await stage.warm()
    await asyncio.sleep(6.0)
    holder = await holding(stage)
    await asyncio.sleep(0.5)
    before = list(stage.exchange.open_lines)
    stage.group.perform(stage.core.retire("default", "another", now()))
    await asyncio.sleep(1.0)
    assert stage.pool.stats().ready == 2
    assert len([line for line in before if line.is_open]) == 1
    assert holder.line is not None
    assert holder.line.upstream in before
    assert stage.pool.retire_outdated() == 0
    await holder.end()
    await stage.everything_is_given_back()
    await stage.clear()


# What is seen.


async def test_who_holds_a_line_is_seen_for_as_long_as_it_does(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    assert holder.line is not None
    (leased,) = stage.pool.leases.values()
    assert (leased, leased.holder) == (holder.line, IDENTITY)
    await holder.end()
    assert stage.pool.leases == {}


async def test_who_reserves_is_seen_for_as_long_as_it_does(stage: Stage) -> None:
    await stage.warm()
    first = await stage.pool.reserve(30.0, wish())
    second = await stage.pool.reserve(10.0, wish())
    seen = stage.pool.living_reservations()
    assert [(each.lease_id, each.pool, each.holder) for each in seen] == [
        (first.lease_id, "default", IDENTITY),
        (second.lease_id, "default", IDENTITY),
    ]
    assert [each.expires_at - each.granted_at for each in seen] == [30.0, 10.0]
    await asyncio.sleep(10.5)
    assert [each.lease_id for each in stage.pool.living_reservations()] == [first.lease_id]
    stage.pool.end_reservation(first.lease_id, ReservationEvent.RELEASED)
    assert stage.pool.living_reservations() == []
    assert stage.pool.reservations == {}


# What stood in the way.


async def test_a_caller_learns_that_every_line_is_in_use() -> None:
    stage = Stage(floor=0, ceiling=1)
    holder = await holding(stage)
    error = await refused(Holder(stage, wait_seconds=0.5))
    assert error.reason is Reason.POOL_EXHAUSTED
    assert "every line is in use" in error.message
    assert error.numbers is not None
    assert (error.numbers.scope, error.numbers.leased, error.numbers.total) == ("pool", 1, 1)
    await holder.end()
    await stage.clear()


async def test_a_caller_learns_that_the_account_has_no_place() -> None:
    stage = Stage(floor=0)
    stage.slots.refuse(Reason.POOL_EXHAUSTED, times=100)
    error = await refused(Holder(stage))
    assert error.numbers is not None
    assert (error.reason, error.numbers.scope) == (Reason.POOL_EXHAUSTED, "account")
    assert "the account has no place" in error.message
    await stage.clear()


@pytest.mark.parametrize("reason", [Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_REFUSED_KEY])
async def test_a_caller_learns_what_dialling_last_failed_with(reason: Reason) -> None:
    stage = Stage(floor=0)
    stage.exchange.fail(reason, times=100)
    error = await Holder(stage).error()
    assert isinstance(error, UpstreamError)
    assert error.reason is reason
    assert ": no (" in error.message, "the fake's own sentence"
    await stage.clear()
