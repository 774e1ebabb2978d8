"""A session whose line is lost goes on with a fresh one, and its caller hears what that has cost."""

import asyncio
import base64
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason, UpstreamClosedError
from gateway.core.session import SessionState
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller, Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import closed, ended, speak

PIECE = bytes(range(96)) * 10


def states(caller: Caller) -> list[tuple[SessionState, str]]:
    changes = [event for event in caller.events() if isinstance(event, out.StateChanged)]
    return [(each.state, each.cause) for each in changes]


async def replaced(stage: Stage, line: Line) -> Line:
    """Wait for the session to have another line that was told everything."""
    await until(lambda: stage.session.state is SessionState.ACTIVE and stage.line is not line)
    await turns(10)
    return stage.line


async def lost(stage: Stage, line: Line) -> Line:
    line.lose()
    await turns(3)
    return await replaced(stage, line)


def say(caller: Caller, words: str, cseq: int = 0) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}
    caller.control("conversation.item.create", cseq, item=item)


def heard(line: Line) -> list[Any]:
    """What a line was told: words, audio, or what else was asked."""
    return [_content(event) for event in line.sent]


def _content(event: dict[str, Any]) -> Any:
    match event["type"]:
        case "conversation.item.create":
            (part,) = event["item"]["content"]
            return part.get("text") or base64.b64decode(part["audio"])
        case "input_audio_buffer.append":
            return base64.b64decode(event["audio"])
    return event["type"]


def answered(line: Line, words: str = "Foggy.", item_id: str = "a") -> None:
    line.tell("response.created", response={"id": "r"})
    line.tell("response.output_audio_transcript.delta", response_id="r", item_id=item_id, delta=words)
    speak(line)
    item = {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_audio", "transcript": words}],
    }
    line.tell("conversation.item.done", item=item)
    line.tell("response.done", response={"id": "r", "status": "completed"})


