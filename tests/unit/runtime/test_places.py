"""Places at the account: taken before a dial, known for what they are used for, given back exactly once.

The fake itself asserts that nothing is given back that was not held, and `Stage.clear` that nothing is left.
"""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import CapacityError, Reason
from gateway.core.events import LineSource
from gateway.runtime.ports import SlotKind
from tests.support.virtual_time import now, turns
from tests.unit.runtime.holders import WAIT_SECONDS, Holder, holding
from tests.unit.runtime.stage import END_USER_LINE, Stage


async def test_a_place_is_taken_before_anything_is_dialled(stage: Stage) -> None:
    stage.slots.may_grant.clear()
    await stage.warm()
    assert (stage.exchange.dials, stage.slots.total) == ([], 0)
    stage.slots.may_grant.set()
    await turns(5)
    assert (len(stage.exchange.dials), stage.slots.acts) == (1, ["acquire WARM"])


async def test_a_line_for_the_floor_takes_a_warm_place_which_becomes_a_leased_one(stage: Stage) -> None:
    await stage.warm()
    assert stage.slots.held == {SlotKind.WARM: 1}
    holder = await holding(stage)
    assert stage.slots.acts[:2] == ["acquire WARM", "WARM to LEASED"]
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.slots.acts.count("release LEASED") == 1
    assert stage.slots.held[SlotKind.WARM] == stage.pool.stats().ready == 1


async def test_a_line_for_somebody_who_waits_takes_a_leased_place() -> None:
    stage = Stage(floor=0)
    holder = await holding(stage)
    assert stage.slots.acts[0] == "acquire LEASED"
    assert stage.slots.held == {SlotKind.LEASED: 1, SlotKind.WARM: 0}
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.slots.total == 0
    await stage.clear()


async def test_the_line_of_a_waiter_who_has_gone_keeps_its_place_as_a_warm_one() -> None:
    stage = Stage(floor=0)
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(3)
    holder.task.cancel()
    stage.exchange.may_answer.set()
    await turns(10)
    assert stage.pool.stats().ready == 1
    assert stage.slots.acts == ["acquire LEASED", "LEASED to WARM"]
    await stage.clear()


@pytest.mark.parametrize("reason", [Reason.POOL_EXHAUSTED, Reason.RATE_LIMITED])
async def test_a_refused_place_is_no_failure_and_is_tried_again_when_the_account_says(reason: Reason) -> None:
    stage = Stage(floor=0)
    stage.slots.refuse(reason, retry_after_seconds=0.75, times=2)
    began = now()
    with capture_logs() as logs:
        holder = await holding(stage)
    assert 1.4 <= now() - began <= 1.6
    assert holder.line is not None
    assert holder.line.source is LineSource.WAITED
    assert [log for log in logs if log["log_level"] != "info"] == []
    assert set(stage.observer.dials) == {"ok"}
    assert stage.pool.stats().last_failure is None
    assert not stage.pool.stats().breaker_open
    await holder.end()
    await stage.clear()


async def test_a_refusal_without_a_delay_is_tried_again_soon_and_not_at_once() -> None:
    stage = Stage(floor=0)
    stage.slots.refuse(Reason.POOL_EXHAUSTED, retry_after_seconds=None)
    began = now()
    holder = await holding(stage)
    assert 0.2 <= now() - began <= 0.3
    await holder.end()
    await stage.clear()


async def test_many_refused_places_open_no_breaker_and_the_floor_comes_back() -> None:
    stage = Stage(floor=2)
    stage.slots.refuse(Reason.POOL_EXHAUSTED, times=50)
    await stage.warm()
    await asyncio.sleep(60.0)
    assert stage.pool.stats().ready == 2
    await stage.clear()


async def test_who_waits_for_a_place_in_vain_is_told_that_there_is_none(stage: Stage) -> None:
    stage.slots.refuse(Reason.POOL_EXHAUSTED, times=100)
    error = await Holder(stage).error()
    assert isinstance(error, CapacityError)
    assert error.reason is Reason.POOL_EXHAUSTED
    assert error.retry_after_seconds
    assert error.numbers is not None
    assert error.numbers.total <= 1


async def test_a_dial_waits_for_its_turn(stage: Stage) -> None:
    stage.slots.turn_seconds = 1.5
    await stage.warm()
    assert stage.exchange.dials == []
    assert stage.slots.held == {SlotKind.WARM: 1}
    await asyncio.sleep(1.5)
    await turns(5)
    assert len(stage.exchange.dials) == 1


async def test_a_place_comes_back_when_the_dial_fails() -> None:
    stage = Stage(floor=0)
    stage.exchange.fail(Reason.UPSTREAM_UNREACHABLE, times=100)
    await Holder(stage).error()
    await turns(10)
    assert stage.slots.total == 0
    assert stage.slots.acts.count("acquire LEASED") == stage.slots.acts.count("release LEASED") > 0
    await stage.clear()


async def test_a_place_comes_back_when_the_dialler_has_a_fault(stage: Stage) -> None:
    stage.exchange.failures.append(RuntimeError("a fault of ours"))
    with capture_logs():
        await stage.warm()
    assert stage.slots.acts == ["acquire WARM", "release WARM"]


async def test_a_fault_of_the_account_does_not_eat_a_place(stage: Stage) -> None:
    stage.slots.refusals.append(RuntimeError("a fault of ours"))
    with capture_logs():
        await stage.warm()
        await asyncio.sleep(10.0)
    assert stage.pool.stats().total == stage.pool.stats().ready == stage.slots.total == 1


async def test_a_place_comes_back_when_an_idle_line_is_lost(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].lose()
    await turns(5)
    assert stage.slots.acts == ["acquire WARM", "release WARM"]


