"""An item that a response makes, as it grows: spoken, written, or a call.

Each kind knows its own events and their order.
"""

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Protocol

from gateway.core.audio import BY_NAME
from gateway.simulator import codec
from gateway.simulator.answers import Call
from gateway.simulator.events import Beat, Event, delta_event, event, new_id
from gateway.simulator.items import Item, text_tokens
from gateway.simulator.speech import Utterance
from gateway.simulator.usage import Tokens

# The recorded service sends 8 KB of PCM at a time.
AUDIO_DELTA_MS: Final = 170
# What a word takes to write, where nothing is spoken.
_WORD_MS: Final = 100
# The transcript runs this many words ahead of the sound.
_WORDS_AHEAD: Final = 3
# The phase of a message that is not the answer yet; the service marks it so.
COMMENTARY: Final = "commentary"
_WORD: Final = re.compile(r"\s*[\w'’-]+|\s*[^\w\s]+|\s+")  # noqa: RUF001 - the typographic apostrophe is meant


class Output(Protocol):
    """An item in the making. `beats` and `close` change it as their events are made."""

    links_when_done: bool
    """Whether `conversation.item.done` names the previous item. It does for text only (as recorded)."""

    def item(self, status: str) -> Item:
        """Return the item so far."""

    def open(self, ids: dict[str, Any]) -> list[Event]:
        """Return what follows `conversation.item.added`."""

    def beats(self, ids: dict[str, Any]) -> Iterator[Beat]:
        """Give the deltas; times count from the first one."""

    def close(self, ids: dict[str, Any]) -> list[Event]:
        """Return the done events of what is open, also when it was cut."""

    @property
    def cut_by_limit(self) -> bool:
        """Whether `max_output_tokens` ends it early."""

    @property
    def made(self) -> Tokens:
        """What it has cost so far."""


def split_words(text: str) -> list[str]:
    """Words and punctuation with the space before them: joined, they are the text again."""
    return _WORD.findall(text)


class Written:
    """A message of text."""

    links_when_done = True

    def __init__(self, item_id: str, text: str, tokens_max: float, phase: str | None = None) -> None:
        """Stop writing after `tokens_max` tokens."""
        self._id = item_id
        self._phase = phase
        words = split_words(text)
        self._words = words
        if text_tokens(text) > tokens_max:
            self._words = split_words(text[: int(tokens_max) * 4])
        self._cut = len(self._words) < len(words)
        self._text = ""

    def item(self, status: str) -> Item:
        """Return the item so far."""
        content = [] if status == "in_progress" else [{"type": "output_text", "text": self._text}]
        return Item(_message(self._id, status, content, self._phase), self._text)

    def open(self, ids: dict[str, Any]) -> list[Event]:
        """Return the empty part."""
        return [event("response.content_part.added", **ids, content_index=0, part={"type": "text", "text": ""})]

    def beats(self, ids: dict[str, Any]) -> Iterator[Beat]:
        """Write a word at a time."""
        for index, word in enumerate(self._words):
            yield Beat(index * _WORD_MS, partial(self._write, {**ids, "content_index": 0}, word))

    def close(self, ids: dict[str, Any]) -> list[Event]:
        """Repeat the whole text, twice."""
        return [
            event("response.output_text.done", **ids, content_index=0, text=self._text),
            event(
                "response.content_part.done",
                **ids,
                content_index=0,
                part={"type": "text", "text": self._text},
            ),
        ]

    @property
    def cut_by_limit(self) -> bool:
        """Whether the text is longer than the limit."""
        return self._cut

    @property
    def made(self) -> Tokens:
        """Text only."""
        return Tokens(text=text_tokens(self._text))

    def _write(self, ids: dict[str, Any], word: str) -> list[Event]:
        self._text += word
        return [delta_event("response.output_text.delta", ids, word)]


