"""One session as the service sees it: takes client events, sends server events. Knows no socket and no clock.

All eleven client events have their entry in one table.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.simulator.conversation import Conversation, previous_item_id
from gateway.simulator.events import Code, Event, Refusal, event
from gateway.simulator.items import item_from_client
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.responses import Perform, Responses, Send
from gateway.simulator.session import Session
from gateway.simulator.turns import Committed, Turns

_TAGS_MAX: Final = 32
_TAG_KEY: Final = "session_tag"
_TAG_PREFIX: Final = "tag-"


class Dialogue:
    """A session and everything it remembers."""

    def __init__(
        self,
        options: SimulatorOptions,
        session: Session,
        send: Send,
        perform: Perform,
        committed: Committed = lambda _, __, ___: None,
    ) -> None:
        """`send` and `perform` write to the session's socket, in the order of the calls."""
        self.session = session
        self.tags = deque[str](maxlen=_TAGS_MAX)
        self._send = send
        self._conversation = Conversation()
        self._responses = Responses(options, session, self._conversation, send, perform)
        self._turns = Turns(session, self._conversation, self._responses, send, perform, committed)
        self._takes: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._turns.append,
            "input_audio_buffer.commit": lambda _: self._turns.commit(),
            "input_audio_buffer.clear": lambda _: self._turns.clear(),
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": lambda sent: send(self._conversation.retrieve(sent.get("item_id"))),
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": lambda sent: send(self._conversation.delete(sent.get("item_id"))),
            "response.create": self._create_response,
            "response.cancel": lambda sent: self._responses.cancel(sent.get("response_id")),
            "output_audio_buffer.clear": _refuse_web_rtc_only,
        }

    @property
    def state(self) -> dict[str, object]:
        """What an observer may know of it."""
        return {
            "speech_active": self._turns.speaking,
            "response_active": self._responses.active,
            "items": sum(1 for _ in self._conversation),
            "input_audio_bytes": self._turns.written_bytes,
            "session_tags": list(self.tags),
        }

    def open(self) -> None:
        """Send the first event of every session."""
        self._send(event("session.created", session=self.session.config))

    def take(self, sent: object) -> None:
        """Answer one client event; what cannot be done is answered by an `error` event."""
        client_event_id = sent.get("event_id") if isinstance(sent, dict) else None
        try:
            self._take(sent)
        except Refusal as refusal:
            self._send(refusal.event(client_event_id if isinstance(client_event_id, str) else None))

    def _take(self, sent: object) -> None:
        if not isinstance(sent, dict):
            raise Refusal(Code.INVALID_TYPE, "Invalid type for the event: expected an object.")
        kind = sent.get("type")
        if kind is None:
            raise Refusal(Code.MISSING_REQUIRED_PARAMETER, "Missing required parameter: 'type'.", "type")
        take = self._takes.get(kind) if isinstance(kind, str) else None
        if take is None:
            supported = ", ".join(f"'{each}'" for each in self._takes)
            raise Refusal(Code.INVALID_VALUE, f"Invalid value: '{kind}'. Supported values are: {supported}.", "type")
        take(sent)

    def _update(self, sent: Mapping[str, Any]) -> None:
        self.session.update(sent.get("session"), voice_locked=self._responses.voice_locked)
        self._turns.configure()
        self._send(event("session.updated", session=self.session.config))

    def _create_item(self, sent: Mapping[str, Any]) -> None:
        item = item_from_client(sent.get("item"), "item", self.session.input_format)
        added = self._conversation.add(item, previous_item_id(sent))
        self._note_tag(item.id if item.id.startswith(_TAG_PREFIX) else None)
        self._send(added)
        self._send(event("conversation.item.done", previous_item_id=added["previous_item_id"], item=item.wire))

    def _truncate(self, sent: Mapping[str, Any]) -> None:
        ends = (sent.get("content_index"), sent.get("audio_end_ms"))
        self._send(self._conversation.truncate(sent.get("item_id"), *ends))

    def _create_response(self, sent: Mapping[str, Any]) -> None:
        params = sent.get("response")
        self._responses.create(params)
        metadata = params.get("metadata") if isinstance(params, dict) else None
        self._note_tag((metadata or {}).get(_TAG_KEY))

    def _note_tag(self, tag: str | None) -> None:
        if tag is not None and tag not in self.tags:
            self.tags.append(tag)


def _refuse_web_rtc_only(_: Mapping[str, Any]) -> None:
    message = "output_audio_buffer.clear is only supported for WebRTC and SIP connections."
    raise Refusal(Code.INVALID_VALUE, message, "type")


def parse_failure() -> Event:
    """Return the answer to a message that is no JSON."""
    return Refusal(Code.INVALID_JSON, "We could not parse the JSON body of your event.").event(None)
