"""What goes up and down a line, seen from the provider's end: configuration, events, single use."""

import asyncio
import json
import random
from typing import Any

import aiohttp
import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session

from gateway.core.realtime import TYPED_EVENTS
from tests.support.stack import gateway_on, pool, simulator, stack
from tests.support.upstream import Line, provider

ONE_LINE = {"default": pool(floor=1, ceiling=1)}
SESSION: dict[str, Any] = {
    "instructions": "Speak of the weather.",
    "audio": {
        "input": {"transcription": {"model": "gpt-realtime-whisper"}, "noise_reduction": None},
        "output": {"voice": "marin", "speed": 1.1},
    },
    "tools": [],
}
TEMPLATE = {"default": {"session": SESSION}}


async def test_overrides_go_up_as_one_update_with_the_whole_merged_configuration() -> None:
    heard: list[dict[str, Any]] = []

    async def listen(line: Line) -> None:
        while (event := await line.hear()) is not None:
            heard.append(event)
            if event["type"] == "response.create":
                await line.say(b'{"type":"response.done","response":{"id":"r","status":"completed"}}')

    async with provider(listen) as upstream, gateway_on(upstream, pools=ONE_LINE, templates=TEMPLATE) as running:
        caller = running.caller()
        overrides = control.SessionOverrides(
            voice="cedar",
            turn_detection=control.TurnDetection(none=control.NoTurnDetection()),
            session_json=json.dumps(
                {"instructions": "Speak of tea.", "audio": {"output": {"speed": None}}, "new": [1]}
            ),
        )
        opened = await caller.open(overrides=overrides)
        assert opened.config == session.CONFIG_STATE_SENT
        await caller.answer_please()
        await caller.until("response_done")
    assert [each["type"] for each in heard] == ["session.update", "response.create"]
    assert heard[0]["session"] == {
        "type": "realtime",
        "instructions": "Speak of tea.",
        "audio": {
            "input": {
                "transcription": {"model": "gpt-realtime-whisper"},
                "noise_reduction": None,
                "turn_detection": None,
            },
            "output": {"voice": "cedar", "speed": None},
        },
        "tools": [],
        "new": [1],
    }


async def test_a_line_that_was_made_ready_for_its_template_is_not_configured_again() -> None:
    heard: list[dict[str, Any]] = []

    async def listen(line: Line) -> None:
        while (event := await line.hear()) is not None:
            heard.append(event)
            await line.say(b'{"type":"response.done","response":{"id":"r","status":"completed"}}')

    async with provider(listen) as upstream, gateway_on(upstream, pools=ONE_LINE) as running:
        caller = running.caller()
        opened = await caller.open()
        assert opened.config == session.CONFIG_STATE_APPLIED
        await caller.answer_please()
        await caller.until("response_done")
    assert [each["type"] for each in heard] == ["response.create"]


