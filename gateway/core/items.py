"""Items of a conversation in the provider's form, and what they weigh."""

from collections.abc import Mapping, Sequence
from typing import Any

Body = Mapping[str, Any]


def said(text: str) -> Body:
    """What the model said."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def written(role: str, text: str) -> Body:
    """What somebody else said, in words."""
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def spoken(audio: str) -> Body:
    """What the user said, as audio in base64."""
    return {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]}


def call(call_id: str, name: str, arguments: str) -> Body:
    """A function that the model called."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def result(call_id: str, output: str) -> Body:
    """What a function returned."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def cut(body: Body, kept: int, whole: int) -> Body:
    """Return what was heard of an answer: its words in proportion, as speech is told evenly, and no half word."""
    text = "".join(part.get("text", "") for part in body.get("content", ()))
    beginning = text[: len(text) * kept // whole]
    ends_word = text[len(beginning) : len(beginning) + 1].isspace()
    return said(beginning if ends_word else beginning.rpartition(" ")[0])


def weight(value: object) -> int:
    """How much text stands in an item, or in a part of one."""
    match value:
        case str():
            return len(value)
        case Mapping():
            return sum(map(weight, value.values()))
        case Sequence():
            return sum(map(weight, value))
    return 0
