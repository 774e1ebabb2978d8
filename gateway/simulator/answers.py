"""Decides what to answer: the same words for the same conversation, related to it where that is simple.

It can speak only the recorded replies, so a spoken answer is always one of them; a written one may also name what the
conversation told it.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.simulator.items import Item
from gateway.simulator.speech import Utterance, replies

_MEETS, _KNOWS_NAME, _KNOWS_NO_NAME, _WEATHER, _JOKE, _ORDER, _TABLE, _HOURS = range(8)
_HISTORY, _DELIVERY, _APPOINTMENT, _FAREWELL, _LOOKED_UP, _OFFER, _LISTENS, _THINKS = range(8, 16)
_ANYTHING: Final = (_LISTENS, _THINKS, _OFFER)
_CUES: Final = tuple(
    (re.compile(rf"\b(?:{pattern})", re.IGNORECASE), reply)
    for pattern, reply in (
        ("thank you|goodbye", _FAREWELL),
        ("weather|foggy", _WEATHER),
        ("joke", _JOKE),
        ("book|table", _TABLE),
        ("close|open", _HOURS),
        ("telephone|history", _HISTORY),
        ("deliver", _DELIVERY),
        ("appointment", _APPOINTMENT),
        ("order", _ORDER),
        ("my name is alice", _MEETS),
        ("greet|hello|help", _OFFER),
    )
)
_NAME_GIVEN: Final = re.compile(r"\bmy name is (\w+)", re.IGNORECASE)
_NAME_ASKED: Final = re.compile(r"\bwhat is my name|\bwhat's my name", re.IGNORECASE)
_KNOWN_SPOKEN_NAME: Final = "alice"
_WRITTEN_RESULT_CHARACTERS_MAX: Final = 400

# Words of a tool's name that say what it does, not what it is about.
_TOOL_VERBS: Final = frozenset(
    {"check", "create", "fetch", "find", "look", "lookup", "make", "query", "search", "send"}
)
_TOPIC_CHARACTERS_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A tool to call instead of an answer."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision rests on. `items` in order; `tool_choice` and `tools` as in a response's parameters."""

    items: Sequence[Item]
    instructions: str
    tools: Sequence[Mapping[str, Any]]
    tool_choice: object
    written: bool


def answer(situation: Situation) -> Call | Utterance | str:
    """Return a call, a recorded reply, or (only if `written`) words of its own."""
    request = _request(situation)
    tool = _wanted_tool(situation, request)
    if tool is not None:
        return Call(tool["name"], json.dumps(_arguments(tool, request)))
    if situation.written and situation.items and situation.items[-1].kind == "function_call_output":
        return request[:_WRITTEN_RESULT_CHARACTERS_MAX] or replies()[_LOOKED_UP].text
    if _NAME_ASKED.search(request):
        return _recalled_name(situation)
    reply = replies()[_cued(request, situation)]
    return reply.text if situation.written else reply


def commentary() -> Utterance:
    """Return what is said while a tool is called."""
    return replies()[_THINKS]


def _request(situation: Situation) -> str:
    """Return what was said last by someone else than the simulator: the caller or a tool."""
    for item in reversed(situation.items):
        if item.role == "user" or item.kind == "function_call_output":
            return item.text
    return ""


def _cued(request: str, situation: Situation) -> int:
    for pattern, reply in _CUES:
        if pattern.search(request or situation.instructions):
            return reply
    if situation.items and situation.items[-1].kind == "function_call_output":
        return _LOOKED_UP
    if not request:
        return _OFFER
    return _ANYTHING[zlib.crc32(request.encode()) % len(_ANYTHING)]


def _recalled_name(situation: Situation) -> Utterance | str:
    told = [found[1] for item in situation.items for found in _NAME_GIVEN.finditer(item.text)]
    if situation.written and told:
        return f"Your name is {told[-1]}."
    known = told and told[-1].lower() == _KNOWN_SPOKEN_NAME
    reply = replies()[_KNOWS_NAME if known else _LISTENS if told else _KNOWS_NO_NAME]
    return reply.text if situation.written else reply


def _wanted_tool(situation: Situation, request: str) -> Mapping[str, Any] | None:
    functions = [tool for tool in situation.tools if tool["type"] == "function"]
    if not functions or situation.tool_choice == "none":
        return None
    if isinstance(situation.tool_choice, dict):
        named = situation.tool_choice.get("name")
        return next((tool for tool in functions if tool["name"] == named), None)
    if situation.items and situation.items[-1].kind == "function_call_output":
        return None  # or a caller that answers every call would be asked for ever
    asked = next((tool for tool in functions if _is_about(tool["name"], request)), None)
    return functions[0] if asked is None and situation.tool_choice == "required" else asked


def _is_about(tool_name: str, request: str) -> bool:
    said = request.lower()
    if tool_name.lower() in said:
        return True
    topics = set(re.split(r"[^a-z0-9]+", tool_name.lower())) - _TOOL_VERBS
    return any(re.search(rf"\b{topic}", said) for topic in topics if len(topic) >= _TOPIC_CHARACTERS_MIN)


def _arguments(tool: Mapping[str, Any], request: str) -> dict[str, Any]:
    properties = tool.get("parameters", {}).get("properties", {})
    return {name: _argument(name, schema, request) for name, schema in properties.items()}


def _argument(name: str, schema: Mapping[str, Any], request: str) -> object:
    """Make up a value of the asked type, taken from the request if it holds one."""
    if schema.get("enum"):
        return schema["enum"][0]
    number = (re.findall(r"\d+", request) or ["1"])[0]
    # A name in the middle of a sentence: "the weather in London".
    named = (re.findall(r"(?<=\w )[A-Z]\w+", request) or [name])[-1]
    by_type: dict[object, object] = {
        "integer": int(number),
        "number": float(number),
        "boolean": True,
        "array": [],
        "object": {},
    }
    return by_type.get(schema.get("type"), named)
