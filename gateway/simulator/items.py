"""The items of a conversation: how the client names them, how the events show them, what they cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pybase64

from gateway.core.audio import AudioFormat
from gateway.simulator.events import Code, Event, Refusal, new_id
from gateway.simulator.shapes import ITEM

_CALL_ID_CHARACTERS_MAX: Final = 32
_USER_AUDIO_TOKEN_MS: Final = 100
_ASSISTANT_AUDIO_TOKEN_MS: Final = 50
_IMAGE_TOKENS: Final = 256
_TEXT_TOKEN_CHARACTERS: Final = 4
_PART_OF_ROLE: Final = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text",),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One item; a changed item is a new one with the same id.

    wire: what events show; never changed.
    text: what it says in words, also where the wire has no transcript.
    audio_ms: how much speech it holds.
    """

    wire: Event
    text: str
    audio_ms: int = 0
    images: int = 0

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.wire["id"])

    @property
    def kind(self) -> str:
        """`message`, `function_call` or `function_call_output`."""
        return str(self.wire["type"])

    @property
    def role(self) -> str | None:
        """Who speaks, for a message."""
        role: str | None = self.wire.get("role")
        return role

    @property
    def audio_tokens(self) -> int:
        """A token lasts twice as long in what the user says."""
        return self.audio_ms // (_USER_AUDIO_TOKEN_MS if self.role == "user" else _ASSISTANT_AUDIO_TOKEN_MS)

    @property
    def text_tokens(self) -> int:
        """The caller's speech costs audio tokens only, whatever its words."""
        return 0 if self.role == "user" and self.audio_ms else text_tokens(self.text)

    @property
    def image_tokens(self) -> int:
        """A flat price for each picture."""
        return self.images * _IMAGE_TOKENS


def text_tokens(text: str) -> int:
    """About four characters a token."""
    return math.ceil(len(text) / _TEXT_TOKEN_CHARACTERS)


def spoken_by_user(item_id: str, *, transcript: str | None, heard: str, audio_ms: int) -> Item:
    """Return the item of a committed turn: `heard` is what the simulator understood, shown only as `transcript`."""
    return Item(_user_audio_wire(item_id, transcript), heard, audio_ms)


def item_from_client(sent: object, path: str, input_format: AudioFormat) -> Item:
    """Return the item a client describes, with an id if it brought none. Raises Refusal."""
    ITEM(path, sent)
    if not isinstance(sent, dict):  # the check above has refused it
        raise TypeError(path)
    item_id = sent.get("id") or new_id("item")
    match sent["type"]:
        case "message":
            return _message(item_id, sent, path, input_format)
        case "function_call":
            call_id = _call_id(sent.get("call_id") or new_id("call", 16), path)
            return _function_call(item_id, sent["name"], call_id, sent["arguments"])
        case _:
            call_id = _call_id(sent["call_id"], path)
            wire = {
                "id": item_id,
                "type": "function_call_output",
                "call_id": call_id,
                "output": sent["output"],
            }
            return Item(wire, sent["output"])


def _function_call(item_id: str, name: str, call_id: str, arguments: str) -> Item:
    wire = {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "name": name,
        "call_id": call_id,
        "arguments": arguments,
    }
    return Item(wire, name + arguments)


def _call_id(call_id: str, path: str) -> str:
    if len(call_id) > _CALL_ID_CHARACTERS_MAX:
        message = f"Invalid '{path}.call_id': string too long. Expected at most {_CALL_ID_CHARACTERS_MAX} characters."
        raise Refusal(Code.STRING_ABOVE_MAX_LENGTH, message, f"{path}.call_id")
    return call_id


def _message(item_id: str, sent: Mapping[str, Any], path: str, input_format: AudioFormat) -> Item:
    role = sent["role"]
    for index, part in enumerate(sent["content"]):
        if part["type"] not in _PART_OF_ROLE[role]:
            supported = ", ".join(f"'{each}'" for each in _PART_OF_ROLE[role])
            message = f"Invalid value: '{part['type']}'. Supported values are: {supported}."
            raise Refusal(Code.INVALID_VALUE, message, f"{path}.content[{index}].type")
    wire = {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": role,
        "content": [_shown(part) for part in sent["content"]],
    }
    words = (part.get("text") or part.get("transcript") or "" for part in sent["content"])
    audio = [part["audio"] for part in sent["content"] if part["type"] == "input_audio"]
    images = sum(part["type"] == "input_image" for part in sent["content"])
    return Item(
        wire,
        " ".join(filter(None, words)),
        sum(_audio_ms(each, path, input_format) for each in audio),
        images,
    )


def _shown(part: Mapping[str, Any]) -> dict[str, Any]:
    """Audio is never sent back."""
    if part["type"] == "input_audio":
        return {"type": "input_audio", "transcript": part.get("transcript")}
    return dict(part)


def _audio_ms(coded: str, path: str, input_format: AudioFormat) -> int:
    return input_format.milliseconds(len(decode_audio(coded, f"{path}.content.audio")))


def decode_audio(coded: object, path: str) -> bytes:
    """Return the bytes behind base64 text. Raises Refusal."""
    if not isinstance(coded, str):
        message = f"Invalid type for '{path}': expected base64-encoded audio bytes."
        raise Refusal(Code.INVALID_TYPE, message, path)
    try:
        return pybase64.b64decode(coded, validate=True)
    except ValueError as error:  # binascii.Error is one
        message = f"Invalid '{path}'. Expected base64-encoded audio bytes, but got an invalid value."
        raise Refusal(Code.INVALID_VALUE, message, path) from error


def _user_audio_wire(item_id: str, transcript: str | None) -> Event:
    return {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": transcript}],
    }
