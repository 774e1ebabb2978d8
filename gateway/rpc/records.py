"""The stored form of an event: the contract's own message, and beside it what only a gateway is to know.

    msgpack of [2, message, note, opening]

A later form is an array of four to seven as well, and begins with its version: such a one is refused by its number.
What begins otherwise was written before there were notes: the message alone. (Its first byte is the tag of a
field, and those of short arrays, 0x94 to 0x97, are the tags of none.)
"""

from typing import Any, Final, TypeVar

import msgspec
from google.protobuf.message import DecodeError
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session

from gateway.core import events as out
from gateway.core.errors import Reason, StoreError
from gateway.core.record import Note, Opening, Record
from gateway.rpc.responses import response
from gateway.runtime.ports import LogEntry

VERSION: Final = 2
UNKNOWN_FORM: Final = "a stored event is not of a known form"
# Who comes with what this gateway cannot read is to find another one, which can.
AGAIN_SECONDS: Final = 0.1
_FIRST: Final = frozenset(range(0x94, 0x98))
_REASONS: Final = {errors.ErrorReason.Value(f"ERROR_REASON_{reason.name}"): reason for reason in Reason}
_STATUSES: Final = {
    number: name.removeprefix("RESPONSE_STATUS_").lower() for name, number in event.ResponseStatus.items()
}
_Value = TypeVar("_Value")


class _Stored(msgspec.Struct, array_like=True):
    version: int
    message: bytes
    note: Note | None = None
    opening: Opening | None = None


class _Version(msgspec.Struct, array_like=True):
    """Of whatever stands behind it."""

    version: int


_decoder: Final = msgspec.msgpack.Decoder(_Stored)
_versions: Final = msgspec.msgpack.Decoder(_Version)
_encoder: Final = msgspec.msgpack.Encoder()


def message_of(payload: bytes) -> session.ConverseResponse:
    """Return the message of a stored event. Raises `StoreError` for what is none."""
    return _message(_stored(payload))


class RecordForm:
    """The runtime's `RecordForm`."""

    @staticmethod
    def encode(outgoing: out.Outgoing, note: Note | None = None, opening: Opening | None = None) -> bytes:
        """Return the stored form of an event."""
        return _encoder.encode(_Stored(VERSION, response(outgoing).SerializeToString(), note, opening))

    @staticmethod
    def read(entry: LogEntry) -> Record:
        """Return what a stored event means to a new owner. Raises `StoreError` for what is none."""
        stored = _stored(entry.payload)
        message = _message(stored)
        kind = message.WhichOneof("message")
        note = stored.note or Note()
        reader = _READERS.get(kind) if kind is not None else None
        told = reader(getattr(message, kind or ""), note) if reader is not None else None
        return Record(entry.seq, told, note, stored.opening)

    @staticmethod
    def again(entry: LogEntry) -> out.Outgoing:
        """Return a stored event for a caller that does not have it, as its owner told it. Raises `StoreError`."""
        stored = _stored(entry.payload)
        _message(stored)
        return out.Outgoing(out.Stored(stored.message), seq=entry.seq)


def _stored(payload: bytes) -> _Stored:
    if not payload or payload[0] not in _FIRST:
        return _Stored(1, payload)
    try:
        version = _versions.decode(payload).version
        if version != VERSION:
            text = f"a stored event has version {version}, of a newer gateway"
            raise StoreError(Reason.STORE_UNAVAILABLE, text, retry_after_seconds=AGAIN_SECONDS)
        return _decoder.decode(payload)
    except msgspec.DecodeError:
        raise StoreError(Reason.INTERNAL, UNKNOWN_FORM) from None


def _message(stored: _Stored) -> session.ConverseResponse:
    try:
        return session.ConverseResponse.FromString(stored.message)
    except DecodeError:
        raise StoreError(Reason.INTERNAL, UNKNOWN_FORM) from None


# Back from the contract's messages: what changes a conversation.


def _opened(told: session.Opened, _: Note) -> out.Opened:
    """Read who opened it and when; nothing else of it is wanted again."""
    return out.Opened(
        session_id=told.session_id,
        upstream_session_id=told.upstream_session_id,
        owner_address=told.owner_address,
        durability=out.Durability.NONE,
        message_max_bytes=0,
        gateway_message_max_bytes=0,
        session_life_max_seconds=0,
        session_idle_max_seconds=0,
        heartbeat_ms=0,
        config=out.ConfigState.APPLIED,
        source=out.LineSource.WARM,
        entry_age_ms=0,
        waited_ms=0,
        template=told.template,
        template_version=told.template_version,
        model=told.model,
        input_format="",
        output_format="",
        correlation_id=told.correlation_id,
        caller=told.caller,
        metadata=dict(told.metadata),
        opened_at_unix_ms=told.opened_at_unix_ms,
    )


def _response_done(told: event.ResponseDone, _: Note) -> out.ResponseDone:
    tokens = out.Usage(**{name: getattr(told.usage, name) for name in out.Usage.__struct_fields__})
    status = _STATUSES.get(told.status, "")  # a later gateway may know more of them
    return out.ResponseDone(
        told.response_id, status, told.status_reason, told.error_code, tokens, 0, 0, 0, dict(told.metadata)
    )


def _transcript(told: event.UserTranscript, _: Note) -> out.UserTranscript:
    return out.UserTranscript(told.text, told.item_id, told.failure)


def _error(told: errors.Error, note: Note) -> out.ErrorEvent:
    reason = _REASONS.get(told.reason, Reason.INTERNAL)
    return out.ErrorEvent(reason, told.message, told.upstream_code, told.client_event_id, told.cseq, note.event_id)


def _plain(kind: type[_Value], *names: str) -> Any:
    def read(told: Any, _: Note) -> _Value:
        return kind(*(getattr(told, name) for name in names))

    return read


_READERS: Final[dict[str, Any]] = {
    "opened": _opened,
    "response_done": _response_done,
    "user_transcript": _transcript,
    "input_committed": _plain(out.InputCommitted, "item_id"),
    "item_done": _plain(out.ItemDone, "item_id", "type", "role", "text", "call_id", "name", "audio_ms"),
    "interrupted": lambda told, _: out.Interrupted(
        told.response_id, told.item_id, out.InterruptionCause.UPSTREAM_LOST, told.sent_samples, told.had_tool_calls
    ),
    "item_deleted": _plain(out.ItemDeleted, "item_id"),
    "item_truncated": _plain(out.ItemTruncated, "item_id", "audio_end_ms"),
    "tool_call": _plain(out.ToolCall, "call_id", "name", "arguments_json", "response_id", "item_id"),
    "session_updated": _plain(out.SessionUpdated, "session_json"),
    "error": _error,
    "config_rejected": lambda told, note: out.ConfigRejected(_error(told.error, note), told.param),
}
