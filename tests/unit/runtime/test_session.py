"""One session from its first message to its end, with every neighbour played, in virtual time."""

import asyncio
import base64
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.errors import CallerError, CapacityError, GatewayError, Reason, StoreError, UpstreamError
from gateway.core.session import SessionState
from gateway.runtime.outbox import OutboxOptions
from gateway.runtime.session_options import CANCELLED, GONE, Ending
from tests.support.virtual_time import now, others, turns
from tests.unit.runtime.fakes import ACME, Caller, Line
from tests.unit.runtime.stage import Stage

Call = asyncio.Task[GatewayError | None]
AUDIO = base64.b64encode(bytes(480)).decode()


def speak(line: Line, size: int = 480) -> None:
    """A piece of an answer comes down the line."""
    delta = base64.b64encode(bytes(size)).decode()
    line.tell("response.output_audio.delta", response_id="r", item_id="i", delta=delta)


def closed(caller: Caller) -> out.Closed:
    event = caller.got[-1].event
    assert isinstance(event, out.Closed), f"the last word is {event}"
    return event


async def ended(stage: Stage, call: Call) -> GatewayError | None:
    error = await call
    await stage.everything_is_given_back()
    assert len(stage.observer.reports) == 1
    return error


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
    )
    assert stage.session.state is SessionState.ACTIVE


async def test_a_line_that_was_waited_for_says_so(stage: Stage) -> None:
    stage.exchange.delay_seconds = 0.5
    caller, _ = await stage.opened()
    opened = caller.got[0].event
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
        (out.ResumeRequest("token"), Reason.NOT_IMPLEMENTED_YET),
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


# While it lives.