class Spoken:
    """A message of speech with its transcript."""

    links_when_done = False

    def __init__(
        self, item_id: str, speech: Utterance, format_name: str, tokens_max: float, phase: str | None = None
    ) -> None:
        """Stop speaking after `tokens_max` tokens."""
        self._id = item_id
        self._phase = phase
        chunks = codec.chunks(speech.pcm, format_name, AUDIO_DELTA_MS)
        allowed = min(len(chunks), max(1, int(min(tokens_max, len(chunks) * 4) * 50 / AUDIO_DELTA_MS)))
        words = split_words(speech.text)
        self._cut = allowed < len(chunks)
        self._chunks = chunks[:allowed]
        self._words = words[: math.ceil(len(words) * allowed / len(chunks))]
        self._format = BY_NAME[format_name]
        self._transcript = ""
        self._audio_ms = 0
        self._limit_ms = speech.duration_ms

    def item(self, status: str) -> Item:
        """Return the item so far."""
        content = [] if status == "in_progress" else [{"type": "output_audio", "transcript": self._transcript}]
        return Item(_message(self._id, status, content, self._phase), self._transcript, self._audio_ms)

    def open(self, ids: dict[str, Any]) -> list[Event]:
        """Return the empty part."""
        return [
            event(
                "response.content_part.added",
                **ids,
                content_index=0,
                part={"type": "audio", "transcript": ""},
            )
        ]

    def beats(self, ids: dict[str, Any]) -> Iterator[Beat]:
        """Speak a piece at a time, the words of it a little earlier."""
        told = 0
        for index, chunk in enumerate(self._chunks):
            share = len(self._words) * index / len(self._chunks)
            due = min(len(self._words), math.ceil(share) + _WORDS_AHEAD)
            if index == len(self._chunks) - 1:
                due = len(self._words)
            words, told = self._words[told:due], due
            yield Beat(index * AUDIO_DELTA_MS, partial(self._speak, {**ids, "content_index": 0}, words, chunk))

    def close(self, ids: dict[str, Any]) -> list[Event]:
        """Sound, transcript, part."""
        part = {"type": "audio", "transcript": self._transcript}
        return [
            event("response.output_audio.done", **ids, content_index=0),
            event("response.output_audio_transcript.done", **ids, content_index=0, transcript=self._transcript),
            event("response.content_part.done", **ids, content_index=0, part=part),
        ]

    @property
    def cut_by_limit(self) -> bool:
        """Whether the speech is longer than the limit."""
        return self._cut

    @property
    def made(self) -> Tokens:
        """Speech costs both its sound and its words."""
        item = self.item("completed")
        return Tokens(text=item.text_tokens, audio=item.audio_tokens)

    def _speak(self, ids: dict[str, Any], words: list[str], chunk: str) -> list[Event]:
        self._transcript += "".join(words)
        self._audio_ms = min(self._limit_ms, self._audio_ms + AUDIO_DELTA_MS)
        return [
            *(delta_event("response.output_audio_transcript.delta", ids, word) for word in words),
            event("response.output_audio.delta", **ids, delta=chunk),
        ]


class Calling:
    """A function call."""

    links_when_done = False
    cut_by_limit = False

    def __init__(self, item_id: str, call: Call) -> None:
        """Give the call an id of its own."""
        self._id = item_id
        self._call = call
        self._call_id = new_id("call", 16)
        self._arguments = ""

    def item(self, status: str) -> Item:
        """Return the item so far."""
        wire = {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "name": self._call.name,
            "call_id": self._call_id,
            "arguments": self._arguments,
        }
        return Item(wire, self._call.name + self._arguments)

    def open(self, ids: dict[str, Any]) -> list[Event]:  # noqa: ARG002 - a call has no parts
        """Nothing."""
        return []

    def beats(self, ids: dict[str, Any]) -> Iterator[Beat]:
        """Write the arguments in small pieces of JSON."""
        for index, piece in enumerate(split_words(self._call.arguments)):
            yield Beat(index * _WORD_MS, partial(self._write, {**ids, "call_id": self._call_id}, piece))

    def close(self, ids: dict[str, Any]) -> list[Event]:
        """Repeat the whole arguments."""
        call = {"call_id": self._call_id, "name": self._call.name, "arguments": self._arguments}
        return [event("response.function_call_arguments.done", **ids, **call)]

    @property
    def made(self) -> Tokens:
        """Name and arguments are text."""
        return Tokens(text=text_tokens(self._call.name + self._arguments))

    def _write(self, ids: dict[str, Any], piece: str) -> list[Event]:
        self._arguments += piece
        return [delta_event("response.function_call_arguments.delta", ids, piece)]


def _message(item_id: str, status: str, content: list[dict[str, Any]], phase: str | None) -> Event:
    wire = {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}
    return wire if phase is None else {**wire, "phase": phase}
