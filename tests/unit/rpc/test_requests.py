"""What a caller's messages become: nothing that a caller can send raises, and nothing is guessed."""

import json
from typing import Any

import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.core import events as out
from gateway.core.errors import Reason
from gateway.rpc.requests import caller_message


def asked(**what: Any) -> out.CallerMessage | None:
    return caller_message(session.ConverseRequest(control=control.Control(**what), cseq=7))


def opened(**what: Any) -> out.CallerMessage | None:
    return caller_message(session.ConverseRequest(open=session.Open(**what)))


def refusal(message: out.CallerMessage | None) -> Reason:
    assert isinstance(message, out.Refused), message
    return message.error.reason


def client_events(message: out.CallerMessage | None) -> list[dict[str, Any]]:
    assert isinstance(message, out.Control), message
    return [dict(event) for event in message.client_events]


def patch(**overrides: Any) -> dict[str, Any]:
    message = opened(overrides=control.SessionOverrides(**overrides))
    assert isinstance(message, out.OpenRequest), message
    return dict(message.overrides)


@pytest.mark.parametrize("kind", ["[]", "{}", "5", "null", '"nonesuch"'])
def test_an_event_whose_type_is_no_client_event_is_refused(kind: str) -> None:
    assert refusal(asked(raw=control.RawEvent(json=f'{{"type": {kind}}}'))) is Reason.INVALID_EVENT_JSON


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_python_takes_for_json_and_nobody_else_is_refused(word: str) -> None:
    """It would go on as null, which takes the template's own value away."""
    assert refusal(opened(overrides=control.SessionOverrides(session_json=f'{{"a": {word}}}'))) is (
        Reason.OVERRIDE_REFUSED
    )


@pytest.mark.parametrize("field", ["input_format", "output_format", "output_modality"])
def test_an_enum_value_of_a_newer_caller_is_refused_and_named(field: str) -> None:
    newer: dict[str, Any] = {field: 77}
    message = opened(overrides=control.SessionOverrides(**newer))
    assert refusal(message) is Reason.OVERRIDE_REFUSED
    assert isinstance(message, out.Refused)
    assert field in message.error.message
    assert "77" in message.error.message


def test_an_answer_of_an_unknown_kind_is_refused() -> None:
    newer: dict[str, Any] = {"output_modality": 77}
    assert refusal(asked(create_response=control.CreateResponse(**newer))) is Reason.OVERRIDE_REFUSED


def test_a_refusal_names_the_frame_that_it_answers() -> None:
    message = asked()
    assert isinstance(message, out.Refused)
    assert (message.error.reason, message.cseq) == (Reason.INVALID_FRAME, 7)


def test_fields_that_are_not_served_are_named_and_not_ignored() -> None:
    message = opened(idempotency_key="k", features=[types.FEATURE_RESUMABLE])
    assert isinstance(message, out.OpenRequest)
    assert message.unserved == ("idempotency_key",)
    assert message.resumable


@pytest.mark.parametrize(
    "what",
    [
        {"template": "t" * 129},
        {"correlation_id": "c" * 129},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {str(number): "v" for number in range(17)}},
    ],
    ids=["template", "correlation", "key", "value", "number"],
)
def test_what_is_shown_to_operators_is_bounded(what: dict[str, Any]) -> None:
    assert refusal(opened(**what)) is Reason.INVALID_FRAME


def test_only_fields_that_are_present_are_in_the_patch() -> None:
    assert patch() == {}
    assert patch(instructions="") == {"instructions": ""}
    assert patch(voice="cedar", speed=1.2) == {"audio": {"output": {"voice": "cedar", "speed": 1.2}}}


def test_turn_detection_can_be_switched_off() -> None:
    none = control.TurnDetection(none=control.NoTurnDetection())
    assert patch(turn_detection=none) == {"audio": {"input": {"turn_detection": None}}}


def test_turn_detection_carries_what_is_present_even_if_it_is_zero() -> None:
    vad = control.TurnDetection(server_vad=control.ServerVad(threshold=0.0, silence_duration_ms=200))
    assert patch(turn_detection=vad) == {
        "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.0, "silence_duration_ms": 200}}}
    }


def test_json_is_merged_last_and_its_nulls_take_away() -> None:
    merged = patch(instructions="a", session_json='{"instructions": null, "audio": {"input": {"transcription": null}}}')
    assert merged == {"instructions": None, "audio": {"input": {"transcription": None}}}


def test_tools_replace_the_whole_list() -> None:
    tool = control.Tool(name="f", description="d", parameters_json='{"type": "object"}')
    assert patch(tools=control.Tools(tools=[tool]))["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    ]
    assert patch(tools=control.Tools()) == {"tools": []}


def test_each_control_becomes_the_providers_own_event() -> None:
    assert client_events(asked(commit=control.CommitAudio())) == [{"type": "input_audio_buffer.commit"}]
    assert client_events(asked(clear=control.ClearAudio())) == [{"type": "input_audio_buffer.clear"}]
    assert client_events(asked(cancel=control.CancelResponse())) == [{"type": "response.cancel"}]
    assert client_events(asked(create_response=control.CreateResponse(out_of_band=True))) == [
        {"type": "response.create", "response": {"conversation": "none"}}
    ]
    (said,) = client_events(asked(text=control.TextInput(text="hi", role=control.ROLE_ASSISTANT)))
    assert said["item"] == {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "hi"}],
    }


def test_a_tool_result_can_ask_for_the_answer_too() -> None:
    result = control.ToolResult(call_id="c", output="{}", create_response=True)
    kinds = [event["type"] for event in client_events(asked(tool_result=result))]
    assert kinds == ["conversation.item.create", "response.create"]


def test_a_raw_event_goes_on_as_it_is() -> None:
    event = {"type": "response.create", "event_id": "mine", "response": {"metadata": {"a": "b"}}}
    assert client_events(asked(raw=control.RawEvent(json=json.dumps(event)))) == [event]


def test_audio_travels_as_plain_bytes() -> None:
    assert caller_message(session.ConverseRequest(audio=b"\1\2")) == b"\1\2"
