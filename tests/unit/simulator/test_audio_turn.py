"""A spoken request: voice detection, push-to-talk, barge-in, what is written down."""

import pytest

from gateway.core.audio import BY_NAME
from gateway.simulator import codec, speech

from .stage import Stage, kinds, refused

WHISPER = {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}
HELLO, NAME, WEATHER = speech.questions()[:3]
PAUSE = bytes(48_000)


def spoken(utterance: speech.Utterance) -> bytes:
    return PAUSE + utterance.pcm + PAUSE


def test_a_turn_is_detected_committed_and_answered(stage: Stage) -> None:
    events = stage.append(spoken(WEATHER))
    assert kinds(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    started, stopped, committed, added, *_ = events
    assert len({each["item_id"] for each in events[:3]} | {added["item"]["id"]}) == 1
    assert committed["previous_item_id"] is None
    assert abs(started["audio_start_ms"] - 700) <= 60
    assert abs(stopped["audio_end_ms"] - 1_000 - WEATHER.duration_ms - 200) <= 150
    response = stage.play()[-1]["response"]
    assert response["output"][0]["content"][0]["transcript"] == "It is foggy and twelve degrees in London."
    heard_ms = stopped["audio_end_ms"] - started["audio_start_ms"]
    assert response["usage"]["input_token_details"]["audio_tokens"] == heard_ms // 100


def test_what_was_said_is_written_down_beside_the_answer(stage: Stage) -> None:
    stage.update(audio=WHISPER)
    (_, stopped, _, added, *_) = stage.append(spoken(HELLO))
    events = stage.play()
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    prefix = "conversation.item.input_audio_transcription."
    deltas = [each["delta"] for each in events if each["type"] == prefix + "delta"]
    (completed,) = [each for each in events if each["type"] == prefix + "completed"]
    assert "".join(deltas) == completed["transcript"] == HELLO.text
    assert completed["usage"] == {"type": "duration", "seconds": 2}
    (retrieved,) = stage.take("conversation.item.retrieve", item_id=added["item"]["id"])
    assert retrieved["item"]["content"] == [{"type": "input_audio", "transcript": HELLO.text}]
    assert stopped["item_id"] == completed["item_id"]


def test_unknown_speech_is_written_down_as_its_length(stage: Stage) -> None:
    stage.update(audio=WHISPER)
    stage.append(PAUSE + HELLO.pcm + NAME.pcm + PAUSE)
    (completed,) = [each for each in stage.play() if each["type"].endswith("transcription.completed")]
    assert completed["transcript"].endswith(" s of speech)")


def test_the_conversation_is_remembered_across_spoken_turns(stage: Stage) -> None:
    stage.append(spoken(HELLO))
    assert stage.play()[-1]["response"]["output"][0]["content"][0]["transcript"].startswith("Hello Alice")
    stage.append(spoken(NAME))
    assert stage.play()[-1]["response"]["output"][0]["content"][0]["transcript"] == "Your name is Alice."


@pytest.mark.parametrize("format_name", ["audio/pcmu", "audio/pcma"])
def test_telephone_audio_is_heard_as_well(stage: Stage, format_name: str) -> None:
    stage.update(audio={"input": {"format": {"type": format_name}}})
    events = stage.append(codec.encode(spoken(WEATHER), BY_NAME[format_name]), 160)
    assert kinds(events)[-1] == "response.created"
    assert abs(events[0]["audio_start_ms"] - 700) <= 60
    assert "foggy" in stage.play()[-1]["response"]["output"][0]["content"][0]["transcript"]


def test_padding_and_silence_are_as_configured(stage: Stage) -> None:
    detection = {"type": "server_vad", "prefix_padding_ms": 100, "silence_duration_ms": 700}
    stage.update(audio={"input": {"turn_detection": detection}})
    started, stopped, *_ = stage.append(spoken(WEATHER))
    assert abs(started["audio_start_ms"] - 900) <= 60
    assert abs(stopped["audio_end_ms"] - 1_000 - WEATHER.duration_ms - 700) <= 150


def test_no_response_unless_asked_for(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    assert kinds(stage.append(spoken(WEATHER)))[-1] == "conversation.item.done"
    assert stage.take("response.create")[0]["type"] == "response.created"


def test_push_to_talk(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": None, **WHISPER["input"]}})
    stage.append(spoken(NAME))
    stage.take("input_audio_buffer.clear")
    assert stage.append(spoken(WEATHER)) == []
    events = stage.take("input_audio_buffer.commit")
    names = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
    assert [each["type"] for each in events] == names
    assert stage.play()[-1]["transcript"] == WEATHER.text
    stage.take("response.create")
    assert "foggy" in stage.play()[-1]["response"]["output"][0]["content"][0]["transcript"]


def test_an_empty_buffer_is_not_committed(stage: Stage) -> None:
    assert refused(stage.take("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"
    assert stage.take("input_audio_buffer.clear")[0]["type"] == "input_audio_buffer.cleared"


def test_barge_in_cuts_the_answer(stage: Stage) -> None:
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    stage.play(until_ms=200)
    events = stage.append(PAUSE + WEATHER.pcm[:24_000])
    assert events[0]["type"] == "input_audio_buffer.speech_started"
    assert events[-1]["type"] == "response.done"
    response = events[-1]["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert stage.play() == []
    assert kinds(stage.append(WEATHER.pcm[24_000:] + PAUSE))[-1] == "response.created"


def test_barge_in_can_be_turned_off(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    stage.play(until_ms=200)
    events = stage.append(spoken(WEATHER))
    assert events[-1]["error"]["code"] == "conversation_already_has_active_response"
    assert stage.play()[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("sent", [{}, {"audio": 5}, {"audio": "no base64!"}])
def test_bad_audio_is_refused(stage: Stage, sent: dict[str, object]) -> None:
    assert refused(stage.take("input_audio_buffer.append", **sent)) in ("invalid_type", "invalid_value")


def test_semantic_detection_hears_turns_too(stage: Stage) -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}})
    assert kinds(stage.append(spoken(WEATHER)))[-1] == "response.created"


def test_a_transcription_session_writes_and_never_answers() -> None:
    stage = Stage(model=None)
    assert stage.sent[0]["session"]["type"] == "transcription"
    stage.take("session.update", session={"type": "transcription", "audio": WHISPER})
    assert kinds(stage.append(spoken(WEATHER)))[-1] == "conversation.item.done"
    assert stage.play()[-1]["transcript"] == WEATHER.text
    assert refused(stage.take("response.create")) == "invalid_value"


def test_settings_change_in_the_middle_of_a_call(stage: Stage) -> None:
    stage.append(spoken(HELLO))
    stage.play()
    stage.update(audio={"input": {"turn_detection": None}})
    stage.append(spoken(NAME))
    assert stage.take("input_audio_buffer.commit")[0]["type"] == "input_audio_buffer.committed"
    stage.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
    started, *_ = stage.append(spoken(WEATHER))
    before_ms = sum(2_000 + each.duration_ms for each in (HELLO, NAME))
    assert abs(started["audio_start_ms"] - before_ms - 700) <= 70
