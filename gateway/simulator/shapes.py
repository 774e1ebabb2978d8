"""The objects a client may send, field by field: session, response parameters, items. Tables only."""

import math
from typing import Final

from gateway.core.audio import BY_NAME, PCM_24K
from gateway.simulator.events import Code, Refusal
from gateway.simulator.schema import (
    Check,
    anything_in_object,
    by_type,
    flag,
    group,
    integer,
    list_of,
    nullable,
    number,
    one_of,
    refuse_type,
    string_or,
    text,
)

VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
_TOOLS_MAX: Final = 128
_ITEMS_MAX: Final = 1_000
_LIST_MAX: Final = 100
_METADATA_PAIRS_MAX: Final = 16


def _modalities(path: str, value: object) -> None:
    list_of(one_of(("text", "audio")), at_most=2)(path, value)
    if value not in (["text"], ["audio"]):
        message = f"Invalid modalities: {value}. Supported combinations are: ['text'] and ['audio']."
        raise Refusal(Code.INVALID_VALUE, message, path)


def _audio_rate(path: str, value: object) -> None:
    if value != PCM_24K.rate_hz:
        raise Refusal(Code.INVALID_VALUE, f"Invalid value: '{value}'. Supported values are: {PCM_24K.rate_hz}.", path)


def _max_output_tokens(path: str, value: object) -> None:
    if isinstance(value, str):
        one_of(("inf",))(path, value)
    else:
        integer(1, 4096)(path, value)


def _metadata(path: str, value: object) -> None:
    if not isinstance(value, dict):
        raise refuse_type(path, "an object", value)
    if len(value) > _METADATA_PAIRS_MAX:
        raise Refusal(Code.OBJECT_ABOVE_MAX_PROPERTIES, f"Invalid '{path}': at most {_METADATA_PAIRS_MAX} pairs.", path)
    for name, each in value.items():
        text(f"{path}.{name}", each)


def _anything(path: str, value: object) -> None:
    """Accept what the simulator neither reads nor checks."""


_FORMAT: Final = by_type({name: group({"type": text, "rate": _audio_rate}) for name in BY_NAME})
_VOICE: Final = string_or(one_of(VOICES), group({"id": text}, required=("id",)))
_RESPONDS: Final[dict[str, Check]] = {"type": text, "create_response": flag, "interrupt_response": flag}
_TURN_DETECTION: Final = by_type(
    {
        "server_vad": group(
            {
                **_RESPONDS,
                "threshold": number(0, 1),
                "prefix_padding_ms": integer(0, 5_000),
                "silence_duration_ms": integer(0, 10_000),
                "idle_timeout_ms": nullable(integer(5_000, 30_000)),
            }
        ),
        "semantic_vad": group({**_RESPONDS, "eagerness": one_of(("auto", "low", "medium", "high"))}),
    }
)
_TRANSCRIPTION: Final = group(
    {
        "model": text,
        "language": nullable(text),
        "languages": nullable(list_of(text, at_most=_LIST_MAX)),
        "keywords": nullable(list_of(text, at_most=_LIST_MAX)),
        "prompt": nullable(text),
        "delay": one_of(("minimal", "low", "medium", "high", "xhigh")),
    }
)
_NOISE_REDUCTION: Final = group({"type": one_of(("near_field", "far_field")), "strength": number(0, math.inf)})
_INPUT: Final = group(
    {
        "format": _FORMAT,
        "noise_reduction": nullable(_NOISE_REDUCTION),
        "transcription": nullable(_TRANSCRIPTION),
        "turn_detection": nullable(_TURN_DETECTION),
    }
)
_FUNCTION: Final = group({"type": text, "name": text, "description": text, "parameters": anything_in_object}, ("name",))
_TOOL: Final = by_type({"function": _FUNCTION, "mcp": anything_in_object})
_TOOL_CHOICE: Final = string_or(
    one_of(("none", "auto", "required")),
    by_type({"function": group({"type": text, "name": text}, ("name",)), "mcp": anything_in_object}),
)
_ANSWERING: Final[dict[str, Check]] = {
    "output_modalities": _modalities,
    "instructions": text,
    "tools": list_of(_TOOL, at_most=_TOOLS_MAX),
    "tool_choice": _TOOL_CHOICE,
    "max_output_tokens": _max_output_tokens,
    "parallel_tool_calls": flag,
    "reasoning": anything_in_object,
    "prompt": nullable(anything_in_object),
}

REALTIME_SESSION: Final = group(
    {
        **_ANSWERING,
        "type": text,
        "model": text,
        "tracing": nullable(string_or(one_of(("auto",)), anything_in_object)),
        "truncation": string_or(one_of(("auto", "disabled")), anything_in_object),
        "include": nullable(list_of(text, at_most=_LIST_MAX)),
        "audio": group(
            {
                "input": _INPUT,
                "output": group({"format": _FORMAT, "voice": _VOICE, "speed": number(0.25, 1.5)}),
            }
        ),
    },
    required=("type",),
)
TRANSCRIPTION_SESSION: Final = group(
    {"type": text, "include": nullable(list_of(text, at_most=_LIST_MAX)), "audio": group({"input": _INPUT})},
    required=("type",),
)

_COMMON: Final[dict[str, Check]] = {"id": text, "object": text, "type": text, "status": text}
_PART: Final = by_type(
    {
        "input_text": group({"type": text, "text": text}, ("text",)),
        "input_audio": group({"type": text, "audio": text, "transcript": nullable(text)}, ("audio",)),
        "input_image": group({"type": text, "image_url": text, "detail": text}, ("image_url",)),
        "output_text": group({"type": text, "text": text}, ("text",)),
    }
)
_MESSAGE: Final = group(
    {
        **_COMMON,
        "role": one_of(("system", "user", "assistant")),
        "content": list_of(_PART, at_most=_LIST_MAX),
    },
    required=("role", "content"),
)
_CALL: Final = group({**_COMMON, "name": text, "call_id": text, "arguments": text}, ("name", "arguments"))
_CALL_OUTPUT: Final = group({**_COMMON, "call_id": text, "output": text}, ("call_id", "output"))
_ITEM_SHAPES: Final = {"message": _MESSAGE, "function_call": _CALL, "function_call_output": _CALL_OUTPUT}

ITEM: Final = by_type(_ITEM_SHAPES)
RESPONSE: Final = group(
    {
        **_ANSWERING,
        "conversation": one_of(("auto", "none")),
        "metadata": nullable(_metadata),
        "audio": group({"output": group({"format": _FORMAT, "voice": _VOICE})}),
        "input": list_of(
            by_type({**_ITEM_SHAPES, "item_reference": group({"type": text, "id": text}, ("id",))}),
            at_most=_ITEMS_MAX,
        ),
    }
)
