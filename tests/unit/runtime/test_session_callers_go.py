"""Callers who go, lines that are lost, owners that are cancelled: at every await, and nothing is left."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.runtime.session_options import CANCELLED
from tests.support.virtual_time import now, others, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import closed, ended, speak


async def test_a_caller_that_goes_while_it_waits_leaves_nothing(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    caller = Caller()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await turns(10)
    assert stage.pool.stats().waiting == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await stage.everything_is_given_back()
    assert stage.observer.results == ["cancelled"]
    assert len(stage.observer.reports) == 1
    stage.exchange.may_answer.set()
    await stage.everything_is_given_back()


async def test_a_caller_that_vanishes_ends_its_session(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.vanish()
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert line.closes == 1
    assert out.Closed not in caller.kinds()
    assert len(stage.store.finished) == 1


async def test_a_caller_that_vanishes_is_noticed_by_writing_too(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.gone = True
    speak(stage.line)
    assert await ended(stage, call) is None


@pytest.mark.parametrize("how", ["vanishes", "cancelled", "both"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("steps", range(0, 60, 2))
async def test_a_caller_may_go_at_every_await(*, how: str, warm: bool, steps: int) -> None:
    stage = Stage(ceiling=2)
    stage.exchange.answers = True
    if warm:
        await stage.warm()
    caller = Caller()
    caller.say(out.OpenRequest(overrides={"instructions": "x"}), b"audio")
    caller.control("response.create")
    caller.say(out.Bye())
    call = stage.serve(caller)
    await turns(steps)
    if how in ("vanishes", "both"):
        caller.vanish()
    if how in ("cancelled", "both"):
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await stage.everything_is_given_back()
    # One that was cancelled before its first step never was a session.
    assert len(stage.observer.reports) == (0 if steps == 0 and how != "vanishes" else 1)
    assert len(stage.observer.results) <= 1
    assert caller.kinds().count(out.Closed) <= 1
    await stage.clear()
    assert stage.exchange.open_lines == []
    assert all(line.closes <= 1 for line in stage.exchange.lines)
    assert await others() == set()


@pytest.mark.parametrize("steps", range(0, 60, 2))
async def test_the_line_may_be_lost_at_every_await(steps: int) -> None:
    stage = Stage()
    stage.exchange.answers = True
    await stage.warm()
    line = stage.exchange.lines[0]
    caller = Caller()
    caller.say(out.OpenRequest(), b"audio")
    caller.control("response.create")
    caller.say(out.Bye())
    call = stage.serve(caller)
    await turns(steps)
    line.lose()
    await ended(stage, call)
    if caller.got:
        assert closed(caller).reason in (out.ClosedReason.UPSTREAM, out.ClosedReason.BYE)
    assert caller.kinds().count(out.Closed) <= 1
    await stage.clear()
    assert await others() == set()


async def test_an_owner_that_is_cancelled_reports_and_gives_back(stage: Stage) -> None:
    await stage.warm()
    _, call = await stage.opened()
    line = stage.line
    (owner,) = stage.directory._owners._tasks
    owner.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await stage.everything_is_given_back()
    assert [report.reason for report in stage.observer.reports] == [CANCELLED.reason]
    assert line.closes == 1
