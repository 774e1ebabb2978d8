"""What the gateway refuses, by which status and reason, and what goes on after it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.stack import gateway_on, pool, simulator, stack
from tests.support.upstream import Line, provider
from tests.support.waiting import eventually

DEEP = "[" * 100_000
# As deep as parsers take, but not what walks over the result.
NESTED = '{"a":' * 900 + "1" + "}" * 900
NESTED_FAR = '{"a":' * 5000 + "1" + "}" * 5000


async def still_answers(caller: Caller) -> None:
    """Show that the session goes on."""
    await caller.answer_please(output_modality=control.OUTPUT_MODALITY_TEXT)
    done = await caller.until("response_done")
    assert done.status == event.RESPONSE_STATUS_COMPLETED


async def test_a_first_message_that_is_not_open_ends_the_call() -> None:
    messages: dict[str, dict[str, Any]] = {
        "audio": {"audio": b"\0\0"},
        "control": {"control": control.Control(create_response=control.CreateResponse())},
        "bye": {"bye": session.Bye()},
        "nothing": {},
    }
    async with stack() as (running, _):
        found = {}
        for name, first in messages.items():
            caller = running.caller()
            await (caller.send(**first) if first else caller.half_close())
            assert await caller.rest() == []
            status = await caller.status()
            found[name] = (status.code, status.reason)
        refusal = (grpc.StatusCode.INVALID_ARGUMENT, "FIRST_FRAME_EXPECTED")
        assert found == dict.fromkeys(messages, refusal)
        assert running.pool().leased == 0


async def test_a_second_open_is_refused_and_the_session_goes_on() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        first = await caller.open()
        await caller.send(open=session.Open())
        error = await caller.until("error")
        assert error.reason == errors.ERROR_REASON_ALREADY_OPEN
        await still_answers(caller)
        assert [each.session_id for each in caller.all("opened")] == [first.session_id]


async def test_an_unknown_template_is_not_found_and_the_known_ones_are_named() -> None:
    async with stack() as (running, _):
        status = await running.caller().refused(template="nonesuch")
        assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TEMPLATE")
        assert "default" in status.text


async def test_an_override_that_cannot_be_is_refused_with_its_reason() -> None:
    asked: dict[str, dict[str, Any]] = {
        "model": {"session_json": '{"model": "gpt-realtime-mini"}'},
        "type": {"session_json": '{"type": "transcription"}'},
        "a list": {"session_json": "[1]"},
        "broken": {"session_json": "{"},
        "deep": {"session_json": DEEP},
        "nested far": {"session_json": NESTED_FAR},
        "surrogate": {"session_json": '{"instructions": "\\ud800"}'},
        "tool parameters": {"tools": control.Tools(tools=[_tool("7")])},
        "deep tool parameters": {"tools": control.Tools(tools=[_tool(DEEP)])},
    }
    async with stack() as (running, _):
        found = {}
        for name, fields in asked.items():
            overrides = control.SessionOverrides(**fields)
            caller = running.caller()
            await caller.send(open=session.Open(overrides=overrides))
            await caller.rest()
            found[name] = await _how_it_ended(caller)
        assert found == dict.fromkeys(asked, ("INVALID_ARGUMENT", "OVERRIDE_REFUSED", "false"))
        assert running.pool().leased == 0


def _tool(parameters: str) -> control.Tool:
    return control.Tool(name="f", parameters_json=parameters)


async def _how_it_ended(caller: Caller) -> tuple[str, ...]:
    status = await caller.status()
    info = status.detail(error_details_pb2.ErrorInfo)
    if info is None:
        return (status.code.name,)
    return (status.code.name, info.reason, info.metadata["retryable"])


async def test_an_override_of_the_wrong_shape_is_the_callers_fault_not_ours() -> None:
    """Refused by us at once, or by the provider as `config_rejected`: never an unknown fault."""
    shapes: tuple[dict[str, Any], ...] = (
        {"audio": 5},
        {"audio": {"input": 7}},
        {"audio": {"input": {"format": "x"}}},
        {"audio": {"input": {"turn_detection": "x"}}},
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": "x"}}}},
        {"audio": {"output": {"format": ["x"]}}},
        json.loads(NESTED),
    )
    async with stack() as (running, _):
        found = []
        for shape in shapes:
            caller = running.caller()
            overrides = control.SessionOverrides(session_json=json.dumps(shape))
            await caller.send(open=session.Open(overrides=overrides))
            while (message := await caller.read()) is not None:
                if message.WhichOneof("message") == "config_rejected":
                    caller.cancel()
                    found.append("refused")
                    break
            else:
                _, *reason = await _how_it_ended(caller)
                found.append("refused" if reason[:1] == ["OVERRIDE_REFUSED"] else str(reason))
        assert found == ["refused"] * len(shapes)


async def test_a_configuration_that_the_provider_refuses_comes_as_config_rejected() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        overrides = control.SessionOverrides(voice="nobody")
        opened = await caller.open(overrides=overrides)
        assert opened.config == session.CONFIG_STATE_SENT
        rejected = await caller.until("config_rejected")
        assert rejected.param == "session.audio.output.voice"
        assert rejected.error.upstream_code == "invalid_value"
        assert rejected.error.reason in (errors.ERROR_REASON_INVALID_FRAME, errors.ERROR_REASON_CONFIG_REJECTED)


async def test_a_message_that_is_too_large_is_refused_and_the_session_goes_on() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        opened = await caller.open()
        await caller.send(audio=bytes(opened.limits.message_max_bytes + 2))
        error = await caller.until("error")
        assert error.reason == errors.ERROR_REASON_MESSAGE_TOO_LARGE
        await caller.send(audio=bytes(opened.limits.message_max_bytes))
        await caller.ask(text=control.TextInput(text="x" * opened.limits.message_max_bytes), cseq=3)
        error = await caller.until("error")
        assert (error.reason, error.cseq) == (errors.ERROR_REASON_MESSAGE_TOO_LARGE, 3)
        await still_answers(caller)


async def test_every_one_of_the_providers_client_events_may_be_sent_as_json() -> None:
    async with stack() as (running, provider):
        caller = running.caller()
        await caller.open()
        item = {
            "id": "tag-raw",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "My name is Bob. What is my name?"}],
        }
        for raw in (
            {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief"}},
            {"type": "conversation.item.create", "item": item},
            {"type": "response.create", "response": {"output_modalities": ["text"]}},
        ):
            await caller.ask(raw=control.RawEvent(json=json.dumps(raw)))
        await caller.until("response_done")
        (update,) = caller.all("session_updated")
        assert json.loads(update.session_json)["instructions"] == "Be brief"
        assert "".join(each.delta for each in caller.all("text_delta")) == "Your name is Bob."
        assert any(each["session_tags"] == ["tag-raw"] for each in provider.connections())


async def test_a_refusal_by_the_provider_names_the_callers_own_event() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        raw = {"type": "conversation.item.delete", "item_id": "none", "event_id": "mine-1"}
        await caller.ask(raw=control.RawEvent(json=json.dumps(raw)), cseq=5)
        error = await caller.until("error")
        assert error.client_event_id == "mine-1"
        assert error.upstream_code == "item_delete_invalid_item_id"
        await caller.ask(cancel=control.CancelResponse(response_id="resp_none"), cseq=6)
        error = await caller.until("error")
        assert (error.cseq, error.client_event_id) == (6, "")
        await still_answers(caller)


async def test_json_that_is_no_client_event_is_refused_and_the_session_goes_on() -> None:
    texts = {
        "broken": "{",
        "empty": "",
        "null": "null",
        "list": "[]",
        "string": '"x"',
        "no type": "{}",
        "type of 5": '{"type": 5}',
        "unknown type": '{"type": "nonesuch"}',
        "server event": '{"type": "session.created"}',
        "deep": DEEP,
        "deep in an object": '{"a":' + DEEP,
        "lone surrogate": '{"type":"response.cancel","response_id":"\\ud800"}',
        "surrogate id": '{"type":"response.cancel","event_id":"\\udc00"}',
        "surrogate type": '{"type": "\\ud800"}',
        "huge number": '{"type":"response.create","response":{"max_output_tokens":'
        + "9" * 40 + "}}",
        "not a number": '{"type":"response.create","response":{"temperature":NaN}}',
        "nested": '{"type":"response.create","response":' + NESTED + "}",
        "nested far": '{"type":"response.create","response":' + NESTED_FAR + "}",
    }  # fmt: skip
    asked = {name: {"raw": control.RawEvent(json=text)} for name, text in texts.items()}
    assert await _answers_to(asked) == dict.fromkeys(asked, "refused, and it goes on")


async def test_a_control_that_cannot_be_is_refused_and_the_session_goes_on() -> None:
    def create(text: str) -> control.CreateResponse:
        return control.CreateResponse(response_json=text)

    wrong = control.SessionOverrides(session_json="{")
    asked: dict[str, dict[str, Any]] = {
        "deep": {"create_response": create(DEEP)},
        "surrogate": {"create_response": create('{"metadata":{"a":"\\ud800"}}')},
        "infinite": {"create_response": create('{"max_output_tokens":1e400}')},
        "update": {"update_session": control.UpdateSession(overrides=wrong)},
        "truncate": {"truncate": control.TruncateItem()},
        "tool result": {"tool_result": control.ToolResult()},
        "empty": {},
    }
    assert await _answers_to(asked) == dict.fromkeys(asked, "refused, and it goes on")


async def _answers_to(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Ask each of a session of its own; say how it took it."""
    found = {}
    async with stack() as (running, _):
        for name, fields in asked.items():
            caller = running.caller()
            await caller.open()
            await caller.ask(cseq=9, **fields)
            try:
                error = await caller.until("error")
                assert error.cseq == 9
                assert len(error.message) < 300
                await still_answers(caller)
                found[name] = "refused, and it goes on"
            except AssertionError as failure:
                found[name] = str(failure)[:200]
            caller.cancel()
    return found


