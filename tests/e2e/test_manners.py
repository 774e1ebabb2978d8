"""What a caller may ask of a session beyond a turn, and how it is told what it may not."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import pybase64
import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.processes import on_linux
from tests.support.simulated import simulated_provider
from tests.support.slots import figures
from tests.support.stack import UNLIMITED, gateway_on, pool, stack
from tests.support.upstream import Line, provider
from tests.support.waiting import eventually

TEXT: Final = control.OUTPUT_MODALITY_TEXT
SECOND: Final = bytes(48_000)
AUDIO: Final = b'{"type":"response.output_audio.delta","response_id":"r1","item_id":"i1","delta":"AAAA"}'
DONE: Final = b'{"type":"response.done","response":{"id":"r1","status":"completed"}}'
FORGOTTEN: Final = {"transcription": {"model": "gpt-realtime-whisper"}}
ONE_LINE: Final = {"default": pool(floor=1, ceiling=1)}


def words(caller: Caller) -> str:
    return "".join(each.delta for each in caller.all("text_delta"))


# The model speaks first.


async def test_a_greeted_caller_hears_the_model_without_asking() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open(greet=session.Greet(instructions="Say hello"))
        assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED
        assert len(caller.audio()) > 24_000
        await caller.bye()
        await caller.rest()
        assert caller.all("closed")[0].reason == event.CLOSED_REASON_BYE


@pytest.mark.parametrize("first", ["greeting", "greeting with overrides", "answer"])
async def test_a_hello_does_not_cut_a_greeting_as_it_would_cut_an_answer(first: str) -> None:
    guarded = first != "answer"
    hello = speech.questions()[1].pcm
    async with stack({"speed": 1.0}) as (running, _):
        caller = running.caller()
        opening: dict[str, Any] = {"greet": session.Greet(guard_ms=10_000)} if guarded else {}
        if first == "greeting with overrides":
            opening["overrides"] = control.SessionOverrides(voice="cedar")
        await caller.open(**opening)
        if not guarded:
            await caller.answer_please()
        await caller.until("audio")
        await caller.speak(hello)
        await caller.until("speech_started")
        if guarded:
            assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED
            assert caller.all("interrupted") == []
        else:
            cut = await caller.until("interrupted") if not caller.all("interrupted") else caller.all("interrupted")[0]
            assert cut.cause == event.INTERRUPTION_CAUSE_SPEECH


async def test_the_guard_is_lifted_once_the_greeting_was_heard_for_a_moment() -> None:
    heard: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def listen(line: Line) -> None:
        while (each := await line.hear()) is not None:
            heard.append(each)
            times.append(loop.time())
            if each["type"] == "session.update":  # confirmed, as the provider does
                await line.say(json.dumps({"type": "session.updated", "session": each["session"]}).encode())
            if each["type"] == "response.create":
                await line.say(b'{"type":"response.created","response":{"id":"r1"}}')
                await line.say(AUDIO)
            if len(heard) == 3:
                await line.say(DONE)

    async with provider(listen) as upstream, gateway_on(upstream, pools=ONE_LINE) as running:
        caller = running.caller()
        await caller.open(greet=session.Greet(instructions="Say hello", guard_ms=300))
        await caller.until("response_done")
    assert [each["type"] for each in heard] == ["session.update", "response.create", "session.update"]
    guards = [heard[at]["session"]["audio"]["input"]["turn_detection"]["interrupt_response"] for at in (0, 2)]
    assert guards == [False, True]
    assert heard[1]["response"] == {"instructions": "Say hello"}
    assert 0.3 <= times[2] - times[1] < 1.5


# What was said before, and what is said beside.


async def test_history_comes_before_the_callers_own_words() -> None:
    history = [
        session.HistoryItem(role=control.ROLE_USER, text="My name is Bob."),
        session.HistoryItem(role=control.ROLE_ASSISTANT, text="Hello Bob."),
        session.HistoryItem(tool_call=session.HistoryToolCall(call_id="c1", name="f", arguments_json="{}")),
        session.HistoryItem(tool_result=control.ToolResult(call_id="c1", output="42")),
    ]
    async with stack() as (running, sim):
        caller = running.caller()
        await caller.open(history=history)
        await caller.say("What is my name?")
        await caller.answer_please(output_modality=TEXT)
        await caller.until("response_done")
        assert words(caller) == "Your name is Bob."
        assert caller.all("error") == []
        (line,) = [each for each in sim.connections() if each["items"]]
        assert line["items"] == len(history) + 2


async def test_history_that_cannot_be_is_refused_before_a_line_is_used() -> None:
    async with stack() as (running, provider):
        for item in (session.HistoryItem(), session.HistoryItem(tool_result=control.ToolResult(output="x"))):
            assert (await running.caller().refused(history=[item])).reason == "INVALID_FRAME"
        assert running.pool().leased == 0
        await running.until_warm(1)
        assert len(provider.connections()) == 1


async def test_an_answer_beside_the_conversation_leaves_no_trace_in_it() -> None:
    async with stack() as (running, sim):
        caller = running.caller()
        await caller.open()
        await caller.answer_please(out_of_band=True, output_modality=TEXT, metadata={"purpose": "side"})
        done = await caller.until("response_done")
        assert dict(done.metadata) == {"purpose": "side"}
        assert done.status == event.RESPONSE_STATUS_COMPLETED
        assert words(caller)
        assert all(each["items"] == 0 for each in sim.connections())


async def test_a_session_that_only_writes_down_hears_and_does_not_answer() -> None:
    question = speech.questions()[2]
    templates = {
        "default": {
            "model": "gpt-realtime",
            "session": {
                "type": "transcription",
                "audio": {"input": {**FORGOTTEN, "turn_detection": {"type": "server_vad"}}},
            },
        }
    }
    async with stack(templates=templates) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.speak(question.pcm + SECOND)
        final = await caller.until("user_transcript")
        while not final.final:
            final = await caller.until("user_transcript")
        assert final.text == question.text
        await caller.bye()
        await caller.rest()
        assert caller.all("response_created") == []
        assert caller.all("closed")[0].reason == event.CLOSED_REASON_BYE


# What a running session may not become.


async def test_a_change_of_what_was_fixed_when_the_line_was_dialled_is_refused_and_the_session_goes_on() -> None:
    def raw(**fields: Any) -> dict[str, Any]:
        return {"raw": control.RawEvent(json=json.dumps({"type": "session.update", "session": fields}))}

    def typed(**fields: Any) -> dict[str, Any]:
        overrides = control.SessionOverrides(session_json=json.dumps(fields))
        return {"update_session": control.UpdateSession(overrides=overrides)}

    asked: Sequence[dict[str, Any]] = (
        raw(type="realtime", model="gpt-realtime-mini"),
        raw(type="transcription"),
        typed(model="gpt-realtime-mini"),
        typed(type="transcription"),
    )
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        for cseq, fields in enumerate(asked, start=1):
            await caller.ask(cseq=cseq, **fields)
            error = await caller.until("error")
            assert (error.reason, error.cseq) == (errors.ERROR_REASON_OVERRIDE_REFUSED, cseq)
        await caller.ask(
            update_session=control.UpdateSession(overrides=control.SessionOverrides(instructions="Be kind"))
        )
        assert json.loads((await caller.until("session_updated")).session_json)["instructions"] == "Be kind"
        await caller.answer_please(output_modality=TEXT)
        assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def test_an_end_users_name_is_refused_where_the_account_takes_none() -> None:
    async with stack() as (running, provider):
        await running.until_warm(1)
        for name in ("hashed-user", "x" * 65, "two\nlines"):
            status = await running.caller().refused(safety_identifier=name)
            assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SAFETY_IDENTIFIER_REFUSED")
        assert len(provider.connections()) == 1


# One end user's line.


END_USERS: Final = {"main": {**UNLIMITED["main"], "safety": "end_user"}}


async def test_a_line_for_an_end_user_is_dialled_under_its_name_and_never_taken_from_the_shelf() -> None:
    pools = {"default": pool(floor=1, ceiling=4, demand={"enabled": False})}
    async with stack({"created_delay_ms": 100}, pools=pools, accounts=END_USERS) as (running, sim):
        await running.until_warm(1)
        (warm,) = [each["session_id"] for each in sim.connections()]
        callers = {name: running.caller() for name in ("hash-1", "hash-2")}
        opened = dict(
            zip(
                callers,
                await asyncio.gather(*(each.open(safety_identifier=name) for name, each in callers.items())),
                strict=True,
            )
        )
        names = {each["session_id"]: each["safety_identifier"] for each in sim.connections()}
        for name, each in opened.items():
            assert each.source == types.LINE_SOURCE_DIALLED
            assert names[each.upstream_session_id] == name
            assert each.waited_ms >= 100
        assert dict(running.gateway.pools["default"].acquires) == {"dialled": 2}
        # The shelf was left alone, and serves who has no name.
        nameless = await running.caller().open()
        assert (nameless.source, nameless.upstream_session_id) == (types.LINE_SOURCE_WARM, warm)
        assert names[warm] is None


async def test_an_end_users_line_whose_caller_is_gone_goes_to_nobody_else() -> None:
    pools = {"default": pool(floor=0, ceiling=4, demand={"enabled": False})}
    async with stack({"created_delay_ms": 400}, pools=pools, accounts=END_USERS) as (running, sim):
        gone = running.caller()
        await gone.send(open=session.Open(safety_identifier="hash-1"))
        await eventually(lambda: len(sim.connections()) == 1, "it is dialled")
        gone.cancel()
        await eventually(lambda: running.pool().total == 0, "nothing is kept of it")
        assert (await running.caller().open()).source == types.LINE_SOURCE_WAITED
        assert [each["safety_identifier"] for each in sim.connections()][-1] is None


# Too fast.


async def test_audio_faster_than_speech_is_slowed_and_none_of_it_is_lost() -> None:
    heard = bytearray()

    async def listen(line: Line) -> None:
        while (each := await line.hear()) is not None:
            if each["type"] == "input_audio_buffer.append":
                heard.extend(pybase64.b64decode(each["audio"]))
            elif each["type"] == "response.create":
                await line.say(DONE)

    seconds = 9
    pcm = b"".join(number.to_bytes(2, "little") * 24_00 for number in range(seconds * 10))
    async with provider(listen) as upstream, gateway_on(upstream, pools=ONE_LINE) as running:
        caller = running.caller()
        await caller.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await caller.speak(pcm)
        await caller.answer_please()
        await caller.until("response_done")
        lasted = loop.time() - began
    figures("audio faster than speech", n=1, speech_s=seconds, taken_in_s=round(lasted, 2))
    assert bytes(heard[: len(pcm)]) == pcm
    # Five seconds at once, the rest at twice the pace of speech.
    assert (seconds - 5) / 2 - 0.1 <= lasted < seconds


async def test_a_flood_of_controls_ends_the_session_as_too_fast() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        for _ in range(1500):
            await caller.ask(clear=control.ClearAudio())
        await caller.rest()
        status = await caller.status()
        assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert status.info.metadata["retryable"] == "true"
        (closed,) = caller.all("closed")
        assert closed.error.reason == errors.ERROR_REASON_RATE_LIMITED
        await running.until_free()


# A provider that stands still.


async def _noticed(caller: Caller) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    changed = await caller.until("state_changed")
    assert (changed.state, changed.cause) == (types.SESSION_STATE_RECOVERING, "line_lost")
    return loop.time() - began


@on_linux
async def test_a_frozen_provider_is_noticed_within_three_seconds_in_an_answer_and_six_in_silence() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder,
        simulated_provider(Path(folder), speed=1.0) as sim,
    ):
        pools = {"default": pool(floor=2, ceiling=4, demand={"enabled": False})}
        async with gateway_on(sim.url, pools=pools) as running:
            await running.until_warm(2)
            idle, busy = running.caller(), running.caller()
            await idle.open()
            await busy.open()
            await busy.say("Tell me about the history of the telephone.")
            await busy.answer_please()
            await busy.until("audio")
            sim.freeze()
            try:
                idle_seconds, busy_seconds = await asyncio.gather(_noticed(idle), _noticed(busy))
            finally:
                sim.thaw()
            figures("frozen provider", n=2, idle_s=round(idle_seconds, 2), busy_s=round(busy_seconds, 2))
            # A busy machine adds its own delays to ours.
            assert idle_seconds <= 6.2
            assert busy_seconds <= 3.2
            for caller in (idle, busy):
                changed = await caller.until("state_changed")
                assert (changed.state, changed.cause) == (types.SESSION_STATE_ACTIVE, "line_replaced")
                await caller.bye()
                await caller.rest()
                assert (await caller.status()).code is grpc.StatusCode.OK
            await running.until_free()
            await running.until_warm(2)
