"""What a caller with a bare stub gets in plain mode, over real gRPC."""

import asyncio
import json

import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.stack import Running, gateway_on, stack
from tests.support.upstream import Line, provider
from tests.support.waiting import eventually

AUDIO_DELTA = b'{"type":"response.output_audio.delta","response_id":"r1","item_id":"i1","delta":"AAAA"}'


async def ended_well(caller: Caller, reason: "event.ClosedReason.ValueType") -> None:
    """Read to the end, which is `closed` with a reason, and status OK."""
    seen = await caller.rest()
    assert seen[-1].WhichOneof("message") == "closed"
    assert seen[-1].closed.reason == reason
    assert (await caller.status()).code.name == "OK"


async def test_a_text_turn_brings_speech_with_its_words_usage_and_an_orderly_end() -> None:
    async with stack() as (running, _):
        await running.until_warm(1)
        caller = running.caller()
        opened = await caller.open()
        assert opened.source == types.LINE_SOURCE_WARM
        await caller.say("Hello there")
        await caller.answer_please()
        done = await caller.until("response_done")
        await caller.bye()
        await ended_well(caller, event.CLOSED_REASON_BYE)
        assert done.status == event.RESPONSE_STATUS_COMPLETED
        assert done.usage.output_audio_tokens > 0
        assert len(caller.audio()) > 24_000
        answer = next(each for each in caller.all("item_done") if each.role == "assistant")
        assert answer.text == "".join(each.delta for each in caller.all("transcript_delta"))
        assert caller.all("closed")[0].usage == done.usage


async def test_a_spoken_turn_is_heard_written_down_and_answered() -> None:
    question = speech.questions()[0]
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.speak(question.pcm)
        await caller.half_close()
        await ended_well(caller, event.CLOSED_REASON_BYE)
        kinds = [kind for kind in caller.kinds() if kind not in ("raw", "audio")]
        for earlier, later in (
            ("speech_started", "speech_stopped"),
            ("speech_stopped", "response_created"),
            ("response_created", "response_done"),
        ):
            assert kinds.index(earlier) < kinds.index(later)
        assert "input_committed" in kinds
        final = [each for each in caller.all("user_transcript") if each.final]
        assert [each.text for each in final] == [question.text]
        assert len(caller.audio()) > 24_000


async def test_a_turn_that_was_heard_is_answered_however_late_it_is_committed() -> None:
    """The end of speech and the commit are two events; a caller that has half-closed waits for both."""

    async def listen(line: Line) -> None:
        await line.hear()
        await line.say(started)
        await line.say(stopped)
        await asyncio.sleep(0.6)  # a slow provider
        await line.say(committed)
        await asyncio.sleep(0.6)
        await line.say(b'{"type":"response.created","response":{"id":"r1"}}')
        await line.say(AUDIO_DELTA)
        await line.say(b'{"type":"response.done","response":{"id":"r1","status":"completed"}}')
        await asyncio.sleep(0.6)
        await line.say(transcript)

    item = b'"item_id":"i1"'
    started = b'{"type":"input_audio_buffer.speech_started","audio_start_ms":1,' + item + b"}"
    stopped = b'{"type":"input_audio_buffer.speech_stopped","audio_end_ms":9,' + item + b"}"
    committed = b'{"type":"input_audio_buffer.committed",' + item + b"}"
    kind = b"conversation.item.input_audio_transcription.completed"
    transcript = b'{"type":"' + kind + b'","transcript":"Hello",' + item + b"}"
    async with provider(listen) as upstream, gateway_on(upstream) as running:
        caller = running.caller()
        await caller.open()
        await caller.send(audio=bytes(4800))
        await caller.half_close()
        await ended_well(caller, event.CLOSED_REASON_BYE)
        assert "input_committed" in caller.kinds()
        assert len(caller.all("response_done")) == 1
        assert [each.text for each in caller.all("user_transcript")] == ["Hello"]


async def test_control_events_are_numbered_without_gaps_and_live_ones_say_after_which() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say("Hello there")
        await caller.answer_please()
        await caller.half_close()
        # `queued` is on neither lane: it comes before there is a session.
        seen = [each for each in await caller.rest() if each.WhichOneof("message") != "queued"]
        numbered = [each for each in seen if each.seq]
        assert [each.seq for each in numbered] == list(range(1, len(numbered) + 1))
        assert {each.WhichOneof("message") for each in numbered} == {"opened", "item_done", "response_done", "closed"}
        assert all(each.epoch == 1 for each in seen)
        live = [each.after_seq for each in seen if not each.seq]
        assert live
        assert live == sorted(live)
        assert 1 <= live[0] <= live[-1] < numbered[-1].seq


