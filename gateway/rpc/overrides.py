"""The contract's `SessionOverrides` → a merge patch on the provider's session object."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

from google.protobuf.message import Message
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import types_pb2 as types

from gateway.core.errors import CallerError, Reason
from gateway.core.template import merge

FORMATS: Final[dict[int, dict[str, Any]]] = {
    types.AUDIO_FORMAT_PCM_24K: {"type": "audio/pcm", "rate": 24_000},
    types.AUDIO_FORMAT_PCMU: {"type": "audio/pcmu"},
    types.AUDIO_FORMAT_PCMA: {"type": "audio/pcma"},
}
T = TypeVar("T")
# No schema of the provider comes near it, and every later step may recurse so far.
DEPTH_MAX: Final = 64
MODALITIES: Final[dict[int, list[str]]] = {
    control.OUTPUT_MODALITY_AUDIO: ["audio"],
    control.OUTPUT_MODALITY_TEXT: ["text"],
}


def session_patch(overrides: control.SessionOverrides) -> dict[str, Any]:
    """Return the patch. Raises `CallerError` OVERRIDE_REFUSED for JSON that is not an object."""
    patch: dict[str, Any] = {}
    for name in ("instructions", "max_output_tokens"):
        if overrides.HasField(name):
            patch[name] = getattr(overrides, name)
    if overrides.output_modality:
        patch["output_modalities"] = known(MODALITIES, overrides.output_modality, "output_modality")
    if overrides.HasField("tools"):
        patch["tools"] = [_tool(tool) for tool in overrides.tools.tools]
    if overrides.HasField("tool_choice"):
        patch["tool_choice"] = _tool_choice(overrides.tool_choice)
    if overrides.HasField("reasoning_effort"):
        patch["reasoning"] = {"effort": overrides.reasoning_effort}
    audio = {"input": _input(overrides), "output": _output(overrides)}
    if named := {direction: fields for direction, fields in audio.items() if fields}:
        patch["audio"] = named
    return merge_raw(patch, overrides.session_json, "session_json")


def known(table: Mapping[int, T], value: int, field: str) -> T:
    """Look up an enum's value. Raises `CallerError`: a newer caller may know more of them than we do."""
    if value not in table:
        raise CallerError(Reason.OVERRIDE_REFUSED, f"{field}: unknown value {value}")
    return table[value]


def merge_raw(patch: dict[str, Any], text: str, field: str) -> dict[str, Any]:
    """Merge a caller's JSON object over `patch`, keeping its nulls: they take things away."""
    if not text:
        return patch
    given = parse_object(text, field, Reason.OVERRIDE_REFUSED)
    # A null in a merge patch over a patch must stay a null, so it is set after the merge.
    return _with_nulls(merge(patch, given), given)


def parse_object(text: str, field: str, reason: Reason) -> dict[str, Any]:
    """Read a JSON object. Raises `CallerError` with `reason`; the text is not repeated."""
    try:
        given = json.loads(text, parse_constant=_not_json, parse_float=_finite)
        text.encode()
        json.dumps(given, ensure_ascii=False).encode()  # a lone surrogate has no encoding
    except (ValueError, RecursionError):
        raise CallerError(reason, f"{field} is not JSON") from None
    if not isinstance(given, dict):
        raise CallerError(reason, f"{field} is not a JSON object")
    if _is_deeper(given, DEPTH_MAX):
        raise CallerError(reason, f"{field} is nested deeper than {DEPTH_MAX} levels")
    return given


def _not_json(word: str) -> NoReturn:
    """Refuse NaN and Infinity: they are Python's, and would go on as null, which takes away."""
    raise ValueError(word)


def _finite(word: str) -> float:
    """Refuse what is a number in JSON and none here: 1e999 would go on as null as well."""
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_deeper(each, levels - 1) for each in below if isinstance(each, dict | list))


def _with_nulls(merged: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if value is None:
            merged[name] = None
        elif isinstance(value, dict):
            _with_nulls(merged[name], value)
    return merged


def _input(overrides: control.SessionOverrides) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if overrides.input_format:
        fields["format"] = known(FORMATS, overrides.input_format, "input_format")
    if overrides.HasField("turn_detection"):
        fields["turn_detection"] = _turn_detection(overrides.turn_detection)
    if overrides.HasField("transcription"):
        fields["transcription"] = _present(overrides.transcription) or None
    if overrides.HasField("noise_reduction"):
        kind = overrides.noise_reduction
        fields["noise_reduction"] = {"type": kind} if kind else None
    return fields


def _output(overrides: control.SessionOverrides) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if overrides.output_format:
        fields["format"] = known(FORMATS, overrides.output_format, "output_format")
    for name in ("voice", "speed"):
        if overrides.HasField(name):
            fields[name] = _short(getattr(overrides, name))
    return fields


def _turn_detection(detection: control.TurnDetection) -> dict[str, Any] | None:
    match detection.WhichOneof("detection"):
        case "server_vad":
            return {"type": "server_vad", **_present(detection.server_vad)}
        case "semantic_vad":
            return {"type": "semantic_vad", **_present(detection.semantic_vad)}
    return None


def _present(message: Message) -> dict[str, Any]:
    return {field.name: _short(value) for field, value in message.ListFields()}


def _short(value: Any) -> Any:
    """Give a 32-bit float the digits that it was written with."""
    if isinstance(value, float) and not math.isfinite(value):
        raise CallerError(Reason.OVERRIDE_REFUSED, "a number of the overrides is not finite")
    return round(value, 6) if isinstance(value, float) else value


def _tool(tool: control.Tool) -> dict[str, Any]:
    parameters = tool.parameters_json or '{"type":"object","properties":{}}'
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parse_object(parameters, f"parameters_json of tool {tool.name}", Reason.OVERRIDE_REFUSED),
    }


def _tool_choice(choice: str) -> str | dict[str, str]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "name": choice}
