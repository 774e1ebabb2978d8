"""The Realtime wire format: server events in, client events out. Pure functions on bytes.

Only events with a typed form are decoded. Everything else, unknown or new, is passed on untouched;
so is a known event whose fields have changed shape. Fields that nothing here reads are not named.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pybase64
from msgspec import Struct

from gateway.core.errors import Reason


class _Event(Struct, tag_field="type", frozen=True, gc=False):
    """A server event with a typed form."""


class SessionObject(Struct, frozen=True):
    """What the gateway reads of the provider's session object."""

    id: str = ""
    model: str = ""
    expires_at: float | None = None


class ErrorObject(Struct, frozen=True):
    """The provider's words for a refusal."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


class _Content(Struct, frozen=True):
    text: str | None = None
    transcript: str | None = None


class Item(Struct, frozen=True):
    """An item of the conversation."""

    id: str = ""
    type: str = ""
    role: str = ""
    content: Sequence[_Content] = ()
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str = ""

    @property
    def text(self) -> str:
        """Its words or transcript, as far as they are known; of a function's result, what it returned."""
        return self.output or "".join(part.text or part.transcript or "" for part in self.content)


class _Cached(Struct, frozen=True):
    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0


class _Tokens(Struct, frozen=True):
    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0
    cached_tokens_details: _Cached | None = None
    reasoning_tokens: int = 0


class UsageObject(Struct, frozen=True):
    """Tokens of one response."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: _Tokens = _Tokens()
    output_token_details: _Tokens = _Tokens()


class _StatusDetails(Struct, frozen=True):
    reason: str | None = None
    error: ErrorObject | None = None


class ResponseObject(Struct, frozen=True):
    """One answer."""

    id: str = ""
    status: str = ""
    # One provider puts a word here.
    status_details: _StatusDetails | str | None = None
    usage: UsageObject | None = None
    metadata: Mapping[str, str] | None = None
    conversation_id: str | None = None


class SessionCreated(_Event, tag="session.created", frozen=True, gc=False):
    """The line is up."""

    session: SessionObject


class SessionUpdatedEvent(_Event, tag="session.updated", frozen=True, gc=False):
    """A configuration is in force."""

    session: msgspec.Raw

    def configuration(self) -> dict[str, Any]:
        """Return the session object; empty when it is none."""
        found = msgspec.json.decode(self.session)
        return found if isinstance(found, dict) else {}


class ServerError(_Event, tag="error", frozen=True, gc=False):
    """A client event was refused, or the session is in trouble."""

    error: ErrorObject


class ItemDoneEvent(_Event, tag="conversation.item.done", frozen=True, gc=False):
    """An item is complete."""

    item: Item


class ItemDeletedEvent(_Event, tag="conversation.item.deleted", frozen=True, gc=False):
    """An item is no part of the conversation any more."""

    item_id: str


class ItemTruncatedEvent(_Event, tag="conversation.item.truncated", frozen=True, gc=False):
    """An answer ends where its user stopped listening."""

    item_id: str
    audio_end_ms: int


class TranscriptionDelta(_Event, tag="conversation.item.input_audio_transcription.delta", frozen=True, gc=False):
    """A piece of what the user said."""

    item_id: str
    delta: str | None = None


class TranscriptionCompleted(
    _Event, tag="conversation.item.input_audio_transcription.completed", frozen=True, gc=False
):
    """What the user said."""

    item_id: str
    transcript: str


class TranscriptionFailed(_Event, tag="conversation.item.input_audio_transcription.failed", frozen=True, gc=False):
    """What the user said is not known."""

    item_id: str
    error: ErrorObject


class BufferCommitted(_Event, tag="input_audio_buffer.committed", frozen=True, gc=False):
    """The user's audio became an item."""

    item_id: str


class BufferSpeechStarted(_Event, tag="input_audio_buffer.speech_started", frozen=True, gc=False):
    """Speech began."""

    item_id: str
    audio_start_ms: int


class BufferSpeechStopped(_Event, tag="input_audio_buffer.speech_stopped", frozen=True, gc=False):
    """Speech ended."""

    item_id: str
    audio_end_ms: int


class ResponseCreatedEvent(_Event, tag="response.created", frozen=True, gc=False):
    """An answer began."""

    response: ResponseObject


class ResponseDoneEvent(_Event, tag="response.done", frozen=True, gc=False):
    """An answer ended."""

    response: ResponseObject


