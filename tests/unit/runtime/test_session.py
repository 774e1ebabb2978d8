"""One session while it lives, with every neighbour played, in virtual time."""

import asyncio
import base64

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason, StoreError
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import ACME
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import closed, ended, speak

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
