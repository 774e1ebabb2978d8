"""A written request is answered in the recorded order, by text or by speech."""

import json

import pybase64
import pytest

from gateway.core.audio import BY_NAME
from gateway.simulator import codec, speech

from .stage import Stage, kinds, refused

SPOKEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
]
SPOKEN_END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def test_an_item_is_added_and_done(stage: Stage) -> None:
    added, done = stage.say("Where is my order?")
    assert (added["type"], done["type"]) == ("conversation.item.added", "conversation.item.done")
    assert added["item"] == done["item"]
    assert added["previous_item_id"] is None
    assert stage.say("Hello?")[0]["previous_item_id"] == added["item"]["id"]


def test_a_spoken_answer_comes_in_the_recorded_order(stage: Stage) -> None:
    stage.say("Where is my order?")
    events = stage.take("response.create") + stage.play()
    names = kinds(events)
    assert names[:6] == SPOKEN
    assert names[-6:] == SPOKEN_END
    assert set(names[6:-6]) <= set(SPOKEN[-2:])


@pytest.mark.parametrize("format_name", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_the_sound_is_the_whole_reply_in_the_asked_format(stage: Stage, format_name: str) -> None:
    stage.update(audio={"output": {"format": {"type": format_name}}})
    stage.say("Where is my order?")
    stage.take("response.create")
    events = stage.play()
    wire = b"".join(pybase64.b64decode(each["delta"]) for each in events if each["type"].endswith("audio.delta"))
    words = "".join(each["delta"] for each in events if each["type"].endswith("transcript.delta"))
    reply = next(each for each in speech.replies() if each.text == words)
    assert reply.text == "Your order left the warehouse this morning."
    assert wire == codec.encode(reply.pcm, BY_NAME[format_name])
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": reply.text}]


def test_the_transcript_leads_the_sound(stage: Stage) -> None:
    stage.say("How long is the delivery to Berlin?")
    stage.take("response.create")
    told, heard, total = 0, 0, 0
    reply = "Delivery takes three working days."
    total = next(len(each.pcm) for each in speech.replies() if each.text == reply)
    for each in stage.play():
        if each["type"] == "response.output_audio_transcript.delta":
            told += len(each["delta"])
        if each["type"] == "response.output_audio.delta":
            assert told / len(reply) >= heard / total
            heard += len(pybase64.b64decode(each["delta"]))
    assert (told, heard) == (len(reply), total)


def test_sound_comes_at_the_set_speed_after_the_set_delay() -> None:
    stage = Stage(first_audio_ms=250, speed=2)
    stage.say("Where is my order?")
    stage.take("response.create")
    assert stage.play(until_ms=249) == []
    assert stage.play(until_ms=250) != []
    stage.play()
    length = next(each.duration_ms for each in speech.replies() if each.text.startswith("Your order"))
    assert stage.now == pytest.approx(250 + length / 2, abs=170)


def test_a_written_answer_comes_in_the_recorded_order(stage: Stage) -> None:
    stage.update(output_modalities=["text"])
    item = stage.say("Where is my order?")[0]["item"]
    events = stage.take("response.create") + stage.play()
    assert kinds(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert events[-3]["previous_item_id"] == item["id"]


def test_deltas_hide_their_length(stage: Stage) -> None:
    stage.say("Where is my order?")
    stage.take("response.create")
    padded = [each for each in stage.play() if "obfuscation" in each]
    assert padded
    assert all(len(each["delta"] + each["obfuscation"]) % 16 == 0 for each in padded)


def test_the_same_conversation_gets_the_same_answer() -> None:
    answers = []
    for _ in range(2):
        stage = Stage()
        stage.say("Tell me something I do not know.")
        stage.take("response.create")
        answers.append(stage.play()[-1]["response"]["output"][0]["content"])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_what_was_said_before_is_remembered(modality: str) -> None:
    stage = Stage()
    stage.update(output_modalities=[modality])
    stage.say("My name is Alice and my favourite colour is teal.")
    stage.say("Nice to meet you!", role="assistant")
    stage.say("What is my name?")
    stage.take("response.create")
    (content,) = stage.play()[-1]["response"]["output"][0]["content"]
    assert content[{"audio": "transcript", "text": "text"}[modality]] == "Your name is Alice."


def test_overrides_hold_for_one_response(stage: Stage) -> None:
    stage.say("Where is my order?")
    params = {
        "output_modalities": ["text"],
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 9,
    }
    (created,) = stage.take("response.create", response=params)
    assert created["response"]["output_modalities"] == ["text"]
    assert created["response"]["metadata"] == {"a": "b"}
    assert stage.play()[-1]["response"]["metadata"] == {"a": "b"}
    (created,) = stage.take("response.create")
    assert created["response"]["output_modalities"] == ["audio"]
    assert created["response"]["metadata"] is None


def test_an_answer_outside_the_conversation_leaves_no_trace(stage: Stage) -> None:
    params = {
        "conversation": "none",
        "output_modalities": ["text"],
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A joke please"}]}],
    }
    events = stage.take("response.create", response=params) + stage.play()
    assert not any(each["type"].startswith("conversation.item") for each in events)
    assert events[-1]["response"]["conversation_id"] is None
    assert "hang up" in events[-1]["response"]["output"][0]["content"][0]["text"]
    assert stage.say("Hello?")[0]["previous_item_id"] is None


def test_answers_outside_the_conversation_run_beside_it(stage: Stage) -> None:
    stage.say("Where is my order?")
    (inside,) = stage.take("response.create")
    (outside,) = stage.take("response.create", response={"conversation": "none"})
    done = [each["response"]["id"] for each in stage.play() if each["type"] == "response.done"]
    assert sorted(done) == sorted([inside["response"]["id"], outside["response"]["id"]])


def test_existing_items_can_be_the_input(stage: Stage) -> None:
    item = stage.say("Can you tell me a joke?")[0]["item"]
    stage.say("Where is my order?")
    params = {"conversation": "none", "input": [{"type": "item_reference", "id": item["id"]}]}
    stage.take("response.create", response=params)
    assert "hang up" in stage.play()[-1]["response"]["output"][0]["content"][0]["transcript"]
    missing = {"conversation": "none", "input": [{"type": "item_reference", "id": "item_missing"}]}
    assert refused(stage.take("response.create", response=missing)) == "invalid_value"


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_a_token_limit_cuts_the_answer(modality: str) -> None:
    stage = Stage()
    stage.say("Tell me about the history of the telephone.")
    params = {"output_modalities": [modality], "max_output_tokens": 10}
    stage.take("response.create", response=params)
    response = stage.play()[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_token_details"][f"{modality}_tokens"] <= 10


def test_usage_follows_the_provider() -> None:
    stage = Stage()
    stage.update(instructions="Reply in a few words.")
    stage.say("Where is my order?")
    stage.take("response.create")
    usage = stage.play()[-1]["response"]["usage"]
    reply = next(each for each in speech.replies() if each.text.startswith("Your order"))
    assert usage["input_token_details"]["text_tokens"] == usage["input_tokens"] == 6 + 5
    assert usage["output_token_details"] == {"text_tokens": 11, "audio_tokens": reply.duration_ms // 50}
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_token_details"]["cached_tokens"] == 0
    stage.take("response.create")
    again = stage.play()[-1]["response"]["usage"]
    assert again["input_tokens"] == usage["total_tokens"]
    assert again["input_token_details"]["cached_tokens"] == usage["total_tokens"] // 64 * 64
    assert sum(again["input_token_details"]["cached_tokens_details"].values()) == usage["total_tokens"] // 64 * 64


def test_rate_limits_follow_on_request() -> None:
    stage = Stage(rate_limits=True)
    stage.say("Where is my order?")
    stage.take("response.create")
    *_, done, limits = stage.play()
    assert (done["type"], limits["type"]) == ("response.done", "rate_limits.updated")
    assert limits["rate_limits"][0]["remaining"] == 15_000_000 - done["response"]["usage"]["total_tokens"]


def test_one_response_at_a_time(stage: Stage) -> None:
    stage.say("Where is my order?")
    (created,) = stage.take("response.create")
    events = stage.take("response.create", event_id="mine")
    assert refused(events) == "conversation_already_has_active_response"
    assert created["response"]["id"] in events[0]["error"]["message"]
    assert events[0]["error"]["event_id"] == "mine"
    stage.play()
    assert stage.take("response.create")[0]["type"] == "response.created"


def test_cancelling_closes_what_is_open(stage: Stage) -> None:
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    stage.play(until_ms=100)
    events = stage.take("response.cancel")
    assert kinds(events) == SPOKEN_END
    response = events[-1]["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert response["output"][0]["status"] == "incomplete"
    assert 0 < response["usage"]["output_token_details"]["audio_tokens"] < 20
    assert stage.play() == []
    assert refused(stage.take("response.cancel")) == "response_cancel_not_active"


def test_cancelling_before_the_first_word_leaves_no_item() -> None:
    stage = Stage(first_audio_ms=100)
    (created,) = stage.take("response.create")
    (done,) = stage.take("response.cancel", response_id=created["response"]["id"])
    assert done["response"]["output"] == []
    assert done["response"]["status"] == "cancelled"


def test_the_voice_is_locked_by_the_first_sound(stage: Stage) -> None:
    assert stage.update(audio={"output": {"voice": "cedar"}})[0]["type"] == "session.updated"
    stage.say("Where is my order?")
    stage.take("response.create", response={"output_modalities": ["text"]})
    stage.play()
    assert stage.update(audio={"output": {"voice": "verse"}})[0]["type"] == "session.updated"
    stage.take("response.create")
    stage.play()
    assert refused(stage.update(audio={"output": {"voice": "ash"}})) == "cannot_update_voice"
    voiced = {"audio": {"output": {"voice": "ash"}}}
    assert refused(stage.take("response.create", response=voiced)) == "cannot_update_voice"


def test_tags_are_seen(stage: Stage) -> None:
    content = [{"type": "input_text", "text": "Hello"}]
    item = {"id": "tag-blue-1", "type": "message", "role": "user", "content": content}
    stage.take("conversation.item.create", item=item)
    stage.take("response.create", response={"metadata": {"session_tag": "red"}})
    stage.play()
    stage.take("response.create", response={"metadata": {"session_tag": "red"}})
    assert stage.dialogue.state["session_tags"] == ["tag-blue-1", "red"]


def test_every_event_is_json(stage: Stage) -> None:
    stage.say("Where is my order?")
    stage.take("response.create")
    stage.play()
    assert json.loads(json.dumps(stage.sent)) == stage.sent
    ids = [each["event_id"] for each in stage.sent]
    assert len(set(ids)) == len(ids)