async def test_a_part_of_open_that_is_not_served_is_refused_by_name() -> None:
    asked: dict[str, Any] = {"idempotency_key": "x"}
    async with stack() as (running, _):
        for name, value in asked.items():
            status = await running.caller().refused(**{name: value})
            assert (status.code, status.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED_YET")
            assert name in status.text


async def test_a_token_of_nobodys_opens_nothing() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.send(resume=session.Resume(token="x"))
        assert await caller.rest() == []
        status = await caller.status()
        assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESUME_REFUSED")


async def test_nothing_is_made_ready_for_who_has_no_token() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.send(resume=session.Resume(token="x", mode=session.RESUME_MODE_PREPARE))
        assert await caller.rest() == []
        assert (await caller.status()).reason == "RESUME_REFUSED"
        assert running.pool().leased == 0


async def test_marks_are_bounded() -> None:
    async with stack() as (running, _):
        for asked in (
            {"correlation_id": "x" * 129},
            {"metadata": {str(each): "x" for each in range(17)}},
        ):
            assert (await running.caller().refused(**asked)).reason == "INVALID_FRAME"


# Capacity.

FULL = {"default": pool(floor=1, ceiling=1, waiters_max=2, wait_max_ms=4000)}


async def test_callers_wait_first_in_first_out_then_are_refused_with_numbers() -> None:
    async with stack(pools=FULL) as (running, _):
        holder = running.caller()
        await holder.open()
        waiters = [running.caller() for _ in range(2)]
        for place, waiter in enumerate(waiters, start=1):
            await waiter.send(open=session.Open())
            queued = await waiter.until("queued")
            assert queued.position == place
            assert 3000 <= queued.waited_ms + queued.remaining_ms <= 4000
        status = await running.caller().refused()
        assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert status.info.metadata["retryable"] == "true"
        assert status.retry_seconds is not None
        assert status.retry_seconds > 0
        assert status.numbers == errors.PoolNumbers(
            scope="pool", pool="default", total=1, leased=1, warm=0, dialling=0, waiting=2
        )
        first, second = waiters
        await holder.bye()
        assert (await first.until("opened")).source == types.LINE_SOURCE_WAITED
        assert (await second.until("queued")).position == 1
        assert second.kinds() == ["queued", "queued"]
        await first.bye()
        assert (await second.until("opened")).source == types.LINE_SOURCE_WAITED


@pytest.mark.parametrize("by", ["wait_max_ms", "deadline"])
async def test_a_caller_waits_as_long_as_it_asked_and_not_longer(by: str) -> None:
    """Every line is in use all the while, and that is what it is told."""
    async with stack(pools=FULL) as (running, _):
        await running.caller().open()
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        asked = {"wait_max_ms": 300} if by == "wait_max_ms" else {}
        caller = running.caller(deadline_seconds=60 if asked else 0.6)
        status = await caller.refused(**asked)
        waited = loop.time() - asked_at
        if asked:
            assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
            assert status.numbers is not None
            assert (status.numbers.total, status.numbers.leased) == (1, 1)
            assert status.retry_seconds
        else:  # who is faster, the caller's own clock or the gateway's answer, is chance
            assert status.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert 0.29 <= waited < 1.0
        queued = caller.all("queued")[0]
        assert (queued.position, queued.remaining_ms <= (300 if asked else 600)) == (1, True)
        await eventually(lambda: running.pool().waiting == 0, "nobody waits", seconds=1)


async def test_a_line_that_comes_too_late_is_a_timeout_with_numbers_and_stays_for_the_next_caller() -> None:
    pools = {"default": pool(floor=0, ceiling=2, wait_max_ms=4000, demand={"enabled": False})}
    async with stack({"created_delay_ms": 700}, pools=pools) as (running, provider):
        caller = running.caller()
        status = await caller.refused(wait_max_ms=300)
        assert (status.code, status.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT")
        assert status.info.metadata["retryable"] == "true"
        assert status.numbers == errors.PoolNumbers(scope="pool", pool="default", total=1, dialling=1)
        assert status.retry_seconds
        await running.until_warm(1)
        assert (await running.caller().open()).source == types.LINE_SOURCE_WARM
        assert len(provider.connections()) == 1


async def test_a_waiter_that_hangs_up_leaves_the_queue() -> None:
    async with stack(pools=FULL) as (running, _):
        await running.caller().open()
        waiter = running.caller()
        await waiter.send(open=session.Open())
        await eventually(lambda: running.pool().waiting == 1, "it waits")
        waiter.cancel()
        await eventually(lambda: running.pool().waiting == 0, "the queue is empty")


async def test_past_the_gateways_own_limit_callers_are_sent_elsewhere() -> None:
    async with stack(limits={"sessions_max": 1, "drain_seconds": 0.5}) as (running, _):
        await running.caller().open()
        status = await running.caller().refused()
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        assert status.retry_seconds == 1.0


# The provider.


async def test_a_provider_that_is_not_there_is_unreachable() -> None:
    async with gateway_on("ws://127.0.0.1:19999/v1/realtime") as running:
        status = await running.caller().refused(wait_max_ms=300)
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNREACHABLE")
        assert status.info.metadata["retryable"] == "true"


@pytest.mark.parametrize(
    ("http", "code", "reason"),
    [
        (401, grpc.StatusCode.FAILED_PRECONDITION, "UPSTREAM_REFUSED_KEY"),
        (403, grpc.StatusCode.FAILED_PRECONDITION, "UPSTREAM_REFUSED_KEY"),
        (404, grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_MODEL"),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED"),
        (500, grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNREACHABLE"),
    ],
)
async def test_a_refused_handshake_has_the_name_of_its_cause(http: int, code: grpc.StatusCode, reason: str) -> None:
    async def nothing(_: Line) -> None:
        return

    async with provider(nothing, status=http) as upstream, gateway_on(upstream) as running:
        status = await running.caller().refused(wait_max_ms=300)
        assert (status.code, status.reason) == (code, reason)


@pytest.mark.heavy
async def test_a_provider_that_stops_ends_its_sessions_with_a_reason() -> None:
    async with simulator() as provider, gateway_on(provider.url) as running:
        caller = running.caller()
        await caller.open()
        began = asyncio.get_running_loop().time()
        await provider.stop()
        changed = await caller.until("state_changed")
        assert (changed.state, changed.cause) == (types.SESSION_STATE_RECOVERING, "line_lost")
        caller.patience_seconds = 22.0
        closed = await caller.until("closed")
        assert asyncio.get_running_loop().time() - began <= 21
        assert closed.reason == event.CLOSED_REASON_UPSTREAM
        assert closed.error.reason == errors.ERROR_REASON_UPSTREAM_CLOSED
        assert await caller.read() is None
        status = await caller.status()
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_CLOSED")
        await running.until_free()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4000])
async def test_no_end_of_a_line_that_nobody_asked_for_is_taken_for_a_normal_one(code: int) -> None:
    async def hang_up(line: Line) -> None:
        heard = await line.hear()
        assert heard is not None
        await line.close(code)

    async with provider(hang_up) as upstream, gateway_on(upstream) as running:
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        closed = await caller.until("closed")
        assert closed.reason == event.CLOSED_REASON_UPSTREAM
        assert (await caller.rest())[-1].closed == closed
        assert (await caller.status()).code is not grpc.StatusCode.OK


async def test_a_provider_that_sends_no_json_ends_the_session() -> None:
    async def babble(line: Line) -> None:
        await line.hear()
        await line.say(b"secret words of a user {")

    async with provider(babble) as upstream, gateway_on(upstream) as running:
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        closed = await caller.until("closed")
        assert closed.reason == event.CLOSED_REASON_UPSTREAM
        assert "secret" not in str(closed)


async def test_a_pool_that_stands_empty_dials_for_its_caller() -> None:
    pools = {"default": pool(floor=0, wait_max_ms=5000, demand={"enabled": False})}
    async with stack({"connect_delay_ms": 200}, pools=pools) as (running, provider):
        assert provider.connections() == []
        opened = await running.caller().open()
        assert opened.source == types.LINE_SOURCE_WAITED
        assert 200 <= opened.waited_ms < 2000
        assert len(provider.connections()) == 1
