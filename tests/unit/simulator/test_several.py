"""More than one thing at a time: a word before a call, responses beside the conversation, events that are refused."""

from typing import Any

import pytest

from .stage import Stage, kinds, refused

TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
ASIDE: dict[str, Any] = {
    "conversation": "none",
    "output_modalities": ["text"],
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A joke please"}]}],
}


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_a_word_is_said_before_a_tool_is_called(modality: str) -> None:
    stage = Stage("gpt-realtime-2.1", commentary=True)
    stage.update(tools=[TOOL], output_modalities=[modality])
    question = stage.say("What is the weather in London?")[0]["item"]
    events = stage.take("response.create") + stage.play()
    added = [each for each in events if each["type"] == "response.output_item.added"]
    assert [(each["output_index"], each["item"]["type"]) for each in added] == [(0, "message"), (1, "function_call")]
    assert kinds(events)[-5:] == [
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    commentary, call = events[-1]["response"]["output"]
    assert (commentary["phase"], commentary["status"], call["status"]) == ("commentary", "completed", "completed")
    linked = [each["previous_item_id"] for each in events if each["type"] == "conversation.item.added"]
    assert linked == [question["id"], commentary["id"]]
    deltas = [each for each in events if each["type"].endswith(".delta")]
    assert {(each["output_index"], each["item_id"]) for each in deltas} == {(0, commentary["id"]), (1, call["id"])}
    assert "phase" not in call


def test_a_word_without_a_call_after_it_ends_with_its_response() -> None:
    stage = Stage("gpt-realtime-2.1", commentary=True)
    stage.update(tools=[TOOL])
    stage.say("What is the weather in London?")
    stage.take("response.create")
    stage.play(until_ms=100)
    response = stage.take("response.cancel")[-1]["response"]
    assert [(each["type"], each["status"]) for each in response["output"]] == [("message", "incomplete")]


def test_nothing_is_said_before_a_call_unless_asked_for(stage: Stage) -> None:
    stage.update(tools=[TOOL])
    stage.say("What is the weather in London?")
    stage.take("response.create")
    assert [each["type"] for each in stage.play()[-1]["response"]["output"]] == ["function_call"]


def test_an_answer_runs_beside_the_one_in_the_conversation(stage: Stage) -> None:
    stage.say("Where is my order?")
    (first,) = stage.take("response.create")
    (aside,) = stage.take("response.create", response={**ASIDE, "metadata": {"topic": "joke"}})
    done = {each["response"]["id"]: each["response"] for each in stage.play() if each["type"] == "response.done"}
    assert done[first["response"]["id"]]["conversation_id"] is not None
    beside = done[aside["response"]["id"]]
    assert (beside["conversation_id"], beside["metadata"]) == (None, {"topic": "joke"})
    assert "hang up" in beside["output"][0]["content"][0]["text"]


def test_an_answer_beside_the_conversation_is_cancelled_by_its_id_alone(stage: Stage) -> None:
    (aside,) = stage.take("response.create", response=ASIDE)
    assert refused(stage.take("response.cancel")) == "response_cancel_not_active"
    assert refused(stage.take("response.cancel", response_id="resp_gone")) == "response_cancel_not_active"
    events = stage.take("response.cancel", response_id=aside["response"]["id"])
    assert events[-1]["response"]["status"] == "cancelled"


TRUNCATE = {"type": "conversation.item.truncate", "item_id": "item_gone", "content_index": 0, "audio_end_ms": 0}


@pytest.mark.parametrize(
    "sent",
    [
        {"type": "session.update", "session": {"type": "realtime", "voice": "alloy"}},
        {"type": "input_audio_buffer.append", "audio": "?"},
        {"type": "input_audio_buffer.commit"},
        {"type": "conversation.item.create", "item": {}},
        {"type": "conversation.item.retrieve", "item_id": "item_gone"},
        TRUNCATE,
        {"type": "conversation.item.delete", "item_id": "item_gone"},
        {"type": "response.create", "response": {"voice": "alloy"}},
        {"type": "response.cancel"},
        {"type": "output_audio_buffer.clear"},
        {"type": "session.destroy"},
    ],
    ids=lambda each: each["type"],
)
def test_a_refusal_names_the_event_it_answers(stage: Stage, sent: dict[str, Any]) -> None:
    before = len(stage.sent)
    stage.dialogue.take({**sent, "event_id": "event_mine"})
    (error,) = stage.sent[before:]
    assert (error["type"], error["error"]["event_id"]) == ("error", "event_mine")
    stage.say("Hello?")
    assert stage.take("response.create")[0]["type"] == "response.created"


@pytest.mark.parametrize(
    "cut",
    [
        {"content_index": 1, "audio_end_ms": 0},
        {"content_index": 0, "audio_end_ms": -1},
        {"content_index": 0, "audio_end_ms": "0"},
        {"content_index": 0, "audio_end_ms": 99_999},
        {},
    ],
    ids=str,
)
def test_a_senseless_truncation_is_refused_and_changes_nothing(stage: Stage, cut: dict[str, Any]) -> None:
    stage.say("Where is my order?")
    stage.take("response.create")
    item = stage.play()[-1]["response"]["output"][0]
    assert refused(stage.take("conversation.item.truncate", item_id=item["id"], **cut)) in (
        "invalid_value",
        "invalid_type",
    )
    (retrieved,) = stage.take("conversation.item.retrieve", item_id=item["id"])
    assert retrieved["item"] == item


def test_silence_cannot_be_written_down(stage: Stage) -> None:
    audio = {"input": {"turn_detection": None, "transcription": {"model": "gpt-realtime-whisper"}}}
    stage.update(audio=audio)
    stage.append(bytes(48_000))
    committed, *_ = stage.take("input_audio_buffer.commit")
    (failed,) = stage.play()
    assert failed["type"] == "conversation.item.input_audio_transcription.failed"
    assert (failed["item_id"], failed["content_index"]) == (committed["item_id"], 0)
    assert failed["error"]["code"] == "audio_unintelligible"
