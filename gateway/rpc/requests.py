"""The contract's messages from a caller → core values. Audio passes through as plain bytes."""

import json
from collections.abc import Mapping
from typing import Any, Final

from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.realtime import CLIENT_EVENTS
from gateway.rpc.overrides import MODALITIES, known, merge_raw, parse_object, session_patch

ROLES: Final = {
    control.ROLE_UNSPECIFIED: "user",
    control.ROLE_USER: "user",
    control.ROLE_ASSISTANT: "assistant",
    control.ROLE_SYSTEM: "system",
}
# Fields of `open` that later work serves; a caller that sets one is told so, not ignored.
_UNSERVED_OPEN: Final = ("idempotency_key",)
CORRELATION_MAX: Final = 128
NAME_MAX: Final = 128
# The provider's own limits for metadata.
METADATA_MAX: Final = 16
KEY_MAX: Final = 64
VALUE_MAX: Final = 512
# More than a call can use; each costs the line a message.
HISTORY_MAX: Final = 1024
# As many owners as a caller remembers.
EPOCHS_MAX: Final = 16
# What a script of the store counts exactly, and more than any session comes to; and more events than one keeps.
NUMBER_MAX: Final = (1 << 53) - 1
REPLAY_MAX: Final = 1 << 16
# The provider's limit for an end user's id.
SAFETY_IDENTIFIER_MAX: Final = 64


def caller_message(request: session.ConverseRequest) -> out.CallerMessage:
    """Return what a request asks for. A fault comes as `Refused`."""
    kind = request.WhichOneof("message")
    if kind == "audio":
        return request.audio
    try:
        match kind:
            case "control":
                return out.Control(_client_events(request.control), request.cseq)
            case "bye":
                return out.Bye(request.bye.now, request.cseq)
            case "open":
                return _open(request.open)
            case "resume":
                return _resume(request.resume)
    except CallerError as error:
        return out.Refused(error, request.cseq)
    return out.Ack()


def _open(message: session.Open) -> out.OpenRequest:
    if len(message.correlation_id) > CORRELATION_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"correlation_id is over {CORRELATION_MAX} long")
    if len(message.template) > NAME_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"template is over {NAME_MAX} long")
    if len(message.metadata) > METADATA_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"metadata has over {METADATA_MAX} entries")
    if any(len(key) > KEY_MAX or len(value) > VALUE_MAX for key, value in message.metadata.items()):
        text = f"a metadata key is over {KEY_MAX} or a value over {VALUE_MAX} long"
        raise CallerError(Reason.INVALID_FRAME, text)
    if len(message.safety_identifier) > SAFETY_IDENTIFIER_MAX or not _is_printable(message.safety_identifier):
        text = f"safety_identifier must be up to {SAFETY_IDENTIFIER_MAX} printable ASCII characters"
        raise CallerError(Reason.SAFETY_IDENTIFIER_REFUSED, text)
    if len(message.history) > HISTORY_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"history has over {HISTORY_MAX} items")
    unserved = [name for name in _UNSERVED_OPEN if _is_set(message, name)]
    return out.OpenRequest(
        template=message.template,
        resumable=types.FEATURE_RESUMABLE in message.features,
        moves={types.FEATURE_RESUMABLE, types.FEATURE_PLANNED_MOVE} <= set(message.features),
        overrides=session_patch(message.overrides),
        metadata=dict(message.metadata),
        correlation_id=message.correlation_id,
        life_max_seconds=message.life_max_seconds,
        idle_max_seconds=message.idle_max_seconds,
        wait_max_ms=message.wait_max_ms,
        lease_token=message.lease_token,
        safety_identifier=message.safety_identifier,
        history=tuple(_history(item) for item in message.history),
        greet=out.Greet(message.greet.instructions, message.greet.guard_ms) if message.HasField("greet") else None,
        unserved=tuple(unserved),
    )


def _resume(message: session.Resume) -> out.ResumeRequest:
    if len(message.epochs) > EPOCHS_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"resume.epochs has over {EPOCHS_MAX} entries")
    starts = [number for each in message.epochs for number in (each.epoch, each.first_seq)]
    output = (message.output.received_samples, message.output.played_samples)
    if max((message.last_seq, message.input_kept_from, *output, *starts)) > NUMBER_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"resume: a number is over {NUMBER_MAX}")
    if any(each.first_seq > message.last_seq + REPLAY_MAX for each in message.epochs):
        raise CallerError(Reason.INVALID_FRAME, "resume.epochs: an owner begins far behind last_seq")
    return out.ResumeRequest(
        token=message.token,
        prepares=message.mode == session.RESUME_MODE_PREPARE,
        last_seq=message.last_seq,
        epochs=tuple(out.EpochStart(each.epoch, each.first_seq) for each in message.epochs),
        input_kept_from=message.input_kept_from,
        output=output_position(message.output),
    )