async def test_audio_positions_count_the_samples_of_each_item() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        await caller.half_close()
        await caller.rest()
        expected = 0
        for each in caller.all("audio"):
            assert each.position == expected
            expected += len(each.data) // 2
        assert expected


@pytest.mark.parametrize("goodbye", ["bye", "half-close"])
async def test_half_close_is_the_same_as_bye(goodbye: str) -> None:
    """What is due is finished in both cases."""
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say("Hello there")
        await caller.answer_please()
        await (caller.bye() if goodbye == "bye" else caller.half_close())
        await ended_well(caller, event.CLOSED_REASON_BYE)
        assert [each.status for each in caller.all("response_done")] == [event.RESPONSE_STATUS_COMPLETED]
        assert len(caller.audio()) > 24_000


async def test_bye_now_cuts_the_answer() -> None:
    async with stack({"speed": 1}) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say("Hello there")
        await caller.answer_please()
        await caller.until("audio")
        await caller.bye(now=True)
        await ended_well(caller, event.CLOSED_REASON_BYE_NOW)
        assert "response_done" not in caller.kinds()
        await running.until_free()


async def test_cancelling_the_call_ends_the_session_and_frees_the_line() -> None:
    async with stack({"speed": 1}) as (running, provider):
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        await caller.until("audio")
        assert running.pool().leased == 1
        caller.cancel()
        await running.until_free()
        used = [each for each in provider.connections() if each["items"]]
        assert [each["state"] for each in used] == ["closed"]


async def test_a_caller_that_goes_while_nothing_is_due_frees_its_line_at_once() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        caller.cancel()
        # Far below the seconds that last words to a listening caller may take.
        await eventually(lambda: running.pool().leased == 0, "the line is free", seconds=1.0)


async def test_opened_tells_everything_that_a_caller_must_know() -> None:
    async with stack() as (running, provider):
        await running.until_warm(1)
        caller = running.caller()
        opened = await caller.open(correlation_id="call-7", life_max_seconds=60, idle_max_seconds=30)
        (line,) = [each for each in provider.connections() if each["state"] == "open"][:1]
        assert opened.session_id.startswith("sess_")
        assert opened.upstream_session_id == line["session_id"]
        assert opened.session_id != opened.upstream_session_id
        assert opened.owner_address == ""
        assert opened.durability == types.DURABILITY_PROCESS
        assert opened.limits == session.Limits(
            message_max_bytes=262_144,
            gateway_message_max_bytes=4 << 20,
            session_life_max_seconds=60,
            session_idle_max_seconds=30,
        )
        assert opened.heartbeat_ms == 1000
        assert opened.config == session.CONFIG_STATE_APPLIED
        assert opened.source == types.LINE_SOURCE_WARM
        assert opened.waited_ms == 0
        assert (opened.template, opened.model) == ("default", "gpt-realtime-2.1")
        assert len(opened.template_version) == 12
        assert opened.input_format == opened.output_format == types.AUDIO_FORMAT_PCM_24K
        assert opened.correlation_id == "call-7"
        assert opened.protocol_revision == 1
        assert not opened.features
        assert opened.resume_token == ""


async def test_a_caller_cannot_ask_for_more_life_than_the_gateway_gives() -> None:
    limits = {"session_life_max_seconds": 50, "session_idle_max_seconds": 40, "drain_seconds": 0.5}
    async with stack(limits=limits) as (running, _):
        opened = await running.caller().open(life_max_seconds=4000, idle_max_seconds=4000)
        assert opened.limits.session_life_max_seconds == 50
        assert opened.limits.session_idle_max_seconds == 40


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"life_max_seconds": 1}, event.CLOSED_REASON_LIFE_OVER),
        ({"idle_max_seconds": 1}, event.CLOSED_REASON_IDLE),
    ],
    ids=["life", "idle"],
)
async def test_a_session_ends_at_its_limit(asked: dict[str, int], reason: "event.ClosedReason.ValueType") -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open(**asked)
        await ended_well(caller, reason)
        await running.until_free()


