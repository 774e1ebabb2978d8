"""What goes over the wire: ids, the envelope of an event, refusals. Fields keep the order of the recorded sessions."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Event = dict[str, Any]

_ID_CHARACTERS: Final = 21
_OBFUSCATED_CHARACTERS: Final = 16


def new_id(prefix: str, characters: int = _ID_CHARACTERS) -> str:
    """Return an id as the service makes them: `item_` and 21 characters."""
    return f"{prefix}_{uuid.uuid4().hex[:characters]}"


def event(kind: str, **fields: object) -> Event:
    """Return a server event with an id of its own."""
    return {"type": kind, "event_id": new_id("event"), **fields}


def delta_event(kind: str, ids: dict[str, object], delta: str) -> Event:
    """Return a text-like delta, padded to a multiple of 16 characters so that its length tells nothing."""
    return event(kind, **ids, delta=delta, obfuscation=new_id("", -len(delta) % _OBFUSCATED_CHARACTERS)[1:])


class Code(StrEnum):
    """The `code` of an `error` event."""

    ARRAY_ABOVE_MAX_LENGTH = "array_above_max_length"
    CANNOT_UPDATE_VOICE = "cannot_update_voice"
    CONVERSATION_ALREADY_HAS_ACTIVE_RESPONSE = "conversation_already_has_active_response"
    INPUT_AUDIO_BUFFER_COMMIT_EMPTY = "input_audio_buffer_commit_empty"
    INVALID_JSON = "invalid_json"
    INVALID_TOOL_CALL_ID = "invalid_tool_call_id"
    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    ITEM_DELETE_INVALID_ITEM_ID = "item_delete_invalid_item_id"
    ITEM_RETRIEVE_INVALID_ITEM_ID = "item_retrieve_invalid_item_id"
    ITEM_TRUNCATE_INVALID_ITEM_ID = "item_truncate_invalid_item_id"
    MISSING_REQUIRED_PARAMETER = "missing_required_parameter"
    OBJECT_ABOVE_MAX_PROPERTIES = "object_above_max_properties"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    RESPONSE_CANCEL_NOT_ACTIVE = "response_cancel_not_active"
    SESSION_EXPIRED = "session_expired"
    STRING_ABOVE_MAX_LENGTH = "string_above_max_length"
    UNKNOWN_PARAMETER = "unknown_parameter"


class Refusal(Exception):  # noqa: N818 - the vocabulary of the protocol: a request is refused, the session goes on
    """A client event that is answered by an `error` event and changes nothing."""

    def __init__(self, code: Code, message: str, param: str | None = None) -> None:
        """`code` and `param` as the service sends them."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def event(self, client_event_id: str | None) -> Event:
        """Return the `error` event that answers the client event with this id."""
        return error_event(self.code, self.message, param=self.param, client_event_id=client_event_id)


def error_event(code: Code, message: str, *, param: str | None = None, client_event_id: str | None = None) -> Event:
    """Return an `error` event of the kind that leaves the session open."""
    error = {
        "type": "invalid_request_error",
        "code": code.value,
        "message": message,
        "param": param,
        "event_id": client_event_id,
    }
    return event("error", error=error)


@dataclass(frozen=True, slots=True)
class Beat:
    """Something to send later: `events` is called when it is due, and only then changes anything.

    after_ms: since the start of the script the beat belongs to.
    """

    after_ms: float
    events: Callable[[], list[Event]]


Script = Iterator[Beat]