async def test_a_fresh_line_is_told_what_was_said_and_the_call_goes_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    say(caller, "Weather?")
    caller.control("response.create")
    await turns(5)
    first = stage.line
    answered(first)
    await caller.until(out.ResponseDone)
    second = await lost(stage, first)
    assert heard(second) == ["Weather?", "Foggy."]
    assert states(caller) == [(SessionState.RECOVERING, "line_lost"), (SessionState.ACTIVE, "line_replaced")]
    say(caller, "Thanks")
    caller.say(b"audio", out.Bye())
    assert await ended(stage, call) is None
    assert heard(second)[2:4] == ["Thanks", b"audio"]
    assert stage.observer.recoveries[0][:2] == ("line_lost", "ok")
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_lines_that_were_dead_when_they_came_are_no_fault_of_the_session(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    say(caller, "Weather?")
    await turns(5)
    line = stage.line
    answered(line)
    for _ in range(5):  # the one that has spoken, and four that never do
        line = await lost(stage, line)
    assert heard(line) == ["Weather?", "Foggy."]
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_an_answer_that_is_cut_off_is_told_and_not_made_twice(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("response.create")
    await turns(5)
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    first.tell("response.output_audio_transcript.delta", response_id="r", item_id="i", delta="It is foggy")
    for _ in range(3):
        speak(first)
    await caller.until(out.OutputAudio)
    await turns(5)
    second = await lost(stage, first)
    events = caller.events()
    (cut,) = [event for event in events if isinstance(event, out.Interrupted)]
    (done,) = [event for event in events if isinstance(event, out.ResponseDone)]
    assert (cut.cause, cut.sent_samples, cut.item_id) == (out.InterruptionCause.UPSTREAM_LOST, 720, "i")
    assert (done.response_id, done.status, done.status_reason) == ("r", "cancelled", "line_lost")
    assert events.index(cut) < events.index(done)
    assert heard(second) == ["It is foggy"]
    assert not stage.session.conversation.is_busy


async def test_audio_that_had_not_gone_out_counts_as_unheard(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.may_write.clear()
    first.tell("response.created", response={"id": "r"})
    for _ in range(5):
        speak(first)
    await turns(10)
    first.lose()
    await turns(10)
    caller.may_write.set()
    cut = (await caller.until(out.Interrupted)).event
    assert isinstance(cut, out.Interrupted)
    assert cut.sent_samples == 240 * caller.kinds().count(out.OutputAudio) < 1200


async def test_an_answer_that_is_asked_for_again_is_told_as_such(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("response.create")
    await turns(5)
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    await turns(5)
    second = await lost(stage, first)
    (done,) = [event for event in caller.events() if isinstance(event, out.ResponseDone)]
    assert (done.response_id, done.status, done.status_reason) == ("r", "cancelled", "asked_again")
    assert heard(second) == ["response.create"]


async def test_goodbye_waits_for_what_was_said_right_before_it(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    say(caller, "One more thing")
    caller.say(out.Bye())
    await asyncio.sleep(2.0)
    assert not call.done()
    line = stage.line
    line.tell("conversation.item.done", item={"id": line.sent[0]["item"]["id"], "type": "message", "role": "user"})
    assert await ended(stage, call) is None
    assert out.ItemDone in caller.kinds()


async def test_an_answer_that_nobody_had_heard_is_asked_for_again(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    say(caller, "Weather?")
    caller.control("response.create", response={"instructions": "Sing."})
    await turns(5)
    first = stage.line
    first.tell("response.created", response={"id": "r"})
    await turns(5)
    second = await lost(stage, first)
    assert heard(second) == ["Weather?", "response.create"]
    assert second.sent[-1]["response"] == {"instructions": "Sing."}
    answered(second)
    await turns(10)
    assert not stage.session.conversation.is_busy


async def test_a_turn_in_the_middle_is_heard_again_whole(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.say(*[PIECE] * 10)
    await turns(12)
    first.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    caller.say(*[PIECE] * 10)
    await turns(12)
    first.lose()
    caller.say(*[PIECE] * 10)  # while there is no line
    second = await replaced(stage, first)
    await until(lambda: len(b"".join(heard(second))) >= 30 * len(PIECE))
    assert b"".join(heard(second)) == PIECE * 30


async def test_what_is_said_while_a_fresh_line_is_told_comes_behind_it_in_order(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    for number in range(5):
        say(caller, f"before {number}")
    await turns(10)
    for line in stage.exchange.lines:
        if line is not first:
            line.may_send.clear()
    first.lose()
    await turns(10)
    assert stage.line is not first, "it has one, which takes nothing yet"
    for number in range(5):
        say(caller, f"meanwhile {number}")
    await turns(20)
    stage.line.may_send.set()
    await until(lambda: len(stage.line.sent) == 10)
    say(caller, "after")
    await until(lambda: len(stage.line.sent) == 11)
    said = [*(f"before {n}" for n in range(5)), *(f"meanwhile {n}" for n in range(5)), "after"]
    assert heard(stage.line) == said
    names = [event["item"]["id"] for event in stage.line.sent]
    assert len(set(names)) == len(names)


async def test_the_caller_hears_nothing_of_what_a_fresh_line_was_told(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened(overrides={"instructions": "Sing."})
    say(caller, "Weather?")
    await turns(5)
    stage.line.tell("conversation.item.done", item={"id": "item_tl_1", "type": "message", "role": "user"})
    await caller.until(out.ItemDone)
    second = await lost(stage, stage.line)
    assert [event["type"] for event in second.sent] == ["session.update", "conversation.item.create"]
    assert second.sent[0]["session"]["instructions"] == "Sing."
    before = len(caller.got)
    second.tell("session.updated", session={"instructions": "Sing."})
    item = {"id": second.sent[1]["item"]["id"], "type": "message", "role": "user"}
    second.tell("conversation.item.added", item=item)
    second.tell("conversation.item.done", item=item)
    await turns(10)
    assert len(caller.got) == before
    say(caller, "Thanks")
    await turns(5)
    item = {"id": second.sent[2]["item"]["id"], "type": "message", "role": "user"}
    second.tell("conversation.item.added", item=item)
    second.tell("conversation.item.done", item=item)
    await caller.heard(before + 2)
    assert caller.kinds()[-2:] == [out.Raw, out.ItemDone]


async def test_what_a_fresh_line_cannot_be_told_is_named(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    say(caller, "Weather?")
    await turns(5)
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    stage.line.tell("conversation.item.input_audio_transcription.failed", item_id="u", error={"code": "no_speech"})
    await caller.until(out.UserTranscript)
    second = await lost(stage, stage.line)
    event = {"code": "invalid_value", "message": "no", "event_id": second.sent[0]["event_id"]}
    second.tell("error", error=event)
    await turns(10)
    named = [e.unrestored_items for e in caller.events() if isinstance(e, out.StateChanged) and e.unrestored_items]
    assert named == [("u",), (second.sent[0]["item"]["id"],)]
    assert out.ErrorEvent not in caller.kinds()


async def test_a_session_of_a_drained_pool_gets_another_line_too(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    say(caller, "Weather?")
    await turns(5)
    stage.group.drain()
    await turns(10)
    second = await lost(stage, stage.line)
    assert heard(second) == ["Weather?"]


# Where it cannot be mended.


@pytest.mark.parametrize(("why", "words"), [("1000", ()), ("1006", ("session.updated",))], ids=["shut", "broken"])
async def test_lines_that_die_of_what_they_are_told_are_not_taken_one_after_the_other(
    why: str, words: tuple[str, ...], stage: Stage
) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    lines = list[Line]()
    while not call.done() and len(lines) < 10:
        line = stage.line
        if line not in lines:
            lines.append(line)
            for kind in words:
                line.tell(kind)
            line.lose(why)
        await asyncio.sleep(0.01)
    failure = await ended(stage, call)
    assert isinstance(failure, UpstreamClosedError)
    assert len(lines) == 3
    assert closed(caller).reason is out.ClosedReason.UPSTREAM


async def test_where_there_is_no_other_line_it_is_given_up_in_time_and_told_as_what_was_lost(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    first, began = stage.line, now()
    for line in stage.exchange.lines:
        if line is not first:
            line.lose()
    stage.exchange.fail(Reason.UPSTREAM_UNREACHABLE, 1000)
    first.lose()
    error = await ended(stage, call)
    assert error is not None
    assert (error.reason, now() - began <= 21) == (Reason.UPSTREAM_CLOSED, True)
    assert closed(caller).reason is out.ClosedReason.UPSTREAM
    assert stage.observer.recoveries[-1][:2] == ("line_lost", "failed")


async def test_a_caller_that_leaves_meanwhile_leaves_nothing_behind(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.exchange.may_answer.clear()
    for line in stage.exchange.lines:
        line.lose()
    await turns(10)
    assert stage.session.state is SessionState.RECOVERING
    caller.vanish()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    stage.exchange.may_answer.set()
    await stage.everything_is_given_back()


async def test_a_bye_while_there_is_no_line_is_answered(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    await turns(5)
    stage.exchange.may_answer.clear()
    for line in stage.exchange.lines:
        line.lose()
    await turns(10)
    caller.say(out.Bye())
    await turns(10)
    stage.exchange.answers = True
    stage.exchange.may_answer.set()
    assert await ended(stage, call) is None
    assert [e.status for e in caller.events() if isinstance(e, out.ResponseDone)] == ["completed"]


@pytest.mark.parametrize("steps", range(24))
async def test_the_next_line_may_be_lost_at_every_await_of_a_recovery(steps: int, stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    for number in range(3):
        say(caller, f"{number}")
    await turns(10)
    first = stage.line
    first.lose()
    await turns(steps)
    if stage.session.upstream_session_id != first.session_id and stage.line.is_open:
        stage.line.lose()
    await until(lambda: stage.session.state is SessionState.ACTIVE and stage.line.is_open and len(stage.line.sent) == 3)
    assert heard(stage.line) == ["0", "1", "2"]
    caller.say(out.Bye())
    assert await ended(stage, call) is None


async def test_a_fresh_line_that_takes_nothing_is_replaced_as_well(stage: Stage) -> None:
    stage.limit(restore_max_seconds=2.0)
    await stage.warm()
    caller, _ = await stage.opened()
    say(caller, "Weather?")
    await turns(5)
    first = stage.line
    stuck = [line for line in stage.exchange.lines if line is not first]
    for line in stuck:
        line.may_send.clear()
    began = now()
    first.lose()
    await until(lambda: stage.session.state is SessionState.ACTIVE and stage.line not in (first, *stuck))
    assert 2.0 <= now() - began <= 2.5 * len(stuck) + 2
    assert heard(stage.line) == ["Weather?"]
    for line in stuck:
        line.may_send.set()


async def test_who_sends_much_while_a_fresh_line_is_told_is_read_later(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    say(caller, "Weather?")
    await turns(5)
    stuck = [line for line in stage.exchange.lines if line is not first]
    for line in stuck:
        line.may_send.clear()
    first.lose()
    await turns(10)
    fresh = stage.line
    pieces = 30
    caller.say(*[bytes(100_000)] * pieces)
    await asyncio.sleep(1.0)
    relay_waits = caller._messages.qsize()
    assert relay_waits > pieces / 2, "the rest waits where the transport can tell the caller"
    for line in stuck:
        line.may_send.set()
    await until(lambda: len(fresh.sent) == 1 + pieces)


async def test_a_turn_that_a_goodbye_ended_is_heard_again_to_its_end_and_answered(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    caller.say(*[PIECE] * 10)
    await turns(12)
    first.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    await turns(5)
    caller.say(out.Bye())
    await turns(5)
    second = await lost(stage, first)
    again = b"".join(heard(second))
    assert again.startswith(PIECE * 10)
    assert len(again) >= 10 * len(PIECE) + 48 * 800, "the silence that ends the turn comes along"
    await asyncio.sleep(1.0)
    assert not call.done(), "the provider has time to hear it"
    second.tell("input_audio_buffer.committed", item_id="u")
    answered(second)
    second.tell("conversation.item.input_audio_transcription.completed", item_id="u", transcript="Weather?")
    assert await ended(stage, call) is None
    assert [e.status for e in caller.events() if isinstance(e, out.ResponseDone)] == ["completed"]


async def test_the_report_tells_of_the_line_that_the_session_was_opened_with(stage: Stage) -> None:
    caller, call = await stage.opened(wait_max_ms=2000)
    source = next(event.source for event in caller.events() if isinstance(event, out.Opened))
    await stage.warm()
    await lost(stage, stage.line)
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert stage.observer.reports[0].source == source.name.lower()