class AudioDelta(_Event, tag="response.output_audio.delta", frozen=True, gc=False):
    """A piece of speech, in base64."""

    response_id: str
    item_id: str
    delta: str

    def audio(self) -> bytes:
        """Return the audio bytes. Raises `ValueError` where it is not base64."""
        return pybase64.b64decode(self.delta, validate=True)


class TextDeltaEvent(_Event, tag="response.output_text.delta", frozen=True, gc=False):
    """A piece of a written answer."""

    response_id: str
    item_id: str
    delta: str


class AudioTranscriptDelta(_Event, tag="response.output_audio_transcript.delta", frozen=True, gc=False):
    """A piece of a spoken answer's transcript."""

    response_id: str
    item_id: str
    delta: str


class FunctionCallDone(_Event, tag="response.function_call_arguments.done", frozen=True, gc=False):
    """A function call is complete."""

    response_id: str
    item_id: str
    call_id: str
    arguments: str
    name: str = ""


class _Limit(Struct, frozen=True):
    name: str = ""
    limit: int = 0
    remaining: int = 0
    reset_seconds: float = 0.0


class RateLimitsUpdated(_Event, tag="rate_limits.updated", frozen=True, gc=False):
    """The account's limits."""

    rate_limits: Sequence[_Limit]


ServerEvent = (
    SessionCreated
    | SessionUpdatedEvent
    | ServerError
    | ItemDoneEvent
    | ItemDeletedEvent
    | ItemTruncatedEvent
    | TranscriptionDelta
    | TranscriptionCompleted
    | TranscriptionFailed
    | BufferCommitted
    | BufferSpeechStarted
    | BufferSpeechStopped
    | ResponseCreatedEvent
    | ResponseDoneEvent
    | AudioDelta
    | TextDeltaEvent
    | AudioTranscriptDelta
    | FunctionCallDone
    | RateLimitsUpdated
)

# A name once, however long the union: for the tables that count and the tests that cover.
TYPED_EVENTS: Final = frozenset(str(each.__struct_config__.tag) for each in ServerEvent.__args__)

CLIENT_EVENTS: Final = frozenset(
    {
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "conversation.item.delete",
        "response.create",
        "response.cancel",
        "output_audio_buffer.clear",
    }
)

_decoder: Final[msgspec.json.Decoder[ServerEvent]] = msgspec.json.Decoder(ServerEvent)
_encoder: Final = msgspec.json.Encoder()

_APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL: Final = b'"}'


def decode(frame: bytes) -> ServerEvent | None:
    """Return the typed event; None = JSON without a typed form. Raises `ValueError` on broken JSON."""
    try:
        try:
            return _decoder.decode(frame)
        except msgspec.ValidationError:
            # Rare: an event that is not in the union, or one that has changed. It must still be JSON.
            msgspec.json.decode(frame, type=msgspec.Raw)
            return None
    except RecursionError:
        raise ValueError("the message nests too deeply") from None


def encode_append(audio: bytes) -> bytes:
    """Return the client event that appends raw audio bytes, in the session's input format."""
    return _APPEND_HEAD + pybase64.b64encode(audio) + _APPEND_TAIL


def encode(event: Mapping[str, Any]) -> bytes:
    """Return a client event as JSON."""
    return _encoder.encode(event)


def session_update(session: Mapping[str, Any], event_id: str) -> bytes:
    """Return the client event that applies a configuration; a refusal names `event_id`."""
    return _encoder.encode({"type": "session.update", "event_id": event_id, "session": session})


# What an error code of the provider means to a caller. A code that is not here refuses one request.
ERROR_REASONS: Final[Mapping[str, Reason]] = {
    "beta_api_shape_disabled": Reason.CONFIG_REJECTED,
    "invalid_api_key": Reason.UPSTREAM_REFUSED_KEY,
    "account_deactivated": Reason.UPSTREAM_REFUSED_KEY,
    "insufficient_quota": Reason.BUDGET_EXHAUSTED,
    "billing_hard_limit_reached": Reason.BUDGET_EXHAUSTED,
    "credit_balance_exhausted": Reason.BUDGET_EXHAUSTED,
    "rate_limit_exceeded": Reason.UPSTREAM_RATE_LIMITED,
    "inference_rate_limit_exceeded": Reason.UPSTREAM_RATE_LIMITED,
    "model_not_found": Reason.UNKNOWN_MODEL,
    "session_expired": Reason.UPSTREAM_CLOSED,
    "server_error": Reason.UPSTREAM_CLOSED,
}


def error_reason(error: ErrorObject) -> Reason:
    """Return what an `error` event of the provider means to the caller."""
    return ERROR_REASONS.get(error.code or error.type or "", Reason.INVALID_FRAME)
