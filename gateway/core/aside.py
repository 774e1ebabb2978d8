"""An answer that the gateway asks a line for beside the conversation: in it the model says what was said. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core import event_ids
from gateway.core import events as out
from gateway.core import realtime as wire
from gateway.core.tally import usage_of

MARK: Final = "trunkline"
WORDS_MAX_TOKENS: Final = 1000
INSTRUCTIONS: Final = (
    "Sum up the conversation so far, in its own language and in at most 200 words, for yourself to go on from: who "
    "the user is and what they want, what was agreed, what is open, and names, numbers and dates exactly as they were "
    "said. Write the summary alone."
)
# What stands before it in the conversation.
HEADING: Final = "What was said before, in short: "


class Aside:
    """One such answer. The caller hears nothing of it."""

    def __init__(self, name: str = "") -> None:
        """Wait for it to begin. By its name it is known, which nobody else may guess; without one nothing is asked."""
        self._name = name
        self._response_id = ""
        self._words: list[str] = []
        # What it came to: empty = nothing; None = it is not over.
        self.text: str | None = None
        self.usage = out.Usage()

    def request(self) -> Mapping[str, Any]:
        """Return the client event that asks for it."""
        return {
            "type": "response.create",
            "event_id": event_ids.ASIDE,
            "response": {
                "conversation": "none",
                "output_modalities": ["text"],
                "tool_choice": "none",
                "instructions": INSTRUCTIONS,
                "max_output_tokens": WORDS_MAX_TOKENS,
                "metadata": {MARK: self._name},
            },
        }

    def takes(self, event: wire.ServerEvent) -> bool:
        """Whether an event is of this answer."""
        if not self._name:
            return False
        match event:
            case wire.ResponseCreatedEvent() if (event.response.metadata or {}).get(MARK) == self._name:
                self._response_id = event.response.id
            case wire.TextDeltaEvent() if event.response_id == self._response_id != "":
                self._words.append(event.delta)
            case wire.ResponseDoneEvent() if event.response.id == self._response_id != "":
                self.text = "".join(self._words) if event.response.status == "completed" else ""
                self.usage = usage_of(event.response.usage)
            case wire.ServerError() if event.error.event_id == event_ids.ASIDE:
                self.text = ""
            case _:
                return False
        return True

    def takes_raw(self, frame: bytes) -> bool:
        """The same for an event without a typed form."""
        return bool(self._response_id) and self._response_id.encode() in frame


def summary_item(text: str, item_id: str) -> Mapping[str, Any]:
    """Return the client event that puts a summary before all that is kept."""
    content = [{"type": "input_text", "text": HEADING + text}]
    item = {"id": item_id, "type": "message", "role": "system", "content": content}
    return {"type": "conversation.item.create", "previous_item_id": "root", "item": item}
