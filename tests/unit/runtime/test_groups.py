"""Templates that share lines, and groups that share a provider: bare lines, and a breaker that others hear of."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.demand import DemandOptions
from gateway.core.errors import CallerError, Reason
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.holders import Holder, holding, until
from tests.unit.runtime.stage import END_USER_LINE, Stage
from tests.unit.runtime.talk import ended, speak

CONFIGURED = {"instructions": "Be brief.", "type": "realtime"}


async def rare() -> Stage:
    """Two templates that are rarely asked for, and a bare line that stands ready for either."""
    stage = Stage(names=("default", "second"), floor=0, demand=DemandOptions())
    await stage.warm()
    first = await holding(stage)
    await first.end()
    await until(lambda: None in [session for _, session in stage.exchange.dials])
    await turns(10)
    return stage


async def test_lines_for_templates_that_are_rarely_asked_for_are_dialled_bare() -> None:
    stage = await rare()
    assert [session for _, session in stage.exchange.dials] == [CONFIGURED, None]
    await stage.clear()


async def test_a_bare_line_is_a_hit_for_either_template_and_not_configured() -> None:
    stage = await rare()
    holder = await holding(stage, pool="second")
    assert holder.line is not None
    assert (holder.line.source, holder.line.is_configured) == (out.LineSource.WARM, False)
    assert (stage.pools["second"].stats().leased, stage.pool.stats().leased) == (1, 0)
    await holder.end()
    await stage.clear()


async def test_a_bare_line_gets_the_whole_configuration_and_the_caller_learns_that_it_is_on_its_way() -> None:
    stage = await rare()
    caller = Caller()
    caller.say(out.OpenRequest(template="second"), b"audio")
    stage.serve(caller)
    opened = (await caller.until(out.Opened)).event
    await turns(10)
    assert isinstance(opened, out.Opened)
    assert (opened.config, opened.source, opened.template) == (out.ConfigState.SENT, out.LineSource.WARM, "second")
    update, append = stage.line.sent
    assert (update["type"], update["event_id"], update["session"]) == ("session.update", "tl-config", CONFIGURED)
    assert append["type"] == "input_audio_buffer.append"
    await stage.clear()


async def test_a_bare_line_is_greeted_and_guarded_in_one_configuration() -> None:
    stage = await rare()
    await stage.opened(template="second", greet=out.Greet(), overrides={"instructions": "x"})
    await turns(10)
    line = stage.line
    assert line.types() == ["session.update", "response.create"]
    session = line.sent[0]["session"]
    assert (session["instructions"], session["type"]) == ("x", "realtime")
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is False
    speak(line)
    await asyncio.sleep(2.0)
    assert line.sent[-1]["session"]["audio"]["input"]["turn_detection"]["interrupt_response"] is True
    await stage.clear()


async def test_a_bare_line_that_was_used_is_used_up() -> None:
    stage = await rare()
    caller, call = await stage.opened(template="second")
    line = stage.line
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert line.closes == 1
    await stage.clear()


# A name for the end user.


async def test_an_identifier_that_the_class_cannot_carry_is_refused_and_costs_no_line(stage: Stage) -> None:
    await stage.warm()
    caller = Caller()
    caller.say(out.OpenRequest(safety_identifier="user-1"))
    error = await ended(stage, stage.serve(caller))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.SAFETY_IDENTIFIER_REFUSED
    assert "user-1" not in error.message
    assert stage.pool.stats().ready == len(stage.exchange.lines) == 1


async def test_an_end_users_line_is_dialled_with_the_identifier_and_said_to_be() -> None:
    stage = Stage(line=END_USER_LINE)
    await stage.warm()
    caller, call = await stage.opened(safety_identifier="user-1")
    opened = caller.got[-1].event
    assert isinstance(opened, out.Opened)
    assert (opened.source, opened.config) == (out.LineSource.DIALLED, out.ConfigState.APPLIED)
    assert stage.exchange.safety_identifiers == ["", "user-1"]
    assert stage.observer.results == ["dialled"]
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert stage.observer.reports[0].source == "dialled"
    await stage.clear()


async def test_two_end_users_never_share_a_line() -> None:
    stage = Stage(line=END_USER_LINE, floor=0)
    stage.exchange.delay_seconds = 0.5
    first, second = Holder(stage, safety_identifier="user-1"), Holder(stage, safety_identifier="user-2")
    await asyncio.gather(first.has_line, second.has_line)
    names = dict(
        zip((line.session_id for line in stage.exchange.lines), stage.exchange.safety_identifiers, strict=True)
    )
    for holder, name in ((first, "user-1"), (second, "user-2")):
        assert holder.line is not None
        assert names[holder.line.upstream.session_id] == name
        await holder.end()
    await stage.everything_is_given_back()
    await stage.clear()


# One provider, several groups.


async def neighbours(floor: int = 0) -> tuple[Stage, Stage]:
    """Two groups behind one breaker, which the first has just opened."""
    breaker = Breaker(BreakerOptions(failures=1))
    first = Stage(breaker=breaker, floor=0, line=END_USER_LINE)
    second = Stage(breaker=breaker, floor=floor)
    first.group.on_change, second.group.on_change = second.group.tick, first.group.tick
    first.exchange.fail(Reason.UPSTREAM_UNREACHABLE)
    first.exchange.may_answer.clear()
    holder = Holder(first)
    await turns(5)
    holder.task.cancel()
    await holder.error()
    first.exchange.may_answer.set()
    await turns(5)
    assert breaker.is_open
    return first, second


async def test_a_provider_that_is_back_is_known_to_every_group_at_once() -> None:
    first, second = await neighbours(floor=1)
    second.group.start()
    await asyncio.sleep(1.0)
    assert second.exchange.dials == []
    holder = await holding(first)
    began = now()
    await turns(10)
    assert (second.pool.stats().ready, now()) == (1, began)
    await holder.end()
    await first.clear()
    await second.clear()


async def test_a_failure_in_one_group_is_known_to_the_others_at_once() -> None:
    breaker = Breaker(BreakerOptions(failures=1))
    first, second = Stage(breaker=breaker), Stage(breaker=breaker)
    told: list[float] = []
    first.group.on_change = lambda: told.append(now())
    first.exchange.fail(Reason.UPSTREAM_UNREACHABLE)
    await first.warm()
    assert told
    assert second.pool.stats().breaker_open
    await first.clear()
    await second.clear()


@pytest.mark.parametrize("how", ["refused a place", "its waiter goes", "a fault"])
async def test_a_probe_that_ends_without_an_answer_lets_the_other_groups_probe(how: str) -> None:
    """While a probe is under way nobody else may dial: if nobody hears of its end, that is for ever."""
    first, second = await neighbours()
    await asyncio.sleep(0.3)
    first.exchange.may_answer.clear()
    first.slots.may_grant.clear()
    alone = how == "its waiter goes"
    if how == "refused a place":
        first.slots.refuse(Reason.POOL_EXHAUSTED, retry_after_seconds=60.0)
    elif how == "a fault":
        first.slots.refusals.append(RuntimeError("a fault of ours"))
    probing = Holder(first, wait_seconds=30.0, safety_identifier="user-1" if alone else "")
    await turns(5)
    waiting = Holder(second, wait_seconds=30.0)
    await asyncio.sleep(0.5)
    assert second.exchange.dials == [], "one probe at a time"
    if alone:
        probing.task.cancel()
    else:
        first.slots.may_grant.set()
    await turns(20)
    assert waiting.line is not None
    await waiting.end()
    probing.task.cancel()
    await probing.error()
    await first.clear()
    await second.clear()
