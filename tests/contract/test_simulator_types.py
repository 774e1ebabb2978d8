"""Every event that the simulator sends is one of the official package's, with no field that the package does not know.

What the wire has and the package has not stands once, in a table.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, get_args

import pydantic
import pytest
from openai.types.realtime import RealtimeServerEvent

from gateway.simulator import speech
from tests.unit.simulator.stage import Stage

Event = dict[str, Any]

# Fields that the service sends and its package does not name: where they stand, and what they hold.
WIRE_EXTRAS: dict[str, type] = {
    "obfuscation": str,  # in every text-like delta
    "session.id": str,
    "session.object": str,
    "session.expires_at": int,
    "item.phase": str,  # gpt-realtime-2 models
    "response.output.phase": str,
}
# Known to be on the wire, and not made up by the simulator.
NOT_MADE_UP = {"response.usage.output_token_details.reasoning_tokens"}

NOT_SENT = {
    "conversation.created": "not on the wire since the beta",
    "conversation.item.created": "replaced by added and done",
    "conversation.item.input_audio_transcription.segment": "diarization only",
    "input_audio_buffer.dtmf_event_received": "SIP only",
    "output_audio_buffer.started": "WebRTC and SIP only",
    "output_audio_buffer.stopped": "WebRTC and SIP only",
    "output_audio_buffer.cleared": "WebRTC and SIP only",
    "mcp_list_tools.in_progress": "MCP only",
    "mcp_list_tools.completed": "MCP only",
    "mcp_list_tools.failed": "MCP only",
    "response.mcp_call_arguments.delta": "MCP only",
    "response.mcp_call_arguments.done": "MCP only",
    "response.mcp_call.in_progress": "MCP only",
    "response.mcp_call.completed": "MCP only",
    "response.mcp_call.failed": "MCP only",
}

TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Look up the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
WEATHER = bytes(48_000) + speech.questions()[2].pcm + bytes(96_000)
TRANSCRIBED = {"transcription": {"model": "gpt-realtime-whisper"}}


def text_turn(stage: Stage) -> None:
    stage.update(output_modalities=["text"], instructions="Be brief.", tracing="auto")
    stage.say("Where is my order?")
    stage.take("response.create", response={"metadata": {"a": "b"}, "max_output_tokens": 50})


def spoken_turn(stage: Stage) -> None:
    stage.update(audio={"input": TRANSCRIBED})
    stage.append(WEATHER)


def telephone_turn(stage: Stage) -> None:
    stage.update(audio={"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}})
    stage.say("Where is my order?")
    stage.take("response.create")


def semantic_turn(stage: Stage) -> None:
    detection = {"type": "semantic_vad", "eagerness": "high"}
    stage.update(audio={"input": {"turn_detection": detection, "noise_reduction": {"type": "near_field"}}})
    stage.append(WEATHER)


def push_to_talk(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": None, **TRANSCRIBED}})
    stage.append(bytes(48_000))
    stage.take("input_audio_buffer.commit")
    stage.append(WEATHER)
    stage.take("input_audio_buffer.clear")


def function_call(stage: Stage) -> None:
    stage.update(tools=[TOOL], tool_choice={"type": "function", "name": "get_weather"})
    stage.say("What is the weather in London?")
    stage.take("response.create")
    done = next(each for each in stage.play() if each["type"] == "response.done")
    call = done["response"]["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Foggy."}
    stage.take("conversation.item.create", item=output)
    stage.take("response.create", response={"tool_choice": "none"})


def cancel_and_truncate(stage: Stage) -> None:
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    stage.play(until_ms=stage.now + 300)
    cancelled = stage.take("response.cancel")
    item_id = next(each["item"]["id"] for each in cancelled if each["type"] == "response.output_item.done")
    stage.take("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
    stage.take("conversation.item.retrieve", item_id=item_id)
    stage.take("conversation.item.delete", item_id=item_id)


def barge_in(stage: Stage) -> None:
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    stage.play(until_ms=stage.now + 300)
    stage.append(WEATHER)


def out_of_band(stage: Stage) -> None:
    item = stage.say("Can you tell me a joke?")[0]["item"]
    given = [{"type": "item_reference", "id": item["id"]}]
    stage.take("response.create", response={"conversation": "none", "input": given, "max_output_tokens": 5})


def idle_time_out(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}})
    stage.say("Where is my order?")
    stage.take("response.create")
    stage.play(until_ms=20_000)
    stage.update(audio={"input": {"turn_detection": None}})


def every_kind_of_item(stage: Stage) -> None:
    contents: list[tuple[str, Event]] = [
        ("system", {"type": "input_text", "text": "Be kind."}),
        ("user", {"type": "input_audio", "audio": "AAAA" * 1_600, "transcript": "Hello"}),
        ("user", {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}),
        ("assistant", {"type": "output_text", "text": "Hello!"}),
    ]
    for role, part in contents:
        stage.take("conversation.item.create", item={"type": "message", "role": role, "content": [part]})
    call = {"type": "function_call", "name": "f", "call_id": "call_1", "arguments": "{}"}
    stage.take("conversation.item.create", item=call)


def errors(stage: Stage) -> None:
    for kind in ("response.cancel", "output_audio_buffer.clear", "input_audio_buffer.commit", "session.destroy"):
        stage.take(kind, event_id="event_mine")
    stage.update(voice="alloy")


def transcription_only(stage: Stage) -> None:
    stage.take("session.update", session={"type": "transcription", "audio": {"input": TRANSCRIBED}})
    stage.append(WEATHER)
    stage.take("response.create")


REALTIME: list[Callable[[Stage], None]] = [
    text_turn,
    spoken_turn,
    telephone_turn,
    semantic_turn,
    push_to_talk,
    function_call,
    cancel_and_truncate,
    barge_in,
    out_of_band,
    idle_time_out,
    every_kind_of_item,
    errors,
]


def played(scenario: Callable[[Stage], None], model: str | None, **options: Any) -> list[Event]:
    stage = Stage(model, **options)
    scenario(stage)
    stage.play()
    sent: list[Event] = json.loads(json.dumps(stage.sent))
    return sent


# By models of both generations, and without one.
SESSIONS: dict[str, Callable[[], list[Event]]] = {
    **{each.__name__: partial(played, each, "gpt-realtime", rate_limits=True) for each in REALTIME},
    **{f"{each.__name__} 2.1": partial(played, each, "gpt-realtime-2.1", commentary=True) for each in REALTIME},
    "transcription_only": partial(played, transcription_only, None),
}


@cache
def session(name: str) -> list[Event]:
    return SESSIONS[name]()


def everything() -> Iterator[Event]:
    for name in SESSIONS:
        yield from session(name)


@cache
def classes() -> dict[str, type[pydantic.BaseModel]]:
    """The package's class for each type of event."""
    union = get_args(RealtimeServerEvent)[0]
    return {get_args(each.model_fields["type"].annotation)[0]: each for each in get_args(union)}


