"""How turns end and what audio is made of, as a session object says it, whoever wrote it."""

from typing import Any

import pytest

from gateway.core.audio import PCM_24K, PCMA, PCMU
from gateway.core.turns import TurnTaking, detection_of, names_interruption
from tests.unit.core.recordings import NAMES, recording


def test_what_a_session_does_not_name_has_the_providers_default() -> None:
    assert TurnTaking.of({}) == TurnTaking.of({"audio": {"input": {}, "output": {}}}) == TurnTaking()


def test_turn_taking_is_read_from_the_session_object() -> None:
    detection = {
        "type": "server_vad", "silence_duration_ms": 200, "create_response": False, "interrupt_response": False,
    }  # fmt: skip
    given = {"format": {"type": "audio/pcmu"}, "turn_detection": detection, "transcription": {"model": "t"}}
    turns = TurnTaking.of({"audio": {"input": given, "output": {"format": {"type": "audio/pcma"}}}})
    assert turns == TurnTaking(
        by_server=True,
        create_response=False,
        interrupt_response=False,
        silence_ms=200,
        input_format=PCMU,
        output_format=PCMA,
        transcribes=True,
    )


def test_push_to_talk_is_turn_detection_null() -> None:
    assert not TurnTaking.of({"audio": {"input": {"turn_detection": None}}}).by_server


@pytest.mark.parametrize("name", NAMES)
def test_turn_taking_of_every_recorded_configuration_can_be_read(name: str) -> None:
    for _, data in recording(name):
        if "session" in data:
            turns = TurnTaking.of(data["session"])
            assert turns.input_format is turns.output_format is PCM_24K


@pytest.mark.parametrize(
    "session",
    [
        {"audio": "loud"},
        {"audio": {"input": "pcm16"}},
        {"audio": {"input": {"format": "pcm16"}}},
        {"audio": {"output": {"format": {"type": ["audio/pcm"]}}}},
        {"audio": {"input": {"turn_detection": "server_vad"}}},
        {"audio": {"input": {"turn_detection": {"silence_duration_ms": "long"}}}},
        {"audio": {"input": {"turn_detection": {"silence_duration_ms": [1]}}}},
        {"audio": {"input": {"turn_detection": {"silence_duration_ms": float("inf")}}}},
    ],
)
def test_a_configuration_that_the_provider_will_refuse_does_no_harm_here(session: dict[str, Any]) -> None:
    assert isinstance(TurnTaking.of(session), TurnTaking)


@pytest.mark.parametrize("silence_ms", [10**8, 2**32 - 1, -5])
def test_the_silence_at_the_end_is_bounded_whatever_a_caller_asks_for(silence_ms: int) -> None:
    detection = {"type": "server_vad", "silence_duration_ms": silence_ms}
    turns = TurnTaking.of({"audio": {"input": {"turn_detection": detection}}})
    assert PCM_24K.size_bytes(100) <= PCM_24K.size_bytes(turns.silence_ms + 300) <= PCM_24K.size_bytes(15_000)


def test_who_only_transcribes_is_never_answered() -> None:
    detection = {"type": "server_vad", "create_response": True}
    session = {"type": "transcription", "audio": {"input": {"turn_detection": detection}}}
    assert not TurnTaking.of(session).create_response
    assert not TurnTaking.of({"type": "transcription"}).create_response
    assert TurnTaking.of({**session, "type": "realtime"}).create_response


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}}, True),
        ({"audio": {"input": {"turn_detection": {"interrupt_response": None}}}}, True),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}, False),
        ({"audio": {"input": {"turn_detection": None}}}, False),
        ({"audio": []}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_patch_says_whether_speech_interrupts_when_it_names_that_even_as_null(patch: object, *, names: bool) -> None:
    assert names_interruption(patch) is names


@pytest.mark.parametrize(
    ("session", "found"),
    [
        ({}, {"type": "server_vad"}),
        ({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}, {"type": "semantic_vad"}),
        ({"audio": {"input": {"turn_detection": None}}}, None),
        ({"type": "transcription"}, None),
        ({"audio": "loud"}, None),
        ({"audio": {"input": {"turn_detection": "server_vad"}}}, None),
    ],
)
def test_how_the_server_ends_turns_is_read_from_the_session_object(
    session: dict[str, Any], found: dict[str, Any] | None
) -> None:
    assert detection_of(session) == found