async def test_a_place_comes_back_once_when_a_leased_line_is_lost() -> None:
    stage = Stage(floor=0)
    holder = await holding(stage)
    stage.exchange.lines[0].lose()
    await turns(5)
    assert stage.slots.total == 0
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.slots.acts.count("release LEASED") == 1
    await stage.clear()


async def test_a_place_comes_back_only_when_the_line_is_closed() -> None:
    """The provider counts a line that is closing: who dials on its place would be one too many."""
    stage = Stage(floor=0)
    stage.exchange.close_seconds = 1.0
    holder = await holding(stage)
    await holder.end()
    await asyncio.sleep(0.9)
    assert stage.slots.total == 1
    await asyncio.sleep(0.2)
    assert stage.slots.total == 0
    await stage.clear()


async def test_a_hanging_dial_is_given_up_and_its_place_comes_back(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage, wait_seconds=20.0)
    await turns(5)
    # One for the holder, one for the floor.
    assert stage.exchange.under_way == 2
    await asyncio.sleep(2.9)
    assert len(stage.exchange.dials) == 2
    await asyncio.sleep(0.2)
    assert len(stage.exchange.dials) == 3, "another try is made in the place of the oldest"
    assert stage.exchange.under_way == stage.slots.total == 2
    stage.exchange.may_answer.set()
    await turns(10)
    assert holder.line is not None
    await holder.end()
    await stage.everything_is_given_back()


async def test_a_dial_for_one_waiter_alone_is_given_up_when_he_goes() -> None:
    stage = Stage(line=END_USER_LINE, floor=0)
    stage.exchange.may_answer.clear()
    holder = Holder(stage, safety_identifier="user-1")
    await turns(5)
    assert (stage.exchange.under_way, stage.slots.total) == (1, 1)
    holder.task.cancel()
    await turns(10)
    assert (stage.exchange.under_way, stage.slots.total, stage.pool.stats().total) == (0, 0, 0)
    await stage.clear()


async def test_a_line_for_one_waiter_alone_is_dialled_with_his_name_and_never_a_hit() -> None:
    stage = Stage(line=END_USER_LINE, floor=1)
    await stage.warm()
    holder = await holding(stage, safety_identifier="user-1")
    assert holder.line is not None
    assert holder.line.source is LineSource.DIALLED
    assert stage.exchange.safety_identifiers == ["", "user-1"]
    assert stage.observer.results == ["dialled"]
    assert stage.pool.stats().ready == 1, "the warm line is left for others"
    await holder.end()
    await stage.everything_is_given_back()
    await stage.clear()


@pytest.mark.parametrize("steps", range(14))
@pytest.mark.parametrize("alone", [True, False])
async def test_no_place_is_lost_whenever_a_caller_is_cancelled(*, alone: bool, steps: int) -> None:
    stage = Stage(line=END_USER_LINE if alone else replace(END_USER_LINE, safety="none"), ceiling=2)
    stage.slots.turn_seconds = 0.01
    holder = Holder(stage, safety_identifier="user-1" if alone else "")
    holder.let_go()
    # Half of them before the turn to dial has come, half behind it.
    await turns(steps)
    if steps % 2:
        await asyncio.sleep(0.01)
        await turns(steps)
    holder.task.cancel()
    await holder.error()
    await asyncio.sleep(0.1)
    await stage.everything_is_given_back()
    following = await holding(stage)
    await following.end()
    await stage.everything_is_given_back()
    await stage.clear()


@pytest.mark.parametrize("steps", range(16))
@pytest.mark.parametrize("turn_seconds", [0.0, 0.01])
async def test_no_place_is_lost_whenever_the_gateway_stops(turn_seconds: float, steps: int) -> None:
    stage = Stage(floor=2)
    stage.slots.turn_seconds = turn_seconds
    stage.group.start()
    holder = Holder(stage)
    await turns(steps)
    if steps % 2:
        await asyncio.sleep(turn_seconds)
    holder.task.cancel()
    await holder.error()
    await stage.group.stop()
    assert stage.slots.total == 0, stage.slots.acts
    assert stage.exchange.open_lines == []


async def test_no_place_is_lost_when_a_close_does_not_end_in_time(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].may_close.clear()
    began = now()
    await stage.group.stop()
    assert now() - began <= 10.0
    assert stage.slots.total == 0


@pytest.mark.parametrize("steps", range(10))
async def test_a_line_may_be_lost_at_every_await_of_a_grant(steps: int) -> None:
    stage = Stage(floor=0)
    holder = Holder(stage)
    while not stage.exchange.lines:
        await turns(1)
    await turns(steps)
    stage.exchange.lines[0].lose()
    await turns(10)
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.slots.total == 0
    await stage.clear()


async def test_a_line_that_somebody_holds_is_not_called_back(stage: Stage) -> None:
    await stage.warm()
    stage.slots.may_grant.clear()
    holder = await holding(stage)
    await turns(5)
    assert stage.group.give_back(5) == 0
    assert stage.exchange.lines[0].is_open
    await holder.end()


async def test_lines_called_back_make_their_places_free() -> None:
    stage = Stage(floor=3)
    await stage.warm()
    assert stage.slots.held == {SlotKind.WARM: 3}
    assert stage.group.give_back(2) == 2
    await turns(5)
    assert stage.slots.held == {SlotKind.WARM: 1}
    assert stage.observer.closed == ["recalled", "recalled"]
    await asyncio.sleep(WAIT_SECONDS + 0.1)
    assert stage.slots.held == {SlotKind.WARM: 3}
    await stage.clear()