async def test_overrides_take_effect_at_the_provider() -> None:
    overrides = control.SessionOverrides(
        voice="cedar",
        instructions="Be kind.",
        session_json='{"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}',
    )
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open(overrides=overrides)
        await caller.answer_please()
        updated = json.loads((await caller.until("session_updated")).session_json)
        assert updated["instructions"] == "Be kind."
        assert updated["audio"]["output"]["voice"] == "cedar"
        assert updated["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"
        assert updated["audio"]["input"]["transcription"]["model"] == "gpt-realtime-whisper"
        await caller.until("response_done")
        assert len(caller.all("session_updated")) == 1


async def test_one_callers_overrides_do_not_reach_the_next_caller() -> None:
    pools = {"default": pool(floor=1, ceiling=2)}
    async with stack(pools=pools) as (running, _):
        first = running.caller()
        await first.open(overrides=control.SessionOverrides(instructions="Only for me."))
        await first.bye()
        await first.rest()
        await running.until_free()
        second = running.caller()
        await second.open()
        raw = {"type": "session.update", "session": {"type": "realtime"}}
        await second.ask(raw=control.RawEvent(json=json.dumps(raw)))
        updated = json.loads((await second.until("session_updated")).session_json)
        assert updated["instructions"] != "Only for me."


# Odd, new and known events, written as no encoder of ours would write them.
FRAMES = (
    b'{ "type" : "conversation.item.added", "item" : {"id":"i"} , "x":1.50 }',
    b'{"event_id":"e1","type":"response.output_item.added","text":"\\u00fc\\ud83d\\ude00\xc3\xbc"}',
    b'{"type":"something.quite.new","nested":{"a":[1,2,{"b":null}]},"n":1e3,"big":12345678901234567890123}',
    b'{"a":1,"a":2,"type":"mcp_list_tools.in_progress"}',
    b'{"type":"response.output_text.done","text":"words","response_id":"r","item_id":"i"}',
    b'{"no_type":true}',
    # Known by name, in a shape that is new.
    b'{"type":"response.done","response":"not an object any more"}',
    b'{"type":"input_audio_buffer.speech_started","item_id":7,"audio_start_ms":"later"}',
)


async def test_every_event_without_a_typed_form_arrives_as_it_was_sent_byte_for_byte() -> None:
    async def talk(line: Line) -> None:
        await line.hear()
        for frame in FRAMES:
            await line.say(frame)
        await line.say(b'{"type":"response.done","response":{"id":"r","status":"completed"}}')

    async with provider(talk) as upstream, gateway_on(upstream, pools=ONE_LINE) as running:
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        await caller.until("response_done")
        assert [each.json for each in caller.all("raw")] == list(FRAMES)
        assert {json.loads(frame).get("type") for frame in FRAMES[:5]}.isdisjoint(TYPED_EVENTS)


@pytest.mark.parametrize("size", [1 << 20, 3_500_000, 6_000_000])
async def test_a_large_raw_event_arrives_whole(size: int) -> None:
    """In parts where it is larger than `gateway_message_max_bytes`, which a bare stub takes."""
    frame = b'{"type":"conversation.item.retrieved","audio":"' + b"A" * size + b'"}'

    async def talk(line: Line) -> None:
        await line.hear()
        await line.say(frame)

    async with provider(talk) as upstream, gateway_on(upstream, pools=ONE_LINE) as running:
        caller = running.caller()
        await caller.open()
        await caller.answer_please()
        parts = [await caller.until("raw")]
        while len(parts) < parts[0].parts:
            parts.append(await caller.until("raw"))
        assert [each.part for each in parts] == list(range(len(parts)))
        assert b"".join(each.json for each in parts) == frame


async def test_no_line_ever_serves_two_sessions() -> None:
    """Seen from the provider: no socket saw two tags, and each session had a socket of its own."""
    rng = random.Random(7)
    pools = {"default": pool(floor=3, ceiling=6, wait_max_ms=8000)}
    async with simulator() as sim, gateway_on(sim.url, pools=pools) as running:

        async def one(number: int) -> str:
            caller = running.caller()
            opened = await caller.open()
            await caller.say("Hello there", item_id=f"tag-{number}")
            await caller.until("item_done")
            if rng.random() < 0.3:
                caller.cancel()
            else:
                await caller.bye(now=rng.random() < 0.5)
                await caller.rest()
            return str(opened.upstream_session_id)

        used = await asyncio.gather(*(one(number) for number in range(24)))
        async with aiohttp.ClientSession() as http, http.get(f"{sim.control_url}/connections") as answer:
            seen = (await answer.json())["connections"]
    assert len(set(used)) == 24
    tags = {each["session_id"]: each["session_tags"] for each in seen}
    assert {session_id: tags[session_id] for session_id in used} == {
        session_id: [f"tag-{number}"] for number, session_id in enumerate(used)
    }
    assert all(len(each) <= 1 for each in tags.values())
    assert sum(map(len, tags.values())) == 24


async def test_a_line_that_dies_on_the_shelf_is_replaced_unseen() -> None:
    async with stack() as (running, sim):
        await running.until_warm(1)
        (first,) = [each["session_id"] for each in sim.connections()]
        for connection in tuple(sim._open):
            connection.abort()
        caller = running.caller()
        opened = await caller.open()
        assert opened.upstream_session_id != first
        await caller.answer_please()
        await caller.until("response_done")