def unknown(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The fields that no class of the package names, at any depth."""
    if isinstance(value, pydantic.BaseModel):
        for name, each in value:
            here = f"{path}.{name}".strip(".")
            if name in (value.model_extra or {}):
                yield here, each
            else:
                yield from unknown(each, here)
    elif isinstance(value, list):
        for each in value:
            yield from unknown(each, path)


def problems(event: Event) -> list[str]:
    """What the package would not understand of an event."""
    made = classes().get(event["type"])
    if made is None:
        return [f"no such event: {event['type']}"]
    try:
        parsed = made.model_validate(event, strict=True)
    except pydantic.ValidationError as error:
        return [f"{event['type']}: {each['loc']} {each['msg']}" for each in error.errors()]
    return [
        f"{event['type']}: {path} is not known"
        for path, value in unknown(parsed)
        if not isinstance(value, WIRE_EXTRAS.get(path, type(None)))
    ]


@pytest.mark.parametrize("name", SESSIONS)
def test_the_package_knows_every_event_and_every_field(name: str) -> None:
    assert {each for event in session(name) for each in problems(event)} == set()


def test_every_kind_of_event_is_sent_or_has_a_reason_not_to_be() -> None:
    sent = {event["type"] for event in everything()}
    lines = [f"{len(sent)} of {len(classes())} server events are sent; not sent:"]
    lines += [f"  {kind}: {NOT_SENT.get(kind, '?')}" for kind in sorted(classes().keys() - sent)]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert classes().keys() - sent == NOT_SENT.keys()
    assert len(sent) == 31


def test_every_extra_of_the_wire_is_used() -> None:
    seen = set()
    for event in everything():
        seen |= {path for path, _ in unknown(classes()[event["type"]].model_validate(event))}
    assert seen == WIRE_EXTRAS.keys()
    assert not seen & NOT_MADE_UP


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"type": "input_audio_buffer.cleared", "event_id": "e", "colour": "red"}, "colour is not known"),
        ({"type": "input_audio_buffer.cleared"}, "Field required"),
        ({"type": "conversation.item.deleted", "event_id": "e", "item_id": 5}, "valid string"),
        ({"type": "nothing.known", "event_id": "e"}, "no such event"),
        (
            {"type": "error", "event_id": "e", "error": {"type": "t", "message": "m", "depth": 1}},
            "error.depth is not known",
        ),
    ],
)
def test_a_strange_event_would_be_noticed(event: Event, problem: str) -> None:
    (found,) = problems(event)
    assert problem in found
