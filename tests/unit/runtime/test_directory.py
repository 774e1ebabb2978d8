"""The sessions of a process: admitted, shown, and ended in order."""

import asyncio

from gateway.core import events as out
from gateway.core.errors import CapacityError, Reason
from gateway.core.session import SessionState
from tests.support.virtual_time import now, others, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.stage import Stage


async def test_sessions_are_shown_with_their_states(stage: Stage) -> None:
    assert stage.directory.states() == dict.fromkeys(SessionState, 0)
    await stage.warm()
    stage.exchange.may_answer.clear()
    await stage.opened()
    waiting = Caller()
    waiting.say(out.OpenRequest())
    stage.serve(waiting)
    await turns(8)
    states = stage.directory.states()
    assert (states[SessionState.ACTIVE], states[SessionState.OPENING]) == (1, 1)
    first, second = stage.directory.sessions()
    assert first.started_at <= second.started_at
    assert first.id != second.id


async def test_past_its_capacity_a_gateway_refuses(stage: Stage) -> None:
    await stage.warm()
    await stage.opened()
    await stage.opened()
    third = Caller()
    third.say(out.OpenRequest())
    error = await stage.serve(third)
    assert isinstance(error, CapacityError)
    assert (error.reason, error.retryable) == (Reason.OVERLOADED, True)
    assert stage.observer.refusals == [Reason.OVERLOADED]
    assert len(stage.directory.sessions()) == 2


async def test_an_ended_session_makes_room(stage: Stage) -> None:
    await stage.warm()
    for _ in range(5):
        caller, call = await stage.opened()
        caller.say(out.Bye())
        assert await call is None
        await turns(2)
    assert stage.directory.sessions() == []


async def test_a_draining_gateway_refuses_new_sessions_and_lets_the_others_finish(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    draining = asyncio.get_running_loop().create_task(stage.directory.drain(45.0))
    await turns(3)
    late = Caller()
    late.say(out.OpenRequest())
    error = await stage.serve(late)
    assert isinstance(error, CapacityError)
    assert error.reason is Reason.DRAINING
    await asyncio.sleep(10.0)
    assert not call.done()
    caller.say(out.Bye())
    began = now()
    await draining
    assert now() == began
    assert await call is None
    last = caller.got[-1].event
    assert isinstance(last, out.Closed)
    assert last.reason is out.ClosedReason.BYE


async def test_what_is_left_at_the_deadline_is_ended_with_a_word(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    began = now()
    await stage.directory.drain(45.0)
    assert now() - began == 45.0
    error = await call
    assert error is not None
    assert error.reason is Reason.DRAINING
    last = caller.got[-1].event
    assert isinstance(last, out.Closed)
    assert last.reason is out.ClosedReason.DRAINING
    await stage.everything_is_given_back()


async def test_who_waits_for_a_line_is_sent_away_by_the_drain(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    caller = Caller()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await turns(5)
    await stage.directory.drain(0.0)
    error = await call
    assert error is not None
    assert error.reason is Reason.DRAINING
    await stage.everything_is_given_back()


async def test_a_drain_is_bounded_whoever_does_not_answer(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.may_write.clear()
    stage.line.may_send.clear()
    stage.store.may_store.clear()
    stage.store.may_finish.clear()
    caller.say(b"audio")
    await turns(5)
    began = now()
    await stage.directory.drain(1.0)
    assert now() - began <= 12.0
    stage.store.may_finish.set()
    await stage.everything_is_given_back()


async def test_an_empty_directory_is_drained_at_once(stage: Stage) -> None:
    began = now()
    await stage.directory.drain(45.0)
    assert now() == began
    assert await others() == set()


async def test_a_cancelled_call_ends_its_session_and_no_other(stage: Stage) -> None:
    await stage.warm()
    _, first = await stage.opened()
    _, second = await stage.opened()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await turns(20)
    assert first.cancelled()
    assert len(stage.directory.sessions()) == 1
    assert not second.done()
    assert [report.reason for report in stage.observer.reports] == [out.ClosedReason.BYE_NOW]
