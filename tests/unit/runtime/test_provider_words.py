"""Whatever a provider says on a line that lives, it costs at most that line; what it refuses, the caller is told."""

import asyncio
import json
from random import Random
from typing import Any, Final

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason
from gateway.core.session import SessionState
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import ended

BENIGN: Final = ("conversation_already_has_active_response", "response_cancel_not_active", "a_code_of_next_year")
FATAL: Final = {
    "insufficient_quota": Reason.BUDGET_EXHAUSTED,
    "billing_hard_limit_reached": Reason.BUDGET_EXHAUSTED,
    "invalid_api_key": Reason.UPSTREAM_REFUSED_KEY,
    "account_deactivated": Reason.UPSTREAM_REFUSED_KEY,
}
ITEM: Final = {"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_audio"}]}
# One spoken turn and its answer, as a provider tells of them; then what nobody has heard of.
EVENTS: Final[list[dict[str, Any]]] = [
    {"type": "session.updated", "session": {"type": "realtime"}},
    {"type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 0},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "u", "audio_end_ms": 500},
    {"type": "input_audio_buffer.committed", "item_id": "u", "previous_item_id": None},
    {"type": "conversation.item.done", "item": {"id": "u", "type": "message", "role": "user", "content": []}},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "u", "transcript": "Hi"},
    {"type": "response.created", "response": {"id": "r"}},
    {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": "AAAA"},
    {"type": "response.output_audio_transcript.delta", "response_id": "r", "item_id": "i", "delta": "Hi"},
    {"type": "conversation.item.done", "item": ITEM},
    {"type": "conversation.item.truncated", "item_id": "i", "audio_end_ms": 10},
    {"type": "conversation.item.deleted", "item_id": "i"},
    {"type": "response.done", "response": {"id": "r", "status": "completed"}},
    {"type": "rate_limits.updated", "rate_limits": []},
    {"type": "something.nobody.knows", "deep": [[[{}]]]},
]
BROKEN: Final = {
    "half a document": b'{"type":"response.created"',
    "no utf-8": b'{"type":"response.done\xff\xfe"}',
    "binary": bytes(range(256)),
    "too deep": b"[" * 200_000,
    "too deep in an event that nobody knows": b'{"type":"new","deep":' + b"[" * 200_000,
    "nothing": b"",
}


async def goes_on(stage: Stage, line: Line) -> None:
    """The session is as it was, on the line that it had."""
    await turns(20)
    assert stage.session.state is SessionState.ACTIVE
    assert stage.line is line
    assert line.is_open


@pytest.mark.parametrize("code", BENIGN)
async def test_a_refusal_of_one_command_is_told_under_its_number_and_costs_nothing(stage: Stage, code: str) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create", 7)
    await turns(5)
    line = stage.line
    (asked,) = line.sent
    line.tell("error", error={"type": "invalid_request_error", "code": code, "message": "No.", **asked})
    told = (await caller.until(out.ErrorEvent)).event
    assert isinstance(told, out.ErrorEvent)
    assert (told.upstream_code, told.cseq) == (code, 7)
    await goes_on(stage, line)
    # Nothing is due any more, so a goodbye is answered at once.
    began = now()
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert now() - began < 1.0


@pytest.mark.parametrize("code", FATAL)
async def test_what_only_an_operator_can_mend_is_told_and_no_other_line_is_used_up_for_it(
    stage: Stage, code: str
) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    line, dials = stage.line, len(stage.exchange.dials)
    line.tell("error", error={"type": "invalid_request_error", "code": code, "message": "Pay.", "event_id": None})
    told = (await caller.until(out.ErrorEvent)).event
    assert isinstance(told, out.ErrorEvent)
    assert (told.reason, told.upstream_code) == (FATAL[code], code)
    await goes_on(stage, line)
    assert len(stage.exchange.dials) == dials


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
async def test_an_answer_that_the_provider_fails_is_told_as_failed_and_not_asked_for_again(
    stage: Stage, code: str
) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("response.create")
    await turns(5)
    line = stage.line
    line.tell("response.created", response={"id": "r"})
    details = {"type": "failed", "error": {"type": "server_error", "code": code}}
    line.tell("response.done", response={"id": "r", "status": "failed", "status_details": details})
    done = (await caller.until(out.ResponseDone)).event
    assert isinstance(done, out.ResponseDone)
    assert (done.status, done.error_code) == ("failed", code)
    await goes_on(stage, line)
    assert line.types() == ["response.create"]


@pytest.mark.parametrize("seed", range(40))
async def test_events_in_any_order_and_number_end_no_session(stage: Stage, seed: int) -> None:
    """Each comes once or twice, wherever chance puts it: items that nobody began, ends without a beginning."""
    rng = Random(seed)
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    events = EVENTS + rng.sample(EVENTS, rng.randrange(len(EVENTS)))
    rng.shuffle(events)
    for event in events:
        line.tell_raw(json.dumps(event).encode())
    await goes_on(stage, line)
    raw = [each for each in caller.events() if isinstance(each, out.Raw)]
    assert {json.loads(each.json)["type"] for each in raw} == {"something.nobody.knows"}
    numbers = [each.seq for each in caller.got if each.seq]
    assert numbers == list(range(1, len(numbers) + 1))
    positions = [each.position for each in caller.events() if isinstance(each, out.OutputAudio)]
    assert positions == sorted(positions), "no sample is told of twice"
    line.lose()
    await until(lambda: stage.session.state is SessionState.ACTIVE and stage.line is not line)
    caller.say(out.Bye(now=True))
    assert await ended(stage, call) is None


@pytest.mark.parametrize("kind", BROKEN)
async def test_what_is_no_event_costs_its_line_and_no_other(stage: Stage, kind: str) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    line, neighbour = stage.line, await _neighbour(stage)
    line.tell_raw(BROKEN[kind])
    (hurt, well) = stage.directory.sessions()
    await until(lambda: hurt.upstream_session_id != line.session_id and hurt.state is SessionState.ACTIVE)
    causes = [event.cause for event in caller.events() if isinstance(event, out.StateChanged)]
    assert causes == ["line_lost", "line_replaced"]
    assert not line.is_open
    assert (well.upstream_session_id, well.state) == (neighbour.session_id, SessionState.ACTIVE)
    assert neighbour.is_open


async def _neighbour(stage: Stage) -> Line:
    """Another session; return its line."""
    await stage.opened()
    await asyncio.sleep(0.1)
    names = {session.upstream_session_id for session in stage.directory.sessions()}
    (line,) = (
        each for each in stage.exchange.lines if each.session_id in names and each is not stage.exchange.lines[0]
    )
    return line
