"""One response from `response.created` to `response.done`, in the order of the recorded sessions."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.simulator.answers import Call, Situation, answer, commentary
from gateway.simulator.conversation import Conversation
from gateway.simulator.events import Beat, Event, event, new_id
from gateway.simulator.items import Item
from gateway.simulator.outputs import COMMENTARY, Calling, Output, Spoken, Written
from gateway.simulator.speech import Utterance
from gateway.simulator.usage import Tokens, cached_part, item_tokens, text_only, usage


@dataclass(frozen=True, slots=True)
class Terms:
    """What a response is asked to be: the session's configuration with the overrides of `response.create`.

    conversation: None for an answer outside the conversation.
    given: the items that the model reads.
    known_tokens: how much of them an earlier response has read.
    commentary: whether a word is said before a tool is called.
    """

    config: Mapping[str, Any]
    metadata: Mapping[str, str] | None
    conversation: Conversation | None
    given: tuple[Item, ...]
    known_tokens: int = 0
    commentary: bool = False

    @property
    def modality(self) -> str:
        """`audio` or `text`."""
        return str(self.config["output_modalities"][0])

    @property
    def audio_output(self) -> Mapping[str, Any]:
        """Format and voice."""
        output: Mapping[str, Any] = self.config["audio"]["output"]
        return output

    @property
    def tokens_max(self) -> float:
        """The limit, infinite by default."""
        limit: int | str = self.config["max_output_tokens"]
        return math.inf if isinstance(limit, str) else limit


class Response:
    """A response under way. `beats` gives its events when they are due; `cut` ends it early."""

    def __init__(self, terms: Terms) -> None:
        """Decides the answer at once; nothing is sent yet."""
        self.id = new_id("resp")
        self.terms = terms
        self.status = "in_progress"
        self._outputs = _outputs_for(terms)
        self._index = 0
        self._done: list[Item] = []
        self._item_opened = False
        self._previous_item_id: str | None = None

    @property
    def active(self) -> bool:
        """Whether `response.done` is still to come."""
        return self.status == "in_progress"

    @property
    def spoke(self) -> bool:
        """Whether sound was sent: it locks the voice."""
        return self._made.audio > 0

    @property
    def audio_ms(self) -> int:
        """How much sound was sent."""
        return sum(each.item("completed").audio_ms for each in self._outputs[: self._index + 1])

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self._given.total + self._made.total

    def created(self) -> Event:
        """Return the `response.created` event."""
        return event("response.created", response=self._object(None, [], None))

    def beats(self, first_audio_ms: float, speed: float) -> Iterator[Beat]:
        """Everything after `response.created`. Deltas run `speed` times faster than speech."""
        yield Beat(first_audio_ms, self._open)
        base = last = first_audio_ms
        for output in self._outputs:
            if output is not self._outputs[0]:
                base = last
                yield Beat(base, self._turn_to_next)
            for beat in output.beats(self._ids):
                last = base + beat.after_ms / speed
                yield Beat(last, beat.events)
        yield Beat(last, self._finish)

    def cut(self, reason: str) -> list[Event]:
        """Cancel it: the done events of what is open, and `response.done`."""
        return self._close("cancelled", {"type": "cancelled", "reason": reason})

    def _open(self) -> list[Event]:
        item = self._output.item("in_progress")
        self._item_opened = True
        ids = {"response_id": self.id, "output_index": self._index}
        opened = [event("response.output_item.added", **ids, item=item.wire)]
        if self.terms.conversation is not None:
            self._previous_item_id = self.terms.conversation.last_id
            opened.append(self.terms.conversation.add(item))
        return [*opened, *self._output.open(self._ids)]

    def _turn_to_next(self) -> list[Event]:
        closing = self._end_item("completed")
        self._index += 1
        return [*closing, *self._open()]

    def _end_item(self, status: str) -> list[Event]:
        if not self._item_opened:
            return []
        self._item_opened = False
        item = self._output.item(status)
        self._done.append(item)
        return [*self._output.close(self._ids), *self._item_done(item)]

    def _finish(self) -> list[Event]:
        if self._output.cut_by_limit:
            return self._close("incomplete", {"type": "incomplete", "reason": "max_output_tokens"})
        return self._close("completed", None)

    def _close(self, status: str, details: Mapping[str, Any] | None) -> list[Event]:
        self.status = status
        closing = self._end_item("completed" if status == "completed" else "incomplete")
        done = self._object(details, [item.wire for item in self._done], self._usage())
        return [*closing, event("response.done", response=done)]

    def _item_done(self, item: Item) -> Iterable[Event]:
        conversation = self.terms.conversation
        if conversation is not None:
            conversation.change(item)
            previous = self._previous_item_id if self._output.links_when_done else None
            yield event("conversation.item.done", previous_item_id=previous, item=item.wire)
        yield event("response.output_item.done", response_id=self.id, output_index=self._index, item=item.wire)

    @property
    def _output(self) -> Output:
        """The one that is being made."""
        return self._outputs[self._index]

    @property
    def _made(self) -> Tokens:
        return sum((each.made for each in self._outputs[: self._index + 1]), Tokens())

    @property
    def _ids(self) -> dict[str, Any]:
        item_id = self._output.item("in_progress").id
        return {"response_id": self.id, "item_id": item_id, "output_index": self._index}

    @property
    def _given(self) -> Tokens:
        return item_tokens(self.terms.given) + text_only(self.terms.config["instructions"])

    def _usage(self) -> dict[str, Any]:
        return usage(self._given, cached_part(self._given, self.terms.known_tokens), self._made)

    def _object(
        self, details: Mapping[str, Any] | None, output: list[Event], used: dict[str, Any] | None
    ) -> dict[str, Any]:
        conversation = self.terms.conversation
        audio = self.terms.audio_output
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": output,
            "conversation_id": None if conversation is None else conversation.id,
            "output_modalities": self.terms.config["output_modalities"],
            "max_output_tokens": self.terms.config["max_output_tokens"],
            "audio": {"output": {"format": audio["format"], "voice": audio["voice"]}},
            "usage": used,
            "metadata": self.terms.metadata,
        }


def _outputs_for(terms: Terms) -> list[Output]:
    config = terms.config
    written = terms.modality == "text"
    decided = answer(Situation(terms.given, config["instructions"], config["tools"], config["tool_choice"], written))
    outputs = [_output_for(terms, decided)]
    if terms.commentary and isinstance(decided, Call):
        said = commentary()
        outputs.insert(0, _output_for(terms, said.text if written else said, COMMENTARY))
    return outputs


def _output_for(terms: Terms, decided: Call | Utterance | str, phase: str | None = None) -> Output:
    item_id = new_id("item")
    match decided:
        case Call():
            return Calling(item_id, decided)
        case Utterance():
            format_name = terms.audio_output["format"]["type"]
            return Spoken(item_id, decided, format_name, terms.tokens_max, phase)
        case _:
            return Written(item_id, decided, terms.tokens_max, phase)
