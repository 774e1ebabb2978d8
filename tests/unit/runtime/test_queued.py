"""Who waits is told its place: at once, and again when it changes, and never at the cost of its line."""

import asyncio
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.errors import CapacityError, Reason
from gateway.runtime.lease import Place
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.holders import Holder, holding, until
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import ended


def full(waiters_max: int = 50) -> Stage:
    """A pool in which nobody gets a line before the test lets the dials be answered."""
    stage = Stage(floor=0, ceiling=1, waiters_max=waiters_max)
    stage.exchange.may_answer.clear()
    return stage


async def test_a_waiter_is_told_its_place_at_once() -> None:
    stage = full()
    began = now()
    first, second = Holder(stage), Holder(stage)
    await turns(3)
    assert first.places == [(began, Place(1, 0.0, 2.0))]
    assert second.places == [(began, Place(2, 0.0, 2.0))]
    await asyncio.gather(first.error(), second.error())
    await stage.clear()


async def test_who_gets_a_line_at_once_is_told_no_place(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    assert holder.places == []
    await holder.end()


async def test_a_place_is_told_again_when_it_changes_with_the_times_that_hold_then() -> None:
    stage = full()
    first = Holder(stage, wait_seconds=10.0)
    await turns(1)
    second = Holder(stage, wait_seconds=10.0)
    await asyncio.sleep(1.0)
    first.abandoned.set_result(None)
    await asyncio.sleep(1.0)
    (_, before), (told_at, after) = second.places
    assert (before.position, after.position) == (2, 1)
    assert 1.0 <= after.waited_seconds <= 1.6
    assert after.waited_seconds + after.remaining_seconds == pytest.approx(10.0)
    assert told_at == pytest.approx(1000.0 + after.waited_seconds)
    second.abandoned.set_result(None)
    await asyncio.gather(first.error(), second.error())
    await stage.clear()


async def test_a_place_that_does_not_change_is_told_once() -> None:
    stage = full()
    holder = Holder(stage, wait_seconds=60.0)
    await asyncio.sleep(59.0)
    assert holder.positions == [1]
    await holder.error()
    await stage.clear()


async def test_a_place_is_told_no_more_than_four_times_a_second_however_fast_the_queue_moves() -> None:
    stage = full(waiters_max=100)
    ahead = [Holder(stage, wait_seconds=60.0) for _ in range(50)]
    await turns(1)
    last = Holder(stage, wait_seconds=60.0)
    await turns(3)
    for holder in ahead:
        await asyncio.sleep(0.05)
        holder.abandoned.set_result(None)
    await asyncio.sleep(1.0)
    assert last.positions[0] == 51
    assert last.positions[-1] == 1
    assert last.positions == sorted(last.positions, reverse=True)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(last.places)]
    assert min(gaps) >= 0.25 - 1e-9
    assert 5 <= len(last.places) <= 14, "at the least twice a second"
    last.abandoned.set_result(None)
    await asyncio.gather(last.error(), *(holder.error() for holder in ahead))
    await stage.clear()


async def test_who_comes_with_a_reservation_stands_before_those_without() -> None:
    stage = full()
    plain = Holder(stage)
    await turns(2)
    redeeming = Holder(stage, foreign=True)
    await asyncio.sleep(0.6)
    assert redeeming.positions == [1]
    assert plain.positions == [1, 2]
    await asyncio.gather(plain.error(), redeeming.error())
    await stage.clear()


async def test_a_line_is_taken_though_its_caller_is_slow_to_hear_its_place() -> None:
    stage = full()
    holder = Holder(stage)
    holder.told_seconds = 0.3
    await turns(3)
    stage.exchange.may_answer.set()
    await holder.has_line
    assert now() <= 1000.0 + 0.3
    await holder.end()
    await stage.everything_is_given_back()
    await stage.clear()


# In a session.


