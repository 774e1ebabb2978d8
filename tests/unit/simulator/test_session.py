"""`session.update` merges what it names and refuses as a whole."""

from copy import deepcopy
from typing import Any

import pytest

from gateway.core.audio import PCMU
from gateway.simulator.events import Refusal
from gateway.simulator.session import REALTIME, TRANSCRIPTION, Session


def session(model: str = "gpt-realtime") -> Session:
    return Session(REALTIME, model, 1_800_000_000)


def update(target: Session, *, voice_locked: bool = False, **fields: Any) -> dict[str, Any]:
    target.update({"type": target.kind, **fields}, voice_locked=voice_locked)
    return target.config


@pytest.mark.parametrize(
    ("model", "voice", "silence_ms"),
    [
        ("gpt-realtime", "alloy", 200),
        ("gpt-realtime-mini-2025-10-06", "alloy", 200),
        ("gpt-realtime-2.1", "marin", 500),
        ("gpt-realtime-2.1-mini", "marin", 500),
    ],
)
def test_each_generation_has_its_defaults(model: str, voice: str, silence_ms: int) -> None:
    audio = session(model).config["audio"]
    assert audio["output"]["voice"] == voice
    assert audio["input"]["turn_detection"]["silence_duration_ms"] == silence_ms


def test_only_what_is_named_changes() -> None:
    target = session()
    untouched, before = target.config, deepcopy(target.config)
    after = update(target, audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.7}}})
    assert untouched == before
    before["audio"]["input"]["turn_detection"]["threshold"] = 0.7
    assert after == before


def test_updates_add_up() -> None:
    target = session()
    update(target, instructions="Be brief.", tools=[{"type": "function", "name": "f"}])
    update(target, audio={"input": {"transcription": {"model": "gpt-realtime-whisper", "language": "en"}}})
    config = update(target, audio={"input": {"transcription": {"model": "gpt-realtime-whisper", "prompt": "names"}}})
    assert config["instructions"] == "Be brief."
    assert config["tools"] == [{"type": "function", "name": "f"}]
    written = {"model": "gpt-realtime-whisper", "language": "en", "prompt": "names"}
    assert config["audio"]["input"]["transcription"] == written


def test_empty_values_clear() -> None:
    target = session()
    default = target.config["instructions"]
    update(target, instructions="Be brief.", tools=[{"type": "function", "name": "f"}])
    update(target, audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})
    audio = {"input": {"transcription": None, "turn_detection": None}}
    config = update(target, instructions="", tools=[], audio=audio)
    # As recorded: cleared instructions are the server's own again.
    assert config["instructions"] == default
    assert config["tools"] == []
    assert config["audio"]["input"]["transcription"] is None
    assert target.turn_detection is None
    assert not target.transcribes


def test_another_kind_of_turn_detection_starts_from_its_own_defaults() -> None:
    target = session()
    update(target, audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}})
    semantic = {
        "type": "semantic_vad",
        "eagerness": "high",
        "create_response": True,
        "interrupt_response": True,
    }
    assert target.turn_detection == semantic
    update(target, audio={"input": {"turn_detection": {"type": "server_vad"}}})
    assert target.turn_detection is not None
    assert target.turn_detection["silence_duration_ms"] == 200


def test_formats_are_completed() -> None:
    target = session()
    audio = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcm"}}}
    config = update(target, audio=audio)
    assert config["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert config["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert target.input_format == PCMU


BAD_UPDATES = [
    ({"instructions": 5}, "invalid_type", "session.instructions"),
    ({"modalities": ["text"]}, "unknown_parameter", "session.modalities"),
    ({"audio": {"input": {"loudness": 1}}}, "unknown_parameter", "session.audio.input.loudness"),
    ({"model": "gpt-realtime-2.1"}, "invalid_value", "session.model"),
    ({"type": "transcription"}, "invalid_value", "session.type"),
    ({"type": None}, "invalid_value", "session.type"),
    ({"output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
    ({"output_modalities": []}, "invalid_value", "session.output_modalities"),
    ({"output_modalities": ["smell"]}, "invalid_value", "session.output_modalities[0]"),
    ({"audio": {"output": {"voice": "bob"}}}, "invalid_value", "session.audio.output.voice"),
    ({"audio": {"output": {"speed": 4}}}, "invalid_value", "session.audio.output.speed"),
    ({"audio": {"input": {"format": {"type": "pcm16"}}}}, "invalid_value", "session.audio.input.format.type"),
    (
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}},
        "invalid_value",
        "session.audio.input.format.rate",
    ),
    (
        {"audio": {"input": {"turn_detection": {"threshold": 0.5}}}},
        "missing_required_parameter",
        "session.audio.input.turn_detection.type",
    ),
    (
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": True}}}},
        "invalid_type",
        "session.audio.input.turn_detection.threshold",
    ),
    ({"max_output_tokens": 5_000}, "invalid_value", "session.max_output_tokens"),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "session.tools[0].name"),
    ({"tool_choice": "always"}, "invalid_value", "session.tool_choice"),
]


@pytest.mark.parametrize(("fields", "code", "param"), BAD_UPDATES, ids=[each[2] for each in BAD_UPDATES])
def test_a_bad_update_is_refused_as_a_whole(fields: dict[str, Any], code: str, param: str) -> None:
    target = session()
    before = deepcopy(target.config)
    with pytest.raises(Refusal) as refusal:
        target.update({"type": "realtime", "tool_choice": "none", **fields}, voice_locked=False)
    assert (refusal.value.code, refusal.value.param) == (code, param)
    assert target.config == before


@pytest.mark.parametrize("sent", [None, [], "update", {}])
def test_an_update_is_an_object_with_a_type(sent: object) -> None:
    with pytest.raises(Refusal):
        session().update(sent, voice_locked=False)


def test_the_voice_is_fixed_once_heard() -> None:
    target = session()
    update(target, audio={"output": {"voice": "cedar"}})
    update(target, voice_locked=True, audio={"output": {"voice": "cedar"}})
    with pytest.raises(Refusal, match="voice"):
        update(target, voice_locked=True, audio={"output": {"voice": "marin"}})


def test_tracing_is_fixed_once_on() -> None:
    target = session()
    update(target, tracing="auto")
    with pytest.raises(Refusal, match="Tracing"):
        update(target, tracing=None)


def test_a_transcription_session_has_its_own_fields() -> None:
    target = Session(TRANSCRIPTION, None, 1_800_000_000)
    config = update(target, audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})
    assert set(config) == {"type", "object", "id", "expires_at", "audio", "include"}
    assert target.transcribes
    with pytest.raises(Refusal) as refusal:
        update(target, instructions="Be brief.")
    assert refusal.value.code == "unknown_parameter"
