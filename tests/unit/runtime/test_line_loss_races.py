"""What else may happen while a session's line is replaced: ends, requests, further losses."""

import asyncio
import base64

import pytest
from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.session import SessionState
from gateway.runtime.session_options import Ending
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller, Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import PATIENT, Stage
from tests.unit.runtime.talk import Call, closed, ended, speak
from tests.unit.runtime.test_line_loss import heard, lost, replaced, say, states

LIFE = 60.0


async def without_a_line(stage: Stage) -> tuple[Caller, Call, Line]:
    """A session that looks for a fresh line, and finds none yet."""
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    stage.exchange.may_answer.clear()
    for line in stage.exchange.lines:
        line.lose()
    await asyncio.sleep(0.5)
    assert stage.session.state is SessionState.RECOVERING
    return caller, call, first


async def half_told(stage: Stage) -> tuple[Caller, Call, Line]:
    """A session whose fresh line takes nothing yet."""
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    say(caller, "Weather?")
    await turns(5)
    for line in stage.exchange.lines:
        if line is not first:
            line.may_send.clear()
    first.lose()
    await turns(10)
    assert stage.line is not first
    return caller, call, first


def let_all_send(stage: Stage) -> None:
    for line in stage.exchange.lines:
        line.may_send.set()


# Ends.


async def test_whoever_is_ended_meanwhile_is_told_why(stage: Stage) -> None:
    caller, call, _ = await without_a_line(stage)
    stage.session.end(Ending(out.ClosedReason.LIFE_OVER))
    assert await call is None
    assert closed(caller).reason is out.ClosedReason.LIFE_OVER


async def test_a_drain_meanwhile_is_told(stage: Stage) -> None:
    caller, call, _ = await without_a_line(stage)
    draining = asyncio.ensure_future(stage.directory.drain(0.0))
    assert await call is not None
    assert closed(caller).reason is out.ClosedReason.DRAINING
    await draining


async def test_an_end_while_a_fresh_line_is_told_is_no_fault(stage: Stage) -> None:
    caller, call, _ = await half_told(stage)
    caller.may_write.clear()
    with capture_logs() as logs:
        stage.session.end(Ending(out.ClosedReason.LIFE_OVER))
        await turns(5)
        let_all_send(stage)
        await turns(20)
        caller.may_write.set()
        await call
    assert [log for log in logs if log["event"] == "session_failed"] == []
    assert closed(caller).reason is out.ClosedReason.LIFE_OVER


async def test_a_goodbye_while_a_rotation_waits_for_its_line_is_a_goodbye(stage: Stage) -> None:
    stage.exchange.life_seconds = LIFE
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    await asyncio.sleep(LIFE * 0.8)
    stage.exchange.may_answer.clear()
    for line in stage.exchange.lines:
        if line is not first:
            line.lose()
    await asyncio.sleep(LIFE * 0.16)
    caller.say(out.Bye())
    assert await call is None
    assert closed(caller).reason is out.ClosedReason.BYE


# Further losses.


async def test_a_rotation_to_a_line_that_takes_nothing_ends_on_another_one(stage: Stage) -> None:
    stage.limit(restore_max_seconds=2.0)
    stage.exchange.life_seconds = LIFE
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    say(caller, "Weather?")
    await turns(10)
    mute: list[Line] = []

    def has_moved() -> bool:
        for line in stage.exchange.lines:
            if line is not first and line not in mute:
                line.may_send.clear()
                mute.append(line)
        return stage.line is not first

    await until(has_moved)
    await until(lambda: stage.line not in (first, *mute))
    await until(lambda: "line_replaced" in [cause for _, cause in states(caller)])
    let_all_send(stage)
    say(caller, "Thanks")
    await until(lambda: heard(stage.line) == ["Weather?", "Thanks"])
    assert stage.observer.rotations == [("expiry", "failed")]


async def test_a_line_that_dies_while_it_stands_by_is_not_moved_to(stage: Stage) -> None:
    stage.limit(watchdog=PATIENT)
    stage.exchange.life_seconds = LIFE
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    await asyncio.sleep(LIFE * 0.94)
    held = [lease.upstream for pool in stage.pools.values() for lease in pool.leases.values()]
    (standing_by,) = [line for line in held if line is not first]
    assert isinstance(standing_by, Line)
    standing_by.lose()
    await asyncio.sleep(0.2)
    first.tell("response.done", response={"id": "r", "status": "completed"})
    await until(lambda: stage.line is not first)
    await turns(20)
    assert stage.line is not standing_by
    assert [cause for _, cause in states(caller)] == ["rotation"]


