"""How a session begins: its first message, its line, and what it is told when it has none."""

from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, CapacityError, Reason, UpstreamError
from gateway.core.session import SessionState
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import ended

# Opening.


async def test_a_caller_is_told_everything_when_it_has_its_line(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened(correlation_id="c-1")
    first = caller.got[0]
    opened = first.event
    assert isinstance(opened, out.Opened)
    assert (first.seq, first.after_seq, first.epoch) == (1, 0, 1)
    assert opened == out.Opened(
        session_id=stage.session.id,
        upstream_session_id="sess_1",
        owner_address="gateway:50051",
        durability=out.Durability.PROCESS,
        message_max_bytes=262_144,
        gateway_message_max_bytes=4 << 20,
        session_life_max_seconds=7200,
        session_idle_max_seconds=300,
        heartbeat_ms=1000,
        config=out.ConfigState.APPLIED,
        source=out.LineSource.WARM,
        entry_age_ms=0,
        waited_ms=0,
        template="default",
        template_version=stage.template.version,
        model="gpt-realtime",
        input_format="audio/pcm",
        output_format="audio/pcm",
        correlation_id="c-1",
        caller="bot",
        opened_at_unix_ms=opened.opened_at_unix_ms,
    )
    assert stage.session.state is SessionState.ACTIVE


async def test_a_line_that_was_waited_for_says_so(stage: Stage) -> None:
    stage.exchange.delay_seconds = 0.5
    caller, _ = await stage.opened()
    opened = caller.got[-1].event
    assert isinstance(opened, out.Opened)
    assert (opened.source, opened.waited_ms, opened.entry_age_ms) == (out.LineSource.WAITED, 500, 0)


async def test_a_line_with_the_template_applied_needs_nothing(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.say(b"audio")
    await turns(10)
    assert stage.line.types() == ["input_audio_buffer.append"]


async def test_overrides_go_up_first_and_the_callers_bytes_follow_without_waiting(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened(overrides={"instructions": "Be long.", "audio": {"output": {"voice": None}}})
    caller.say(b"audio")
    await turns(10)
    update, append = stage.line.sent
    assert (update["type"], update["event_id"]) == ("session.update", "tl-config")
    assert update["session"] == {
        "type": "realtime",
        "instructions": "Be long.",
        "audio": {"output": {"voice": None}},
    }
    assert append["type"] == "input_audio_buffer.append"
    opened = caller.got[0].event
    assert isinstance(opened, out.Opened)
    assert opened.config is out.ConfigState.SENT


async def test_a_refused_configuration_is_told_and_the_session_goes_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(overrides={"instructions": "x"})
    stage.line.tell("error", error={"message": "no", "event_id": "tl-config", "param": "session.voice"})
    rejected = (await caller.until(out.ConfigRejected)).event
    assert isinstance(rejected, out.ConfigRejected)
    assert rejected.param == "session.voice"
    assert not call.done()


@pytest.mark.parametrize(
    "overrides",
    [
        {"audio": "loud"},
        {"audio": {"input": {"format": "pcm16"}}},
        {"audio": {"input": {"turn_detection": {"silence_duration_ms": "long"}}}},
    ],
)
async def test_a_malformed_configuration_is_the_providers_to_refuse(stage: Stage, overrides: dict[str, Any]) -> None:
    await stage.warm()
    _, call = await stage.opened(overrides=overrides)
    await turns(5)
    assert stage.line.types() == ["session.update"]
    assert not call.done()


async def test_the_asked_limits_are_bounded_by_the_gateways(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened(life_max_seconds=60, idle_max_seconds=100_000)
    opened = caller.got[0].event
    assert isinstance(opened, out.Opened)
    assert (opened.session_life_max_seconds, opened.session_idle_max_seconds) == (60, 300)


# The first message.


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"audio", Reason.FIRST_FRAME_EXPECTED),
        (out.Bye(), Reason.FIRST_FRAME_EXPECTED),
        (out.Control(()), Reason.FIRST_FRAME_EXPECTED),
        (None, Reason.FIRST_FRAME_EXPECTED),
        (out.ResumeRequest("token"), Reason.RESUME_REFUSED),
        (out.OpenRequest(unserved=("greet",)), Reason.NOT_IMPLEMENTED_YET),
        (out.OpenRequest(template="unknown"), Reason.UNKNOWN_TEMPLATE),
        (out.OpenRequest(overrides={"model": "other"}), Reason.OVERRIDE_REFUSED),
        (out.Refused(CallerError(Reason.MESSAGE_TOO_LARGE, "too large")), Reason.MESSAGE_TOO_LARGE),
    ],
)
async def test_a_wrong_first_message_is_refused_and_costs_no_line(
    stage: Stage, message: out.CallerMessage | None, reason: Reason
) -> None:
    await stage.warm()
    caller = Caller()
    caller.say(message)
    error = await ended(stage, stage.serve(caller))
    assert error is not None
    assert error.reason is reason
    assert caller.got == []
    assert stage.pool.stats().ready == len(stage.exchange.lines) == 1
    report = stage.observer.reports[0]
    assert (report.error, report.source, report.upstream_session_id) == (reason, "", "")
    assert stage.observer.refusals == [reason]


async def test_the_first_message_must_come_in_time(stage: Stage) -> None:
    await stage.warm()
    began = now()
    error = await ended(stage, stage.serve(Caller()))
    assert now() - began == 5.0
    assert isinstance(error, CallerError)
    assert error.reason is Reason.FIRST_FRAME_EXPECTED


async def test_a_session_is_opened_once(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    for message in (out.OpenRequest(), out.ResumeRequest("token")):
        caller.say(message)
        event = (await caller.until(out.ErrorEvent)).event
        assert isinstance(event, out.ErrorEvent)
        assert event.reason is Reason.ALREADY_OPEN
    assert not call.done()


# Refusals of the pool.


async def test_who_gets_no_line_is_told_why(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    caller = Caller()
    caller.say(out.OpenRequest(wait_max_ms=500))
    began = now()
    error = await ended(stage, stage.serve(caller))
    assert now() - began == 0.5
    assert isinstance(error, CapacityError)
    assert error.reason is Reason.WAIT_TIMED_OUT
    assert error.numbers is not None
    assert caller.kinds() == [out.Queued]


async def test_a_caller_may_not_wait_longer_than_the_pool_allows(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    caller = Caller()
    caller.say(out.OpenRequest(wait_max_ms=100_000))
    began = now()
    await ended(stage, stage.serve(caller))
    assert now() - began == 2.0


async def test_a_refused_key_is_the_operators_to_mend(stage: Stage) -> None:
    stage.exchange.fail(Reason.UPSTREAM_REFUSED_KEY, times=50)
    caller = Caller()
    caller.say(out.OpenRequest())
    error = await ended(stage, stage.serve(caller))
    assert isinstance(error, UpstreamError)
    assert (error.reason, error.retryable) == (Reason.UPSTREAM_REFUSED_KEY, False)