async def test_audio_alone_is_not_idleness() -> None:
    async def speak(line: Line) -> None:
        await line.hear()
        for _ in range(10):
            await line.say(AUDIO_DELTA)
            await asyncio.sleep(0.25)  # the pace of this speaker
        await line.say(b'{"type":"response.done","response":{"id":"r1","status":"completed"}}')

    async with provider(speak) as upstream, gateway_on(upstream) as running:
        caller = running.caller()
        await caller.open(idle_max_seconds=1)
        await caller.answer_please()
        await caller.until("response_done")


async def test_cancelling_a_response_stops_it_and_the_session_goes_on() -> None:
    async with stack({"speed": 1}) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say("Hello there")
        await caller.answer_please()
        await caller.until("audio")
        await caller.ask(cancel=control.CancelResponse())
        done = await caller.until("response_done")
        assert done.status == event.RESPONSE_STATUS_CANCELLED
        await caller.answer_please(output_modality=control.OUTPUT_MODALITY_TEXT)
        again = await caller.until("response_done")
        assert again.status == event.RESPONSE_STATUS_COMPLETED
        await caller.bye()
        await ended_well(caller, event.CLOSED_REASON_BYE)


async def test_speech_over_an_answer_interrupts_it_and_says_what_was_sent() -> None:
    async with stack({"speed": 1}) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say("Tell me about the history of the telephone")
        # Nothing else is on its way through the store when the user cuts in.
        await caller.until("item_done")
        await caller.answer_please()
        await caller.until("audio")
        await caller.speak(speech.questions()[0].pcm)
        cut = await caller.until("interrupted")
        assert cut.cause == event.INTERRUPTION_CAUSE_SPEECH
        done = await caller.until("response_done")
        assert (done.status, done.status_reason) == (event.RESPONSE_STATUS_CANCELLED, "turn_detected")
        assert done.response_id == cut.response_id
        mine = [each for each in caller.all("audio") if each.item_id == cut.item_id]
        # What stood in the queue is dropped, so no more has come than the gateway counted.
        assert sum(len(each.data) for each in mine) // 2 <= cut.sent_samples
        kinds = caller.kinds()
        assert kinds.index("interrupted") < kinds.index("speech_started")


async def test_a_tool_is_called_and_its_result_is_used() -> None:
    overrides = control.SessionOverrides(
        tools=control.Tools(
            tools=[
                control.Tool(
                    name="get_weather",
                    description="Tells the weather",
                    parameters_json=json.dumps({"type": "object", "properties": {"city": {"type": "string"}}}),
                )
            ]
        ),
        output_modality=control.OUTPUT_MODALITY_TEXT,
    )
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open(overrides=overrides)
        await caller.say("What is the weather in London?")
        await caller.answer_please()
        call = await caller.until("tool_call")
        assert call.name == "get_weather"
        assert json.loads(call.arguments_json) == {"city": "London"}
        await caller.until("response_done")
        result = control.ToolResult(call_id=call.call_id, output="Foggy, 12 degrees", create_response=True)
        await caller.ask(tool_result=result)
        await caller.until("response_done")
        assert "".join(each.delta for each in caller.all("text_delta")) == "Foggy, 12 degrees"


async def test_rate_limits_have_a_typed_form() -> None:
    async with stack({"rate_limits": True}) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        limits = await caller.until("rate_limits")
        assert {each.name for each in limits.limits} >= {"tokens"}
        assert all(each.limit >= each.remaining for each in limits.limits)


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    async def one(running: Running, number: int) -> str:
        caller = running.caller()
        await caller.open()
        await caller.say(f"My name is Bob{number}. What is my name?")
        await caller.answer_please(output_modality=control.OUTPUT_MODALITY_TEXT)
        await caller.until("response_done")
        await caller.bye()
        await ended_well(caller, event.CLOSED_REASON_BYE)
        return "".join(each.delta for each in caller.all("text_delta"))

    pools = {"default": {"floor": 4, "ceiling": 16, "reserve": 0, "wait_max_ms": 8000}}
    async with stack(pools=pools) as (running, _):
        answers = await asyncio.gather(*(one(running, number) for number in range(12)))
        assert answers == [f"Your name is Bob{number}." for number in range(12)]
        await running.until_free()