async def test_a_session_that_waits_says_so_before_it_is_opened() -> None:
    stage = Stage(floor=0)
    stage.exchange.delay_seconds = 0.5
    caller, _ = await stage.opened(wait_max_ms=1500)
    queued, opened = caller.got
    assert queued.event == out.Queued(position=1, waited_ms=0, remaining_ms=1500)
    assert (queued.seq, caller.got_at[0]) == (0, 1000.0)
    assert isinstance(opened.event, out.Opened)
    assert (opened.seq, opened.event.waited_ms) == (1, 500)
    await stage.clear()


async def test_a_hit_is_not_queued(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    assert caller.kinds() == [out.Opened]


async def test_a_caller_that_does_not_read_its_place_is_not_waited_for_longer_than_a_farewell_takes() -> None:
    stage = Stage(floor=0)
    caller = Caller()
    caller.may_write.clear()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await turns(20)
    assert stage.pool.stats().leased == 1, "it has its line meanwhile"
    began = now()
    (session,) = stage.directory.sessions()
    await until(lambda: session.line)
    assert now() - began <= stage.options.farewell_seconds + 0.1
    caller.may_write.set()
    await caller.until(out.Opened)
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    await stage.clear()


@pytest.mark.parametrize("steps", range(0, 12, 2))
async def test_a_caller_that_goes_while_it_does_not_read_its_place_leaves_nothing(steps: int) -> None:
    stage = full()
    caller = Caller()
    caller.may_write.clear()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await turns(steps)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    stage.exchange.may_answer.set()
    await asyncio.sleep(3.0)
    await stage.everything_is_given_back()
    await stage.clear()


async def test_a_caller_that_vanishes_while_it_is_told_its_place_leaves_nothing() -> None:
    stage = full()
    caller = Caller()
    caller.say(out.OpenRequest())
    caller.gone = True
    await stage.serve(caller)
    await stage.everything_is_given_back()
    assert stage.observer.results == ["cancelled"]
    await stage.clear()


async def test_a_fault_while_a_place_is_told_leaves_no_waiter() -> None:
    class Broken(Caller):
        async def write(self, outgoing: out.Outgoing, ack: out.GatewayAck | None = None) -> None:
            raise RuntimeError("a fault of ours")

    stage = full()
    caller = Broken()
    caller.say(out.OpenRequest())
    with capture_logs():
        error = await stage.serve(caller)
    assert error is not None
    assert error.reason is Reason.INTERNAL
    await stage.everything_is_given_back()
    stage.exchange.may_answer.set()
    await turns(10)
    assert stage.pool.stats().leased == 0
    await stage.clear()


# How long.


@pytest.mark.parametrize(("patience_seconds", "waits_seconds"), [(0.5, 0.5), (60.0, 2.0), (float("inf"), 2.0)])
async def test_nobody_waits_longer_than_its_own_deadline(patience_seconds: float, waits_seconds: float) -> None:
    stage = full()
    caller = Caller()
    caller.patience_seconds = patience_seconds
    caller.say(out.OpenRequest(wait_max_ms=100_000))
    began = now()
    error = await ended(stage, stage.serve(caller))
    assert now() - began == pytest.approx(waits_seconds)
    assert isinstance(error, CapacityError)
    assert error.reason is Reason.WAIT_TIMED_OUT
    queued = caller.got[0].event
    assert isinstance(queued, out.Queued)
    assert queued.remaining_ms == round(waits_seconds * 1000)
    await stage.clear()


@pytest.mark.parametrize("patience_seconds", [0.0, -1.0])
async def test_who_has_no_time_left_waits_not_at_all(patience_seconds: float) -> None:
    stage = full()
    caller = Caller()
    caller.patience_seconds = patience_seconds
    caller.say(out.OpenRequest())
    began = now()
    error = await ended(stage, stage.serve(caller))
    assert now() == began
    assert isinstance(error, CapacityError)
    assert caller.got == []
    await stage.clear()
