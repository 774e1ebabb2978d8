"""The wire format: what has a typed form is decoded, everything else is left as it is."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import realtime as wire
from gateway.core.errors import Reason
from tests.unit.core.recordings import NAMES, received


def frame(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "event_id": "event_1", **fields}).encode()


EXAMPLES: dict[str, dict[str, Any]] = {
    "session.created": {"session": {"id": "sess_1", "model": "m", "expires_at": 1}},
    "session.updated": {"session": {"id": "sess_1"}},
    "error": {"error": {"message": "no"}},
    "conversation.item.done": {"item": {"id": "item_1", "type": "message", "role": "user"}},
    "conversation.item.deleted": {"item_id": "item_1"},
    "conversation.item.truncated": {"item_id": "item_1", "audio_end_ms": 3},
    "conversation.item.input_audio_transcription.delta": {"item_id": "item_1", "delta": "a"},
    "conversation.item.input_audio_transcription.completed": {"item_id": "item_1", "transcript": "a"},
    "conversation.item.input_audio_transcription.failed": {"item_id": "item_1", "error": {"code": "c"}},
    "input_audio_buffer.committed": {"item_id": "item_1"},
    "input_audio_buffer.speech_started": {"item_id": "item_1", "audio_start_ms": 1},
    "input_audio_buffer.speech_stopped": {"item_id": "item_1", "audio_end_ms": 2},
    "response.created": {"response": {"id": "resp_1"}},
    "response.done": {"response": {"id": "resp_1", "status": "completed"}},
    "response.output_audio.delta": {"response_id": "resp_1", "item_id": "item_1", "delta": "AAA="},
    "response.output_text.delta": {"response_id": "resp_1", "item_id": "item_1", "delta": "a"},
    "response.output_audio_transcript.delta": {"response_id": "resp_1", "item_id": "item_1", "delta": "a"},
    "response.function_call_arguments.done": {
        "response_id": "resp_1", "item_id": "item_1", "call_id": "call_1", "arguments": "{}",
    },
    "rate_limits.updated": {"rate_limits": [{"name": "tokens", "limit": 1, "remaining": 1, "reset_seconds": 0.5}]},
}  # fmt: skip


def test_there_is_an_example_of_every_typed_event() -> None:
    assert set(EXAMPLES) == wire.TYPED_EVENTS


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_a_typed_event_is_decoded(kind: str) -> None:
    event = wire.decode(frame(kind, **EXAMPLES[kind]))
    assert event is not None
    assert event.__struct_config__.tag == kind


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_a_typed_event_that_lacks_its_fields_is_passed_on(kind: str) -> None:
    assert wire.decode(frame(kind)) is None


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_fields_that_are_new_do_no_harm(kind: str) -> None:
    event = wire.decode(frame(kind, **EXAMPLES[kind], novelty={"a": [1, None]}))
    assert event is not None
    assert event == wire.decode(frame(kind, **EXAMPLES[kind]))


@pytest.mark.parametrize(
    "text",
    [
        frame("response.output_item.added", item={}),
        frame("something.new"),
        b'{"no":"type"}',
        b'{"type":5}',
        b'{"type":null}',
        b"[]",
        b'"text"',
        b"17",
    ],
)
def test_json_without_a_typed_form_is_passed_on(text: bytes) -> None:
    assert wire.decode(text) is None


@pytest.mark.parametrize("text", [b"", b"{", b'{"type":"error"', b"nonsense", b'{"type":"x"}}', b"\xff\xfe"])
def test_what_is_not_json_raises(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the promise is the class
        wire.decode(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_event_is_typed_or_passed_on(name: str) -> None:
    for text in received(name):
        event = wire.decode(text)
        kind = json.loads(text)["type"]
        assert (event is not None) is (kind in wire.TYPED_EVENTS), kind


def test_the_expiry_of_a_session_is_read() -> None:
    event = wire.decode(frame("session.created", session={"id": "s", "expires_at": 1785217648}))
    assert isinstance(event, wire.SessionCreated)
    assert (event.session.id, event.session.expires_at) == ("s", 1785217648)


@given(st.binary())
def test_audio_comes_through_unchanged_both_ways(audio: bytes) -> None:
    coded = base64.b64encode(audio).decode()
    delta = wire.decode(frame("response.output_audio.delta", response_id="r", item_id="i", delta=coded))
    assert isinstance(delta, wire.AudioDelta)
    assert delta.audio() == audio
    sent = json.loads(wire.encode_append(audio))
    assert sent == {"type": "input_audio_buffer.append", "audio": coded}


def test_a_slash_that_was_escaped_is_still_audio() -> None:
    coded = rb'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","delta":"\/\/8A"}'
    event = wire.decode(coded)
    assert isinstance(event, wire.AudioDelta)
    assert event.audio() == base64.b64decode("//8A")


def test_audio_that_is_not_base64_raises() -> None:
    event = wire.decode(frame("response.output_audio.delta", response_id="r", item_id="i", delta="A"))
    assert isinstance(event, wire.AudioDelta)
    with pytest.raises(ValueError):  # noqa: PT011 the promise is the class
        event.audio()


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists),
        max_size=5,
    )
)
def test_a_client_event_is_encoded_as_it_is(event: dict[str, Any]) -> None:
    assert json.loads(wire.encode(event)) == event


def test_a_configuration_can_be_refused_by_name() -> None:
    update = json.loads(wire.session_update({"type": "realtime"}, "tl-config"))
    assert update == {"type": "session.update", "event_id": "tl-config", "session": {"type": "realtime"}}


def test_the_session_object_is_kept_as_it_was_written() -> None:
    text = b'{"type":"session.updated","session":{"b": 1.50, "a":[ ]}}'
    event = wire.decode(text)
    assert isinstance(event, wire.SessionUpdatedEvent)
    assert bytes(event.session) == b'{"b": 1.50, "a":[ ]}'


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "invalid_api_key"}, Reason.UPSTREAM_REFUSED_KEY),
        ({"code": "rate_limit_exceeded"}, Reason.UPSTREAM_RATE_LIMITED),
        ({"code": "insufficient_quota", "type": "x"}, Reason.BUDGET_EXHAUSTED),
        ({"code": "session_expired"}, Reason.UPSTREAM_CLOSED),
        ({"type": "server_error"}, Reason.UPSTREAM_CLOSED),
        ({"code": "model_not_found"}, Reason.UNKNOWN_MODEL),
        ({"code": "invalid_value", "type": "invalid_request_error"}, Reason.INVALID_FRAME),
        ({}, Reason.INVALID_FRAME),
    ],
)
def test_an_error_code_has_its_reason(error: dict[str, str], reason: Reason) -> None:
    assert wire.error_reason(msgspec.convert(error, wire.ErrorObject)) is reason


def test_the_eleven_client_events_are_known() -> None:
    assert len(wire.CLIENT_EVENTS) == 11


def test_the_words_of_an_item_are_its_text_or_transcript() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_audio", "transcript": "b"}, {"type": "input_image"}]
    event = wire.decode(frame("conversation.item.done", item={"id": "i", "content": parts}))
    assert isinstance(event, wire.ItemDoneEvent)
    assert event.item.text == "ab"


# Known events in an unknown shape.


@pytest.mark.parametrize("delta", [None, 12345678, True, {"audio": "AAAA"}])
def test_audio_in_another_shape_is_passed_on_untouched(delta: object) -> None:
    assert wire.decode(frame("response.output_audio.delta", response_id="r", item_id="i", delta=delta)) is None