async def test_what_could_not_be_restored_is_named_however_many_tries_it_takes(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    say(caller, "Weather?")
    await turns(5)
    first.tell("input_audio_buffer.committed", item_id="u")
    first.tell("conversation.item.input_audio_transcription.failed", item_id="u", error={"code": "no"})
    await caller.until(out.UserTranscript)
    for line in stage.exchange.lines:
        if line is not first:
            line.may_send.clear()
    first.lose()
    await turns(10)
    second = stage.line
    assert second is not first
    second.lose()
    let_all_send(stage)
    await until(lambda: stage.session.state is SessionState.ACTIVE and stage.line not in (first, second))
    await turns(10)
    named = [e.unrestored_items for e in caller.events() if isinstance(e, out.StateChanged) and e.unrestored_items]
    assert named == [("u",)]


async def test_a_provider_that_talks_and_reads_nothing_is_left(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    first, began = stage.line, now()
    first.may_send.clear()
    caller.say(b"ab")

    async def beat() -> None:
        while first.is_open:
            first.tell("rate_limits.updated", rate_limits=[])
            await asyncio.sleep(1.0)

    beating = asyncio.ensure_future(beat())
    await asyncio.sleep(29.0)
    assert stage.line is first
    second = await replaced(stage, first)
    assert 30 <= now() - began <= 32
    assert heard(second) == [b"ab"]
    first.may_send.set()  # as a socket that is closed lets go of who writes to it
    say(caller, "Hello")
    await until(lambda: len(second.sent) == 2)
    assert not call.done()
    await beating


# Requests.


async def test_what_is_cancelled_meanwhile_is_not_asked_for(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.control("response.create")
    await turns(5)
    stage.exchange.may_answer.clear()
    for line in stage.exchange.lines:
        line.lose()
    await turns(10)
    caller.control("response.cancel")
    await turns(5)
    stage.exchange.may_answer.set()
    assert (await replaced(stage, first)).sent == []


async def test_what_the_lost_line_had_not_answered_is_answered(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    say(caller, "x")
    caller.control("session.update", 7, session={"instructions": "Sing."})
    caller.control("conversation.item.delete", 8, item_id="item_tl_1")
    await turns(8)
    second = await lost(stage, stage.line)
    assert second.types() == ["session.update"]
    second.tell("session.updated", session=second.sent[0]["session"])
    await turns(10)
    assert [event.item_id for event in caller.events() if isinstance(event, out.ItemDeleted)] == ["item_tl_1"]
    assert caller.kinds().count(out.SessionUpdated) == 1


async def test_a_refusal_of_what_is_asked_again_names_the_control_that_asked(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("response.create", 42)
    await turns(5)
    second = await lost(stage, stage.line)
    second.tell("error", error={"message": "no", "code": "c", "event_id": second.sent[0]["event_id"]})
    refused = (await caller.until(out.ErrorEvent)).event
    assert isinstance(refused, out.ErrorEvent)
    assert refused.cseq == 42


async def test_a_truncation_of_what_a_fresh_line_knows_in_words_is_carried_out_here(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    delta = base64.b64encode(bytes(4800)).decode()
    first.tell("response.output_audio.delta", response_id="r", item_id="a", delta=delta)
    words = "It is foggy in London today"
    content = [{"type": "output_audio", "transcript": words}]
    item = {"id": "a", "type": "message", "role": "assistant", "content": content}
    first.tell("conversation.item.done", item=item)
    first.tell("response.done", response={"id": "r", "status": "completed"})
    await caller.until(out.ResponseDone)
    second = await lost(stage, first)
    caller.control("conversation.item.truncate", 3, item_id="a", content_index=0, audio_end_ms=40)
    cut = (await caller.until(out.ItemTruncated)).event
    assert cut == out.ItemTruncated("a", 40)
    assert second.types() == ["conversation.item.create"]
    third = await lost(stage, second)
    assert len(heard(third)[0]) < len(heard(second)[0])


async def test_a_turn_whose_words_will_not_come_any_more_is_told_so(stage: Stage) -> None:
    await stage.warm()
    transcription = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    caller, _ = await stage.opened(overrides=transcription)
    caller.say(bytes(960))
    await turns(5)
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    await caller.until(out.InputCommitted)
    second = await lost(stage, stage.line)
    told = (await caller.until(out.UserTranscript)).event
    assert told == out.UserTranscript("", "u", "line_lost")
    assert bytes(960) in heard(second), "the model hears it all the same"


@pytest.mark.parametrize("lift", [True, False])
async def test_speech_interrupts_again_though_the_line_was_lost_during_the_greeting(lift: bool, stage: Stage) -> None:  # noqa: FBT001
    await stage.warm()
    caller, _ = await stage.opened(greet=out.Greet())
    await turns(5)
    first = stage.line
    first.tell("session.updated", session=first.sent[0]["session"])
    first.tell("response.created", response={"id": "r"})
    speak(first)
    await turns(5)
    if lift:
        await until(lambda: first.types().count("session.update") == 2)
    second = await lost(stage, first)
    await asyncio.sleep(20.0)
    assert stage.session.conversation.turns.interrupt_response
    second.tell("response.created", response={"id": "q"})
    second.tell("response.output_audio.delta", response_id="q", item_id="j", delta="AAAA")
    await turns(8)
    second.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    await turns(8)
    cuts = [event.cause for event in caller.events() if isinstance(event, out.Interrupted)]
    assert cuts[-1] is out.InterruptionCause.SPEECH


async def test_an_answer_that_was_interrupted_already_is_cut_once(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    speak(first)
    await caller.until(out.OutputAudio)
    first.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    await caller.until(out.Interrupted)
    second = await lost(stage, first)
    assert caller.kinds().count(out.Interrupted) == 1
    assert second.types() == []
    caller.say(out.Bye(now=True))
    await ended(stage, call)