def caller_ack(message: types.CallerAck) -> out.CallerAck:
    """Return what a caller acknowledges."""
    return out.CallerAck(message.seq, message.read_bytes, output_position(message.output))


def output_position(message: types.OutputPosition) -> out.OutputPosition:
    """Return how far a caller has come with an item."""
    return out.OutputPosition(message.item_id, message.received_samples, message.played_samples)


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _history(message: session.HistoryItem) -> Mapping[str, Any]:
    match message.WhichOneof("item"):
        case "text":
            item = _message_item(message.role, message.text)
        case "tool_call":
            call = message.tool_call
            if not call.call_id or not call.name:
                raise CallerError(Reason.INVALID_FRAME, "a tool_call in history needs a call_id and a name")
            item = {
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments_json or "{}",
            }
        case "tool_result":
            item = _tool_output(message.tool_result)
        case _:
            raise CallerError(Reason.INVALID_FRAME, "an item of history is empty")
    if message.item_id:
        item["id"] = message.item_id
    return {"type": "conversation.item.create", "item": item}


def _message_item(chosen: control.Role.ValueType, text: str) -> dict[str, Any]:
    role = ROLES.get(chosen, "user")
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    return {"type": "message", "role": role, "content": [part]}


def _is_set(message: session.Open, name: str) -> bool:
    return any(field.name == name for field, _ in message.ListFields())


def _client_events(message: control.Control) -> tuple[Mapping[str, Any], ...]:
    match message.WhichOneof("control"):
        case "text":
            return (_text(message.text),)
        case "commit":
            return ({"type": "input_audio_buffer.commit"},)
        case "clear":
            return ({"type": "input_audio_buffer.clear"},)
        case "create_response":
            return (_create_response(message.create_response),)
        case "cancel":
            response_id = message.cancel.response_id
            named = {"response_id": response_id} if response_id else {}
            return ({"type": "response.cancel", **named},)
        case "truncate":
            return (_truncate(message.truncate),)
        case "tool_result":
            return _tool_result(message.tool_result)
        case "update_session":
            return (_update(session_patch(message.update_session.overrides)),)
        case "raw":
            return (_raw(message.raw.json),)
    raise CallerError(Reason.INVALID_FRAME, "control names nothing to do")


def _text(message: control.TextInput) -> Mapping[str, Any]:
    item = _message_item(message.role, message.text)
    if message.item_id:
        item["id"] = message.item_id
    return {"type": "conversation.item.create", "item": item}


def _create_response(message: control.CreateResponse) -> Mapping[str, Any]:
    response: dict[str, Any] = {}
    if message.HasField("instructions"):
        response["instructions"] = message.instructions
    if message.output_modality:
        response["output_modalities"] = known(MODALITIES, message.output_modality, "output_modality")
    if message.metadata:
        response["metadata"] = dict(message.metadata)
    if message.out_of_band:
        response["conversation"] = "none"
    response = merge_raw(response, message.response_json, "response_json")
    return {"type": "response.create", **({"response": response} if response else {})}


def _truncate(message: control.TruncateItem) -> Mapping[str, Any]:
    if not message.item_id:
        raise CallerError(Reason.INVALID_FRAME, "truncate.item_id is empty")
    return {
        "type": "conversation.item.truncate",
        "item_id": message.item_id,
        "content_index": message.content_index,
        "audio_end_ms": message.audio_end_ms,
    }


def _tool_result(message: control.ToolResult) -> tuple[Mapping[str, Any], ...]:
    create: Mapping[str, Any] = {"type": "conversation.item.create", "item": _tool_output(message)}
    return (create, {"type": "response.create"}) if message.create_response else (create,)


def _tool_output(message: control.ToolResult) -> dict[str, Any]:
    if not message.call_id:
        raise CallerError(Reason.INVALID_FRAME, "tool_result.call_id is empty")
    return {"type": "function_call_output", "call_id": message.call_id, "output": message.output}


def _update(patch: dict[str, Any]) -> Mapping[str, Any]:
    # The provider wants a type; the session knows which.
    return {"type": "session.update", "session": patch}


def _raw(text: str) -> Mapping[str, Any]:
    event = parse_object(text, "raw.json", Reason.INVALID_EVENT_JSON)
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in CLIENT_EVENTS:
        raise CallerError(Reason.INVALID_EVENT_JSON, f"raw.json has no known type; it is {json.dumps(kind)[:60]}")
    return event
