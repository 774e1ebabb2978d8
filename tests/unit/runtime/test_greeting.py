"""What goes up before the caller's own words: configuration, history, and the model's first words, unharmed."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import events as out
from tests.support.virtual_time import now, others, turns
from tests.unit.runtime.fakes import Caller, Line
from tests.unit.runtime.stage import LINE, Stage
from tests.unit.runtime.talk import closed, ended, speak

HELLO: Mapping[str, Any] = {"type": "conversation.item.create", "item": {"type": "message", "role": "user"}}
ANSWER: Mapping[str, Any] = {"type": "conversation.item.create", "item": {"type": "message", "role": "assistant"}}
PUSH_TO_TALK: Mapping[str, Any] = {"audio": {"input": {"turn_detection": None}}}
GREET = out.Greet()


def interrupts(line: Line) -> list[object]:
    """What went up about interruptions, in order."""
    updates = [event["session"] for event in line.sent if event["type"] == "session.update"]
    return [_detection(session).get("interrupt_response") for session in updates if _detection(session)]


def _detection(session: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = session
    for name in ("audio", "input", "turn_detection"):
        found = found.get(name) or {}
    assert isinstance(found, Mapping)
    return found


async def greeted(stage: Stage, **request: Any) -> tuple[Caller, Line]:
    """A caller that has been given its line, and has the first words asked for."""
    caller, _ = await stage.opened(**{"greet": GREET, **request})
    await turns(10)
    return caller, stage.line


# History.


async def test_history_goes_up_in_order_and_before_the_callers_own_words(stage: Stage) -> None:
    await stage.warm()
    caller = Caller()
    caller.say(out.OpenRequest(history=(HELLO, ANSWER, HELLO)), b"audio")
    stage.serve(caller)
    await caller.until(out.Opened)
    await turns(20)
    assert stage.line.types() == ["conversation.item.create"] * 3 + ["input_audio_buffer.append"]
    assert [event["item"]["role"] for event in stage.line.sent[:3]] == ["user", "assistant", "user"]


async def test_history_goes_up_behind_the_configuration_and_waits_for_no_answer(stage: Stage) -> None:
    await stage.warm()
    await stage.opened(overrides={"instructions": "x"}, history=(HELLO,))
    await turns(10)
    assert stage.line.types() == ["session.update", "conversation.item.create"]


async def test_a_refused_item_of_the_history_is_told_and_the_session_goes_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(history=(HELLO, ANSWER))
    await turns(10)
    first, second = (event["event_id"] for event in stage.line.sent)
    assert first != second
    stage.line.tell("error", error={"message": "no", "event_id": second})
    event = (await caller.until(out.ErrorEvent)).event
    assert isinstance(event, out.ErrorEvent)
    assert (event.cseq, event.client_event_id) == (0, "")
    assert not call.done()


async def test_history_goes_up_also_on_a_line_that_was_waited_for(stage: Stage) -> None:
    stage.exchange.delay_seconds = 0.5
    caller = Caller()
    caller.say(out.OpenRequest(history=(HELLO,), overrides={"instructions": "x"}), b"audio")
    stage.serve(caller)
    await caller.until(out.Opened)
    await turns(20)
    assert stage.line.types() == ["session.update", "conversation.item.create", "input_audio_buffer.append"]


# The first words.


async def test_the_first_words_are_asked_for_behind_the_history(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage, history=(HELLO,), greet=out.Greet(instructions="Say hello."))
    assert line.types() == ["session.update", "conversation.item.create", "response.create"]
    assert line.sent[-1]["response"] == {"instructions": "Say hello."}


async def test_first_words_without_instructions_are_the_templates(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage)
    assert set(line.sent[-1]) == {"type", "event_id"}


async def test_without_a_greeting_nothing_is_asked_for_and_nothing_guarded(stage: Stage) -> None:
    await stage.warm()
    await stage.opened()
    await asyncio.sleep(12.0)
    assert stage.line.sent == []


async def test_a_goodbye_waits_for_the_first_words(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(greet=GREET)
    line = stage.line
    caller.say(out.Bye())
    await asyncio.sleep(2.0)
    assert not call.done()
    line.tell("response.created", response={"id": "r"})
    speak(line)
    line.tell("response.done", response={"id": "r", "status": "completed"})
    assert await ended(stage, call) is None
    assert caller.kinds()[-2:] == [out.ResponseDone, out.Closed]


# The guard.


@pytest.mark.parametrize(("guard_ms", "seconds"), [(0, 1.5), (400, 0.4), (3000, 3.0)])
async def test_the_first_words_are_not_to_be_cut_until_they_have_been_heard_for_a_moment(
    stage: Stage, guard_ms: int, seconds: float
) -> None:
    await stage.warm()
    _, line = await greeted(stage, greet=out.Greet(guard_ms=guard_ms))
    assert interrupts(line) == [False]
    await asyncio.sleep(0.8)
    line.tell("response.created", response={"id": "r"})
    speak(line)
    await asyncio.sleep(seconds - 0.01)
    assert interrupts(line) == [False]
    await asyncio.sleep(0.11)
    assert interrupts(line) == [False, True]
    await asyncio.sleep(20.0)
    assert interrupts(line) == [False, True]


async def test_the_guard_changes_nothing_else_of_how_turns_end() -> None:
    detection = {"type": "semantic_vad", "eagerness": "low", "create_response": False}
    stage = Stage({"audio": {"input": {"turn_detection": detection}}})
    await stage.warm()
    _, line = await greeted(stage)
    speak(line)
    await asyncio.sleep(2.0)
    guard, _, lift = line.sent
    path = {"audio": {"input": {"turn_detection": {**detection, "interrupt_response": False}}}}
    assert guard["session"] == {"type": "realtime", **path}
    assert _detection(lift["session"]) == {**detection, "interrupt_response": True}
    assert set(lift["session"]) == {"type", "audio"}
    await stage.clear()


async def test_the_guard_is_part_of_a_configuration_that_goes_up_anyway() -> None:
    detection = {"type": "server_vad", "threshold": 0.7}
    stage = Stage({"audio": {"input": {"turn_detection": detection}}})
    await stage.warm()
    _, line = await greeted(stage, overrides={"instructions": "x"})
    assert line.types() == ["session.update", "response.create"]
    session = line.sent[0]["session"]
    assert (session["instructions"], _detection(session)) == ("x", {**detection, "interrupt_response": False})
    speak(line)
    await asyncio.sleep(2.0)
    assert interrupts(line) == [False, True]
    await stage.clear()


async def test_a_hello_during_the_first_words_cuts_nothing(stage: Stage) -> None:
    await stage.warm()
    caller, line = await greeted(stage)
    line.tell("response.created", response={"id": "r"})
    speak(line)
    await caller.until(out.OutputAudio)
    caller.may_write.clear()
    speak(line)
    line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=40)
    await turns(20)
    caller.may_write.set()
    await caller.until(out.SpeechStarted)
    assert out.Interrupted not in caller.kinds()
    assert caller.kinds().count(out.OutputAudio) == 2


async def test_the_guard_ends_with_the_first_words(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage, greet=out.Greet(guard_ms=5000))
    line.tell("response.created", response={"id": "r"})
    speak(line)
    line.tell("response.done", response={"id": "r", "status": "completed"})
    await asyncio.sleep(0.1)
    assert interrupts(line) == [False, True]


async def test_a_greeting_that_does_not_come_guards_nothing_for_ever(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage)
    await asyncio.sleep(9.9)
    assert interrupts(line) == [False]
    await asyncio.sleep(0.2)
    assert interrupts(line) == [False, True]


@pytest.mark.parametrize("change", [None, {"type": "semantic_vad"}])
async def test_a_caller_that_has_changed_how_turns_end_keeps_what_it_chose(
    stage: Stage, change: Mapping[str, Any] | None
) -> None:
    await stage.warm()
    caller, line = await greeted(stage)
    changed = {"audio": {"input": {"turn_detection": change}}}
    caller.control("session.update", session=changed)
    line.tell("session.updated", session=changed)
    speak(line)
    await asyncio.sleep(12.0)
    updates = [event for event in line.sent if event["type"] == "session.update"]
    assert len(updates) == 2
    assert updates[1]["session"]["audio"]["input"]["turn_detection"] == change


async def test_a_caller_that_has_changed_something_else_does_not_keep_the_guard(stage: Stage) -> None:
    await stage.warm()
    caller, line = await greeted(stage)
    caller.control("session.update", session={"instructions": "y"})
    speak(line)
    await asyncio.sleep(2.0)
    assert interrupts(line) == [False, True]


async def test_a_change_that_the_provider_refuses_does_not_keep_the_guard(stage: Stage) -> None:
    await stage.warm()
    caller, line = await greeted(stage)
    caller.control("session.update", session={"audio": {"input": {"turn_detection": {"type": "no_such_vad"}}}})
    await turns(5)
    line.tell("error", error={"type": "invalid_request_error", "event_id": line.sent[-1]["event_id"]})
    speak(line)
    await asyncio.sleep(2.0)
    assert interrupts(line)[-1] is True


async def test_what_else_the_caller_has_changed_meanwhile_stays_when_the_guard_is_lifted(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage)
    confirmed = {"type": "server_vad", "threshold": 0.6, "interrupt_response": False}
    line.tell("session.updated", session={"audio": {"input": {"turn_detection": confirmed}}})
    speak(line)
    await asyncio.sleep(2.0)
    lifted = line.sent[-1]["session"]["audio"]["input"]["turn_detection"]
    assert lifted == {**confirmed, "interrupt_response": True}


async def test_after_a_rejected_configuration_no_guard_is_lifted(stage: Stage) -> None:
    await stage.warm()
    caller, line = await greeted(stage)
    line.tell("error", error={"type": "invalid_request_error", "event_id": "tl-config"})
    speak(line)
    await asyncio.sleep(12.0)
    assert [event["event_id"] for event in line.sent if event["type"] == "session.update"] == ["tl-config"]
    assert out.ConfigRejected in caller.kinds()


@pytest.mark.parametrize("where", ["template", "overrides"])
async def test_push_to_talk_is_not_guarded(where: str) -> None:
    stage = Stage(PUSH_TO_TALK if where == "template" else None)
    await stage.warm()
    _, line = await greeted(stage, overrides=PUSH_TO_TALK if where == "overrides" else {})
    speak(line)
    await asyncio.sleep(12.0)
    assert interrupts(line) == []
    assert line.types() == (["session.update"] if where == "overrides" else []) + ["response.create"]
    await stage.clear()


async def test_who_only_transcribes_is_not_guarded() -> None:
    stage = Stage(line=replace(LINE, session_type="transcription"))
    await stage.warm()
    _, line = await greeted(stage)
    speak(line)
    await asyncio.sleep(12.0)
    assert interrupts(line) == []
    await stage.clear()


async def test_a_session_in_which_speech_never_interrupts_is_left_alone() -> None:
    stage = Stage({"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}})
    await stage.warm()
    _, line = await greeted(stage)
    speak(line)
    await asyncio.sleep(12.0)
    assert interrupts(line) == []
    await stage.clear()


@pytest.mark.parametrize(
    "session",
    [
        {"audio": "loud"},
        {"audio": {"input": "pcm16"}},
        {"audio": {"input": {"turn_detection": "server_vad"}}},
    ],
)
async def test_a_malformed_configuration_is_the_providers_to_refuse_also_with_a_greeting(
    stage: Stage, session: Mapping[str, Any]
) -> None:
    await stage.warm()
    _, line = await greeted(stage, overrides=session)
    assert line.types() == ["session.update", "response.create"]
    assert line.sent[0]["session"]["audio"] == session["audio"]


async def test_a_null_for_all_of_the_audio_is_the_providers_default_and_guarded_or_left_alone(stage: Stage) -> None:
    await stage.warm()
    _, line = await greeted(stage, overrides={"audio": None})
    speak(line)
    await asyncio.sleep(12.0)
    assert interrupts(line) in ([], [False, True])


async def test_a_goodbye_under_the_guard_leaves_nothing(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(greet=GREET)
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert closed(caller).reason is out.ClosedReason.BYE_NOW
    assert all(task.get_name().startswith("lines:") for task in await others())