async def test_audio_goes_both_ways(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.say(b"\x01\x02", b"\x03\x04")
    await turns(10)
    appends = [event["audio"] for event in stage.line.sent]
    assert appends == [base64.b64encode(b"\x01\x02").decode(), base64.b64encode(b"\x03\x04").decode()]
    for _ in range(2):
        speak(stage.line)
    await caller.heard(3)
    assert [each.event for each in caller.got[1:]] == [
        out.OutputAudio(bytes(480), "r", "i", 0),
        out.OutputAudio(bytes(480), "r", "i", 240),
    ]
    assert [(each.seq, each.after_seq) for each in caller.got[1:]] == [(0, 1), (0, 1)]


async def test_controls_go_up_in_order_with_a_number_to_come_back_by(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("conversation.item.create", cseq=4, item={})
    caller.control("response.create", cseq=5)
    await turns(10)
    assert stage.line.types() == ["conversation.item.create", "response.create"]
    stage.line.tell("error", error={"message": "no", "event_id": stage.line.sent[1]["event_id"]})
    event = (await caller.until(out.ErrorEvent)).event
    assert isinstance(event, out.ErrorEvent)
    assert event.cseq == 5


async def test_a_frame_that_cannot_be_carried_out_is_refused_and_the_session_goes_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.say(out.Refused(CallerError(Reason.INVALID_FRAME, "empty"), cseq=3))
    event = (await caller.until(out.ErrorEvent)).event
    assert event == out.ErrorEvent(Reason.INVALID_FRAME, "empty", cseq=3)
    assert stage.observer.refusals == [Reason.INVALID_FRAME]
    assert not call.done()


async def test_what_has_no_typed_form_comes_untouched(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    stage.line.tell_raw(b'{"type":"something.new", "a":[ 1 ]}')
    await caller.heard(2)
    assert caller.got[1].event == out.Raw(b'{"type":"something.new", "a":[ 1 ]}')


async def test_control_events_are_stored_before_they_are_sent(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    got = await caller.until(out.InputCommitted)
    assert (got.seq, got.durable) == (2, True)
    assert stage.store.numbers() == [1, 2]


async def test_no_audio_waits_for_the_store(stage: Stage) -> None:
    await stage.warm()
    stage.store.may_store.clear()
    caller, _ = await stage.opened()
    began = now()
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    speak(stage.line)
    await caller.until(out.OutputAudio)
    assert now() == began
    assert out.InputCommitted not in caller.kinds()
    stage.store.may_store.set()


async def test_without_a_store_the_session_goes_on(stage: Stage) -> None:
    await stage.warm()
    stage.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    caller, call = await stage.opened()
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    assert (await caller.until(out.InputCommitted)).durable is False
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert closed(caller).reason is out.ClosedReason.BYE


# The user cuts in.


async def test_speech_drops_the_audio_that_was_not_sent(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    stage.line.tell("response.created", response={"id": "r"})
    speak(stage.line)
    await caller.until(out.OutputAudio)
    caller.may_write.clear()
    for _ in range(4):
        speak(stage.line)
    stage.line.tell("response.output_text.delta", response_id="r", item_id="i", delta="words stay")
    await turns(20)
    stage.line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=40)
    await turns(20)
    caller.may_write.set()
    await caller.until(out.SpeechStarted)
    audio = [each for each in caller.events() if isinstance(each, out.OutputAudio)]
    assert len(audio) == 2, "the one that was under way goes out, what waited behind it does not"
    after = caller.kinds()[caller.kinds().index(out.OutputAudio) :]
    assert after == [out.OutputAudio, out.OutputAudio, out.TextDelta, out.Interrupted, out.SpeechStarted]


async def test_an_interruption_counts_what_was_sent_and_not_what_was_dropped(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    stage.line.tell("response.created", response={"id": "r"})
    caller.may_write.clear()
    for _ in range(5):
        speak(stage.line)
    await turns(20)
    stage.line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=40)
    await turns(20)
    caller.may_write.set()
    interrupted = (await caller.until(out.Interrupted)).event
    sent = sum(len(each.data) // 2 for each in caller.events() if isinstance(each, out.OutputAudio))
    assert isinstance(interrupted, out.Interrupted)
    assert interrupted.sent_samples == sent


# Goodbye.


@pytest.mark.parametrize("last", [out.Bye(), None], ids=["bye", "half-close"])
async def test_a_goodbye_is_answered_and_everything_given_back(stage: Stage, last: out.Bye | None) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    await asyncio.sleep(3.0)
    caller.say(last)
    assert await ended(stage, call) is None
    assert closed(caller) == out.Closed(out.ClosedReason.BYE, out.Usage(), 3000)
    assert line.closes == 1
    assert len(stage.store.finished) == 1
    names = [task.get_name() for task in await others()]
    assert all(name.startswith("pool:default:") for name in names), names


async def test_what_is_due_comes_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    line = stage.line
    await asyncio.sleep(2.0)
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(2.0)
    assert not call.done()
    usage = {"input_tokens": 3, "output_tokens": 4}
    line.tell("response.done", response={"id": "r", "status": "completed", "usage": usage})
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert caller.kinds()[-3:] == [out.ResponseCreated, out.ResponseDone, out.Closed]
    assert closed(caller).usage == out.Usage(input_tokens=3, output_tokens=4)


async def test_what_is_due_is_waited_for_within_bounds(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    began = now()
    assert await ended(stage, call) is None
    assert 30.0 <= now() - began <= 31.0
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_the_last_speech_is_heard_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(bytes(4800), out.Bye())
    await turns(20)
    silence = base64.b64decode(line.sent[-1]["audio"])
    assert silence == bytes(24_000 * 2 * 800 // 1000)
    line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    line.tell("input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=100)
    line.tell("input_audio_buffer.committed", item_id="u")
    await asyncio.sleep(5.0)
    assert not call.done()
    line.tell("response.created", response={"id": "r"})
    line.tell("response.done", response={"id": "r", "status": "completed"})
    assert await ended(stage, call) is None
    assert caller.kinds()[-2:] == [out.ResponseDone, out.Closed]


@pytest.mark.parametrize("then", [[], [None]], ids=["bye", "bye and half-close"])
async def test_the_silence_at_the_end_is_sent_once(stage: Stage, then: list[None]) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(bytes(4800), out.Bye(), *then)
    began = now()
    assert await ended(stage, call) is None
    assert line.types() == ["input_audio_buffer.append"] * 2
    assert now() - began <= 3.0


@pytest.mark.parametrize("then", [[], [None]], ids=["bye", "bye and half-close"])
async def test_what_is_due_comes_also_to_a_caller_that_half_closes(stage: Stage, then: list[None]) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(), *then)
    line = stage.line
    await asyncio.sleep(5.0)
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(5.0)
    line.tell("response.done", response={"id": "r", "status": "completed"})
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert caller.kinds()[-2:] == [out.ResponseDone, out.Closed]
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_a_goodbye_can_be_cut_short(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(5.0)
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert closed(caller).reason is out.ClosedReason.BYE_NOW


async def test_input_after_goodbye_is_refused(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(), b"audio")
    await caller.until(out.ErrorEvent)
    assert stage.observer.refusals == [Reason.INVALID_FRAME]
    assert stage.line.types() == ["response.create"]
    assert not call.done()


async def test_a_line_lost_after_goodbye_is_told_as_that(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    stage.line.lose()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert closed(caller).reason is out.ClosedReason.UPSTREAM


async def test_a_caller_that_goes_after_goodbye_is_let_go(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    caller.vanish()
    began = now()
    await ended(stage, call)
    assert now() == began


async def test_goodbye_now_cuts(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert closed(caller).reason is out.ClosedReason.BYE_NOW


async def test_goodbye_now_drops_the_audio_that_waits(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    for _ in range(5):
        speak(stage.line)
    await turns(20)
    caller.say(out.Bye(now=True))
    await turns(20)
    caller.may_write.set()
    assert await ended(stage, call) is None
    assert caller.kinds() == [out.Opened, out.OutputAudio, out.Closed]


@pytest.mark.parametrize("now_", [True, False])
async def test_closed_is_the_last_word_though_the_line_speaks_on(stage: Stage, *, now_: bool) -> None:
    """The store takes its time, and the provider does not stop: nothing comes behind `closed`."""
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    stage.store.may_store.clear()
    caller.say(out.Bye(now=now_))
    for _ in range(10):
        await asyncio.sleep(0.02)
        speak(line)
        line.tell("conversation.item.done", item={"id": "i"})
    stage.store.may_store.set()
    for _ in range(10):
        await turns(2)
        speak(line)
    assert await ended(stage, call) is None
    assert closed(caller)
    assert caller.kinds().count(out.Closed) == 1


class Listener(Caller):
    """A caller that takes a piece of speech only when it has played the last one."""

    async def write(self, outgoing: out.Outgoing) -> None:
        if isinstance(outgoing.event, out.OutputAudio):
            await asyncio.sleep(0.5)
        await super().write(outgoing)


async def test_a_caller_that_reads_at_the_pace_of_speech_hears_the_answer_out(stage: Stage) -> None:
    await stage.warm()
    caller = Listener()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await caller.until(out.Opened)
    stage.line.tell("response.created", response={"id": "r"})
    for _ in range(40):
        speak(stage.line)
    stage.line.tell("response.done", response={"id": "r", "status": "completed"})
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert caller.kinds().count(out.OutputAudio) == 40
    assert closed(caller).reason is stage.observer.reports[0].reason is out.ClosedReason.BYE


async def test_a_caller_that_stops_reading_after_its_bye_is_told_why_by_the_status(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    caller.say(out.Bye())
    began = now()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert now() - began <= 65.0


async def test_an_end_that_finds_no_room_keeps_its_name(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    caller.may_write.clear()
    for _ in range(40):
        stage.line.tell("response.mcp_call.in_progress", padding="x" * (1 << 20))
        await turns(2)
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert stage.observer.reports[0].reason is out.ClosedReason.SLOW_CALLER


async def test_an_end_is_not_delayed_by_a_line_that_speaks_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(out.Bye(now=True))
    began = now()
    while not call.done() and now() - began < 20.0:
        speak(line)
        await asyncio.sleep(0.02)
    assert now() - began <= 0.1


async def test_a_caller_that_reads_no_more_does_not_delay_the_end_for_long(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    await turns(5)
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() - began <= 5.0


async def test_an_end_is_not_delayed_by_a_store_that_does_not_answer(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    stage.store.may_finish.clear()
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    assert line.closes == 1, "the line waits for the store"
    await asyncio.sleep(10.0)
    assert call.done(), "the end waits for the store for ever"
    stage.store.may_finish.set()


async def test_a_record_that_cannot_be_deleted_changes_nothing(stage: Stage) -> None:
    await stage.warm()
    stage.store.finish_failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    caller, call = await stage.opened()
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert closed(caller).reason is stage.observer.reports[0].reason is out.ClosedReason.BYE


# Ends that nobody asked for.


async def test_a_lost_line_is_told_and_ends_the_session(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.lose()
    error = await ended(stage, call)
    assert isinstance(error, UpstreamError)
    assert (error.reason, error.retryable) == (Reason.UPSTREAM_CLOSED, True)
    last = closed(caller)
    assert last.reason is out.ClosedReason.UPSTREAM
    assert last.error is not None
    assert last.error.reason is Reason.UPSTREAM_CLOSED
    assert stage.observer.reports[0].error is Reason.UPSTREAM_CLOSED


async def test_what_came_before_the_loss_is_told_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    speak(line)
    line.tell("conversation.item.done", item={"id": "i"})
    line.lose()
    await ended(stage, call)
    assert caller.kinds() == [out.Opened, out.OutputAudio, out.ItemDone, out.Closed]


async def test_a_provider_that_sends_no_json_is_lost(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.tell_raw(b"<html>secret")
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert "secret" not in error.message
    assert closed(caller).reason is out.ClosedReason.UPSTREAM


async def test_a_provider_that_reads_no_more_is_stuck(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.may_send.clear()
    caller.say(b"audio")
    began = now()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_STUCK
    assert 30.0 <= now() - began <= 32.0


async def test_a_caller_that_reads_no_more_is_too_slow(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    began = now()
    error = await ended(stage, call)
    assert isinstance(error, CallerError)
    assert error.reason is Reason.SLOW_CALLER
    assert now() - began <= 35.0


async def test_a_caller_for_whom_too_much_piles_up_is_too_slow_and_told_so(stage: Stage) -> None:
    stage.limit(outbox=OutboxOptions(audio_max_bytes=20_000))
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    for _ in range(50):
        speak(stage.line)
    await turns(100)
    caller.may_write.set()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert closed(caller).reason is out.ClosedReason.SLOW_CALLER


async def test_a_newer_owner_ends_the_session_here_and_its_record_is_left_alone(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.store.failure = StoreError(Reason.SUPERSEDED, "epoch 2")
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    began = now()
    error = await ended(stage, call)
    assert isinstance(error, StoreError)
    assert error.reason is Reason.SUPERSEDED
    assert stage.observer.reports[0].reason is out.ClosedReason.SUPERSEDED
    assert stage.store.finished == []
    assert now() == began, "nothing can be stored any more, so nothing is to be waited for"
    assert closed(caller).reason is out.ClosedReason.SUPERSEDED


async def test_a_session_has_a_longest_life(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(life_max_seconds=600)
    began = now()

    async def talk() -> None:
        while not call.done():
            caller.say(b"audio")
            await asyncio.sleep(10.0)

    talking = asyncio.get_running_loop().create_task(talk())
    assert await ended(stage, call) is None
    assert 600.0 <= now() - began <= 602.0
    assert closed(caller).reason is out.ClosedReason.LIFE_OVER
    talking.cancel()


async def test_a_session_in_which_nothing_happens_ends(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    began = now()
    assert await ended(stage, call) is None
    assert 300.0 <= now() - began <= 302.0
    assert closed(caller).reason is out.ClosedReason.IDLE


@pytest.mark.parametrize("what", ["input", "events", "audio"])
async def test_a_session_in_which_something_happens_goes_on(stage: Stage, what: str) -> None:
    await stage.warm()
    caller, call = await stage.opened(idle_max_seconds=10)
    for _ in range(20):
        await asyncio.sleep(5.0)
        if what == "input":
            caller.say(b"audio")
        elif what == "events":
            stage.line.tell("conversation.item.done", item={"id": "i"})
        else:
            speak(stage.line)
    assert not call.done()


async def test_a_fault_of_ours_ends_one_session_with_a_word(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.break_down(RuntimeError("secret words"))
    with capture_logs() as logs:
        error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.INTERNAL
    assert "secret" not in error.message
    assert closed(caller).reason is out.ClosedReason.INTERNAL
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["session_failed"]


async def test_a_fault_of_ours_before_the_line_is_told_as_one_too(stage: Stage) -> None:
    await stage.warm()
    caller = Caller()
    caller.break_down(RuntimeError("a fault"))
    with capture_logs():
        error = await ended(stage, stage.serve(caller))
    assert error is not None
    assert error.reason is Reason.INTERNAL
    assert stage.observer.reports[0].error is Reason.INTERNAL


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
    assert caller.got == []


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


# Callers who go.


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


async def drive(stage: Stage, caller: Caller) -> None:
    """Answer the caller as a provider would, for as long as there is a session."""
    for _ in range(200):
        await turns(1)
        for line in stage.exchange.open_lines:
            if "response.create" in line.types() and not getattr(line, "answered", False):
                line.answered = True  # type: ignore[attr-defined]
                line.tell("response.created", response={"id": "r"})
                speak(line)
                line.tell("conversation.item.done", item={"id": "i"})
                line.tell("response.done", response={"id": "r", "status": "completed"})


@pytest.mark.parametrize("how", ["vanishes", "cancelled", "both"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("steps", range(0, 60, 2))
async def test_a_caller_may_go_at_every_await(*, how: str, warm: bool, steps: int) -> None:
    stage = Stage(ceiling=2)
    if warm:
        await stage.warm()
    caller = Caller()
    caller.say(out.OpenRequest(overrides={"instructions": "x"}), b"audio")
    caller.control("response.create")
    caller.say(out.Bye())
    driving = asyncio.get_running_loop().create_task(drive(stage, caller))
    call = stage.serve(caller)
    await turns(steps)
    if how in ("vanishes", "both"):
        caller.vanish()
    if how in ("cancelled", "both"):
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await driving
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
    await stage.warm()
    line = stage.exchange.lines[0]
    caller = Caller()
    caller.say(out.OpenRequest(), b"audio")
    caller.control("response.create")
    caller.say(out.Bye())
    driving = asyncio.get_running_loop().create_task(drive(stage, caller))
    call = stage.serve(caller)
    await turns(steps)
    line.lose()
    await ended(stage, call)
    await driving
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


# The report.


async def test_the_report_tells_the_whole_session(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(correlation_id="c-1")
    session_id, line = stage.session.id, stage.line
    caller.say(bytes(100), bytes(20))
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(0.5)
    speak(line)
    usage = {"input_tokens": 3, "output_tokens": 4}
    line.tell("response.done", response={"id": "r", "status": "completed", "usage": usage})
    await caller.until(out.ResponseDone)
    await asyncio.sleep(1.5)
    caller.say(out.Bye(now=True))
    await ended(stage, call)
    (report,) = stage.observer.reports
    assert (report.session_id, report.pool, report.principal) == (session_id, "default", ACME)
    assert (report.correlation_id, report.upstream_session_id, report.source) == ("c-1", "sess_1", "warm")
    assert (report.reason, report.error) == (out.ClosedReason.BYE_NOW, None)
    assert (report.duration_seconds, report.waited_seconds) == (2.0, 0.0)
    assert (report.audio_in_bytes, report.audio_out_bytes) == (120, 480)
    assert (report.frames_in, report.frames_out, report.responses) == (2, 3, 1)
    assert report.usage == out.Usage(input_tokens=3, output_tokens=4)


async def test_the_first_audio_of_an_answer_is_measured(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    line = stage.line
    line.tell("input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=100)
    await asyncio.sleep(0.25)
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(0.5)
    speak(line)
    line.tell("response.done", response={"id": "r", "status": "completed"})
    done = (await caller.until(out.ResponseDone)).event
    assert isinstance(done, out.ResponseDone)
    assert (done.speech_stopped_to_first_audio_ms, done.created_to_first_audio_ms) == (750, 500)
    assert stage.observer.first_audios == [("response_created", 0.5), ("speech_stopped", 0.75)]


async def test_an_event_too_large_for_a_message_comes_in_parts(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    frame = b'{"type":"new","data":"' + b"x" * (7 << 20) + b'"}'
    stage.line.tell_raw(frame)
    await caller.heard(4)
    parts = [each for each in caller.events() if isinstance(each, out.Raw)]
    assert [(each.part, each.parts) for each in parts] == [(0, 3), (1, 3), (2, 3)]
    assert b"".join(each.json for each in parts) == frame
    assert all(len(each.json) < 4 << 20 for each in parts)


async def test_a_sample_of_the_frames_is_timed(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    for _ in range(128):
        caller.say(b"audio")
        speak(stage.line)
    await turns(400)
    assert sorted(stage.observer.relays) == ["down", "down", "up", "up"]


# Endings.


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamError(Reason.UPSTREAM_STUCK, ""), out.ClosedReason.UPSTREAM),
        (StoreError(Reason.SUPERSEDED, ""), out.ClosedReason.SUPERSEDED),
        (StoreError(Reason.STORE_UNAVAILABLE, ""), out.ClosedReason.STORE),
        (CallerError(Reason.SLOW_CALLER, ""), out.ClosedReason.SLOW_CALLER),
        (CapacityError(Reason.DRAINING, ""), out.ClosedReason.DRAINING),
        (GatewayError(Reason.INTERNAL, ""), out.ClosedReason.INTERNAL),
    ],
)
def test_an_ending_is_called_by_its_error(error: GatewayError, reason: out.ClosedReason) -> None:
    assert Ending.of(error) == Ending(reason, error)


def test_who_is_gone_is_told_nothing() -> None:
    assert GONE.caller_gone
    assert GONE.error is None
