"""Items: created where asked, found, cut, deleted; calls and their outputs; and what is refused."""

import json
from typing import Any

import pytest

from .stage import Stage, kinds, refused

WEATHER_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Look up the weather for a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


def create(stage: Stage, **item: Any) -> list[dict[str, Any]]:
    return stage.take("conversation.item.create", item=item)


def test_an_item_goes_where_it_is_asked_to(stage: Stage) -> None:
    first = stage.say("one")[0]["item"]["id"]
    second = stage.say("two")[0]["item"]["id"]
    item = {"type": "message", "role": "user", "content": []}
    front = stage.take("conversation.item.create", item=item, previous_item_id="root")
    between = stage.take("conversation.item.create", item=item, previous_item_id=first)
    assert front[0]["previous_item_id"] is None
    assert between[0]["previous_item_id"] == first
    assert stage.say("three")[0]["previous_item_id"] == second
    lost = stage.take("conversation.item.create", item=item, previous_item_id="item_missing")
    assert refused(lost) == "invalid_value"


def test_an_item_keeps_the_id_it_came_with(stage: Stage) -> None:
    item = {
        "id": "item_mine",
        "type": "message",
        "role": "system",
        "content": [{"type": "input_text", "text": "Hi"}],
    }
    assert create(stage, **item)[0]["item"]["id"] == "item_mine"
    assert refused(create(stage, **item)) == "invalid_value"
    assert stage.take("conversation.item.retrieve", item_id="item_mine")[0]["item"]["role"] == "system"
    assert stage.take("conversation.item.delete", item_id="item_mine")[0]["type"] == "conversation.item.deleted"
    assert stage.say("Hello?")[0]["previous_item_id"] is None


@pytest.mark.parametrize("verb", ["retrieve", "delete", "truncate"])
def test_an_unknown_item_is_named_in_the_refusal(stage: Stage, verb: str) -> None:
    events = stage.take(f"conversation.item.{verb}", item_id="item_gone", content_index=0, audio_end_ms=0)
    assert refused(events) == f"item_{verb}_invalid_item_id"


def test_truncation_drops_the_transcript_and_knows_the_length(stage: Stage) -> None:
    stage.say("Where is my order?")
    stage.take("response.create")
    item_id = stage.play()[-1]["response"]["output"][0]["id"]
    cut = {"item_id": item_id, "content_index": 0}
    assert refused(stage.take("conversation.item.truncate", **cut, audio_end_ms=9_000)) == "invalid_value"
    (truncated,) = stage.take("conversation.item.truncate", **cut, audio_end_ms=700)
    assert truncated["audio_end_ms"] == 700
    (retrieved,) = stage.take("conversation.item.retrieve", item_id=item_id)
    assert retrieved["item"]["content"][0]["transcript"] is None
    again = stage.take("conversation.item.truncate", **cut, audio_end_ms=701)
    assert "700ms is already shorter than 701ms" in again[0]["error"]["message"]


def test_only_spoken_answers_can_be_truncated(stage: Stage) -> None:
    item_id = stage.say("Where is my order?")[0]["item"]["id"]
    events = stage.take("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0)
    assert events[0]["error"]["message"] == "Only model output audio messages can be truncated"


BAD_ITEMS = [
    (None, "invalid_type"),
    ({}, "missing_required_parameter"),
    ({"type": "message", "role": "user"}, "missing_required_parameter"),
    ({"type": "message", "role": "robot", "content": []}, "invalid_value"),
    ({"type": "message", "role": "user", "content": [{"type": "output_text", "text": "x"}]}, "invalid_value"),
    (
        {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": ""}]},
        "invalid_value",
    ),
    (
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?"}]},
        "invalid_value",
    ),
    ({"type": "function_call_output", "call_id": "call_unknown", "output": "x"}, "invalid_tool_call_id"),
    (
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c" * 33},
        "string_above_max_length",
    ),
    ({"type": "message", "role": "user", "content": [], "colour": "teal"}, "unknown_parameter"),
]


@pytest.mark.parametrize(("item", "code"), BAD_ITEMS)
def test_a_bad_item_is_refused(stage: Stage, item: Any, code: str) -> None:
    assert refused(stage.take("conversation.item.create", item=item)) == code


def test_a_spoken_message_can_be_replayed_as_audio(stage: Stage) -> None:
    audio = {"type": "input_audio", "audio": "AAAA" * 1_600}
    added, _ = create(stage, type="message", role="user", content=[audio])
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    stage.take("response.create")
    assert stage.play()[-1]["response"]["usage"]["input_token_details"]["audio_tokens"] == 1


def test_a_tool_is_called_and_its_output_answered(stage: Stage) -> None:
    stage.update(tools=[WEATHER_TOOL], output_modalities=["text"])
    stage.say("What is the weather in London for 3 days?")
    events = stage.take("response.create") + stage.play()
    assert kinds(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    call = events[-1]["response"]["output"][0]
    assert json.loads(call["arguments"]) == {"city": "London", "days": 3}
    added, _ = create(stage, type="function_call_output", call_id=call["call_id"], output="It is foggy.")
    assert list(added["item"]) == ["id", "type", "call_id", "output"]
    stage.take("response.create")
    assert stage.play()[-1]["response"]["output"][0]["content"][0]["text"] == "It is foggy."


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", None),
        ("none", None),
        ("required", "get_weather"),
        ({"type": "function", "name": "send_mail"}, "send_mail"),
    ],
    ids=str,
)
def test_tool_choice_is_obeyed(stage: Stage, choice: Any, called: str | None) -> None:
    stage.update(tools=[WEATHER_TOOL, {"type": "function", "name": "send_mail"}], tool_choice=choice)
    stage.say("Where is my order?")
    stage.take("response.create")
    (item,) = stage.play()[-1]["response"]["output"]
    assert item.get("name") == called


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (7, "invalid_type"),
        ({}, "missing_required_parameter"),
        ({"type": "session.destroy"}, "invalid_value"),
        ({"type": ["session.update"]}, "invalid_value"),
        ({"type": "output_audio_buffer.clear"}, "invalid_value"),
        ({"type": "response.create", "response": {"modalities": ["text"]}}, "unknown_parameter"),
    ],
    ids=str,
)
def test_what_is_no_client_event_is_refused(stage: Stage, sent: Any, code: str) -> None:
    before = len(stage.sent)
    stage.dialogue.take(sent)
    assert refused(stage.sent[before:]) == code
